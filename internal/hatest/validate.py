"""Has Home Assistant's own code validate messages of device discovery.

In: {topic: payload, ...}; out: ["PLATFORM ID", ...], the entities that it takes.
"""

import json
import sys

from homeassistant.components.mqtt import binary_sensor, discovery, schemas, sensor, update

PLATFORMS = {"binary_sensor": binary_sensor, "sensor": sensor, "update": update}

out = []
for topic, payload in json.load(sys.stdin).items():
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
        out.append(f"{platform} {name}")
        if not config:
            continue  # it is removed
        config = discovery.MQTTDiscoveryPayload(config)
        config["device"], config["origin"] = message["device"], message["origin"]
        discovery._merge_common_device_options(config, message)
        taken = PLATFORMS[platform].DISCOVERY_SCHEMA(dict(config))
        if ignored := set(config) - set(taken):
            sys.exit(f"{topic}: {name}: {sorted(ignored)} are ignored")
json.dump(out, sys.stdout)
