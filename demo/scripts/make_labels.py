"""Writes the names of the 1000 ImageNet classes, one a line, in the order of
their indices, as torchvision lists them."""

import argparse
import ast
from importlib import metadata


def categories():
    """Reads the list from torchvision's source, since importing it asks for PyTorch."""
    (source,) = (f for f in metadata.files("torchvision") if str(f) == "torchvision/models/_meta.py")
    for statement in ast.parse(source.read_text()).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "_IMAGENET_CATEGORIES":
            return ast.literal_eval(statement.value)
    raise LookupError(f"{source}: no _IMAGENET_CATEGORIES")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="the text file to write")
    arguments = parser.parse_args()
    names = categories()
    if len(names) != 1000 or len(set(names)) != 1000:
        raise ValueError(f"{len(names)} names, {len(set(names))} different; wanted 1000")
    with open(arguments.output, "w", encoding="utf-8") as file:
        file.writelines(name + "\n" for name in names)


if __name__ == "__main__":
    main()
