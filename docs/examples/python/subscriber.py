#!/usr/bin/env python3
"""A subscriber of sightd that misses nothing and takes each event once.

    pip install paho-mqtt==2.2.0
    python3 subscriber.py --host broker --id my-subscriber
"""

import argparse
import json
import signal
import sqlite3

import paho.mqtt.client as mqtt


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--id", default="sightd-subscriber",
                        help="client id: one for each subscriber, the same at each start")
    parser.add_argument("--prefix", default="sightd", help="mqtt.prefix of the devices")
    parser.add_argument("--store", default="events.db", help="SQLite file for the events")
    return parser.parse_args()


def main():
    args = arguments()
    db = sqlite3.connect(args.store)
    # The id is the key, so the events are themselves the memory of what has come.
    db.execute("CREATE TABLE IF NOT EXISTS events"
               " (id TEXT PRIMARY KEY, device TEXT, camera TEXT, label TEXT, event TEXT)")

    def on_connect(client, userdata, flags, reason, properties):
        if reason.is_failure:
            print("refused:", reason, flush=True)
            return
        # At each connection: a broker that lost the session has lost these, too.
        client.subscribe([(args.prefix + topic, 1) for topic in
                          ("/+/+/events", "/+/status", "/+/+/status", "/+/+/classification/+")])

    # A message is acknowledged when this returns; an exception ends the program,
    # and what wasn't acknowledged comes again.
    def on_message(client, userdata, message):
        levels = message.topic.removeprefix(args.prefix + "/").split("/")
        if len(levels) == 3 and levels[2] == "events":
            event(levels[0], message)
        elif not message.payload:
            print("gone", "/".join(levels), flush=True)  # the camera or model was removed
        else:  # a state; while the device is offline the others may be out of date
            print("state", "/".join(levels), message.payload.decode(), flush=True)

    def event(device, message):
        try:
            found = json.loads(message.payload)
            row = (found["id"], device, found["data"]["camera"], found["data"]["label"],
                   message.payload.decode())
        except (ValueError, KeyError, TypeError) as error:
            print(f"{message.topic}: no event: {error!r}", flush=True)
            return
        with db:  # one transaction, on the disk when it ends
            is_new = db.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", row).rowcount
        if is_new:
            print("event", *row[:4], flush=True)

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=args.id,
                         clean_session=False)  # the broker keeps what comes while this is away
    client.on_connect, client.on_message = on_connect, on_message
    signal.signal(signal.SIGTERM, lambda *_: client.disconnect())
    client.connect_async(args.host, args.port)
    client.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    main()
