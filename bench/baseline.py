"""What one would write in Python instead of sightd: OpenCV decodes a video and
scales the frames, ONNX Runtime classifies them, paho publishes each change of
the label. It runs the very engine that sightd has stored for the demo's model,
with the options that sightd uses, and prints how fast that went as JSON.
"""

import argparse
import json
import math
import resource
import time

import cv2
import numpy
import onnxruntime
import paho.mqtt.client

import machine

CROP = 0.875  # demo/lite0/model.yaml
MIN_SCORE = 0.2
WARM = 1.0  # seconds before the measuring


def session(engine, threads):
    """Opens a stored engine as package ort does it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if machine.saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(engine, options, providers=["CPUExecutionProvider"])


def frames(path):
    """Yields a video's frames again and again."""
    while True:
        video = cv2.VideoCapture(path)
        if not video.isOpened():
            raise SystemExit(f"{path}: no video that OpenCV reads")
        while True:
            ok, frame = video.read()
            if not ok:
                break
            yield frame
        video.release()


def prepare(frame, width, height):
    """Returns the middle of a frame as 1×height×width×3 bytes, RGB."""
    h, w = frame.shape[:2]
    crop_width = math.floor(min(w, h * width / height) * CROP + 0.5)
    crop_height = math.floor(min(h, w * height / width) * CROP + 0.5)
    left, top = (w - crop_width) // 2, (h - crop_height) // 2
    middle = frame[top:top + crop_height, left:left + crop_width]
    scaled = cv2.resize(middle, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB)[numpy.newaxis]


def connect(port):
    client = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


class Publisher:
    """Publishes changes of the label."""

    def __init__(self, client, labels):
        self.client, self.labels = client, labels
        self.label, self.changes = None, 0

    def take(self, scores):
        best = int(scores.argmax())
        label = self.labels[best] if scores[best] >= MIN_SCORE else "none"
        if label == self.label:
            return
        self.label, self.changes = label, self.changes + 1
        self.client.publish("baseline/video/label", label, qos=1, retain=True)
        event = {"label": label, "score": float(scores[best]), "time": time.time()}
        self.client.publish("baseline/video/events", json.dumps(event), qos=1)


def measure(arguments):
    with open(arguments.labels, encoding="utf-8") as file:
        labels = file.read().splitlines()
    engine = session(arguments.engine, arguments.threads)
    (image,) = engine.get_inputs()
    _, height, width, _ = image.shape
    publisher = Publisher(connect(arguments.port), labels)
    until, count, start, cpu, changes = time.monotonic() + WARM, 0, None, 0.0, 0
    for frame in frames(arguments.video):
        (scores,) = engine.run(None, {image.name: prepare(frame, width, height)})
        publisher.take(scores.reshape(-1))
        count += 1
        now = time.monotonic()
        if now < until:
            continue
        if start is not None:
            break
        start, until, cpu, count = now, now + arguments.seconds, cpu_seconds(), 0
        changes = publisher.changes
    took = now - start
    return {
        "fps": count / took, "cpu_ms": 1000 * (cpu_seconds() - cpu) / count, "events": publisher.changes - changes,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("engine", help="KEY.engine in sightd's state directory")
    parser.add_argument("labels")
    parser.add_argument("--port", type=int, default=1883, help="the MQTT broker's, on this machine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
