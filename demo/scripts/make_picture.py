"""Draws what a terminal showed, with its colours, as an SVG: make_picture.py TITLE <TEXT >SVG"""

import os
import sys

from rich.console import Console
from rich.text import Text

COLUMNS = 116

with open(os.devnull, "w") as nowhere:
    console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
    console.print(Text.from_ansi(sys.stdin.read().strip("\n")))
    sys.stdout.write(console.export_svg(title=sys.argv[1]))
