"""Copies the demo's photographs, unchanged, out of the packages that ship them."""

import argparse
import pathlib
import shutil
from importlib import metadata

PHOTOS = {
    "scikit-image": ["skimage/data/camera.png", "skimage/data/chelsea.png", "skimage/data/coffee.png",
                     "skimage/data/rocket.jpg"],
    "scikit-learn": ["sklearn/datasets/images/china.jpg"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=pathlib.Path, help="the folder to copy them to")
    arguments = parser.parse_args()
    for package, paths in PHOTOS.items():
        distribution = metadata.distribution(package)
        for path in paths:
            shutil.copyfile(distribution.locate_file(path), arguments.output / pathlib.Path(path).name)


if __name__ == "__main__":
    main()
