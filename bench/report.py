"""Figures beside their targets, as Markdown."""

import dataclasses

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"


@dataclasses.dataclass
class Section:
    """A table: its cells are strings, its notes paragraphs behind it."""
    title: str
    head: list
    rows: list
    notes: list = dataclasses.field(default_factory=list)

    def markdown(self):
        lines = [f"### {self.title}", "", line(self.head), line(["---"] + ["--:"] * (len(self.head) - 1))]
        lines += [line(row) for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def line(cells):
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def at_least(value, target, text):
    return f"at least {text}: {'ok' if value >= target else '**MISSED**'}"


def at_most(value, target, text):
    return f"at most {text}: {'ok' if value <= target else '**MISSED**'}"


def below(value, target, text):
    return f"under {text}: {'ok' if value < target else '**MISSED**'}"


def percent(share, digits=1):
    return f"{100 * share:.{digits}f} %"


def replace(path, text):
    """Puts the text between the marks of the file at path."""
    old = path.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no section between {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
