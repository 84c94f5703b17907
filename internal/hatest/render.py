"""Renders templates of Home Assistant with the payloads of their topics.

In: [{"template", "payload"}, ...]; out: [text, ...]. The environment is of the kind
that homeassistant/helpers/template has. What isn't defined is an error here.
"""

import json
import sys

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
out = []
for item in json.load(sys.stdin):
    variables = {"value": item["payload"]}
    try:
        variables["value_json"] = json.loads(item["payload"])
    except ValueError:
        pass
    try:
        out.append(environment.from_string(item["template"]).render(variables).strip())
    except Exception as e:
        sys.exit(f"{item['template']} with {item['payload']}: {e!r}")
json.dump(out, sys.stdout)
