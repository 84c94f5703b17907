"""Makes the demo's video: a camera that pans and zooms over the photographs
and dissolves from one to the next, so that the label changes. Needs ffmpeg."""

import argparse
import pathlib
import subprocess
from typing import NamedTuple

import cv2
import numpy as np

WIDTH, HEIGHT, FPS = 640, 480, 25
SHOT_SECONDS, DISSOLVE_SECONDS = 5.0, 0.8


class View(NamedTuple):
    """A 4:3 part of a photograph, in its pixels."""

    left: float
    top: float
    height: float


class Shot(NamedTuple):
    photo: str
    start: View
    end: View


SHOTS = [
    Shot("coffee.png", View(30, 0, 399), View(200, 0, 280)),
    Shot("camera.png", View(8, 96, 370), View(160, 170, 250)),
    Shot("chelsea.png", View(131, 40, 240), View(158, 120, 180)),
    Shot("china.jpg", View(60, 0, 270), View(0, 0, 298)),
]


def render(photo, view):
    """Returns the view of a photograph as a frame of the video."""
    scale = HEIGHT / view.height
    matrix = np.float64([[scale, 0, -view.left * scale], [0, scale, -view.top * scale]])
    return cv2.warpAffine(photo, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def play(photo, shot):
    """Returns the frames of one shot; its motion starts and ends softly."""
    count = round(SHOT_SECONDS * FPS)
    start, end = np.float64(shot.start), np.float64(shot.end)
    for t in np.linspace(0, 1, count):
        ease = t * t * (3 - 2 * t)
        yield render(photo, View(*(start + (end - start) * ease)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=pathlib.Path, help="the folder of the photographs")
    parser.add_argument("output", help="the .mp4 file to write")
    arguments = parser.parse_args()

    encoder = subprocess.Popen(
        ["ffmpeg", "-y", "-loglevel", "error",
         "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-",
         "-c:v", "libx264", "-preset", "slow", "-crf", "25", "-pix_fmt", "yuv420p", "-threads", "1",
         "-movflags", "+faststart", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact",
         arguments.output],
        stdin=subprocess.PIPE)
    overlap = round(DISSOLVE_SECONDS * FPS)
    tail = []
    for shot in SHOTS:
        frames = list(play(cv2.imread(str(arguments.photos / shot.photo)), shot))
        for i, before in enumerate(tail):
            share = (i + 1) / (overlap + 1)
            frames[i] = cv2.addWeighted(before, 1 - share, frames[i], share, 0)
        tail = frames[-overlap:]
        for frame in frames[:-overlap]:
            encoder.stdin.write(frame.tobytes())
    for frame in tail:
        encoder.stdin.write(frame.tobytes())
    encoder.stdin.close()
    if encoder.wait() != 0:
        raise SystemExit("ffmpeg failed")


if __name__ == "__main__":
    main()
