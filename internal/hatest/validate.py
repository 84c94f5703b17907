"""Has Home Assistant's own code look at what is published for it.

In: {"messages": {topic: payload, ...}, "templates": [{"template", "payload"}, ...]};
out: {"taken": ["PLATFORM ID", ...], "rendered": [text, ...]}.
"""

import asyncio
import json
import sys
import tempfile

from homeassistant import core
from homeassistant.components.mqtt import binary_sensor, discovery, schemas, sensor, update
from homeassistant.helpers import template

PLATFORMS = {"binary_sensor": binary_sensor, "sensor": sensor, "update": update}


def take(topic, payload):
    match = discovery.TOPIC_MATCHER.fullmatch(topic.removeprefix("homeassistant/"))
    if not match or match["component"] != "device":
        sys.exit(f"{topic} is no topic of device discovery")
    message = discovery.MQTTDiscoveryPayload(json.loads(payload))
    discovery._replace_all_abbreviations(message)
    message = schemas.DEVICE_DISCOVERY_SCHEMA(message)
    if hasattr(schemas, "validate_device_discovery_components"):
        schemas.validate_device_discovery_components(message)
    for name, config in message["components"].items():
        platform = config.pop("platform")
        yield f"{platform} {name}"
        if not config:
            continue  # it is removed
        config = discovery.MQTTDiscoveryPayload(config)
        config["device"], config["origin"] = message["device"], message["origin"]
        discovery._merge_common_device_options(config, message)
        taken = PLATFORMS[platform].DISCOVERY_SCHEMA(dict(config))
        if ignored := set(config) - set(taken):
            sys.exit(f"{topic}: {name}: {sorted(ignored)} are ignored")


async def main(given):
    with tempfile.TemporaryDirectory() as folder:
        hass = core.HomeAssistant(folder)
        taken = [name for message in given["messages"].items() for name in take(*message)]
        rendered = [
            template.Template(t["template"], hass).async_render_with_possible_json_value(t["payload"]).strip()
            for t in given["templates"]
        ]
        json.dump({"taken": taken, "rendered": rendered}, sys.stdout)


asyncio.run(main(json.load(sys.stdin)))
