"""Tables as Markdown and CSV."""

import csv
import io
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table with a title, a note below it, and text in every cell."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""

    def markdown(self) -> str:
        """Aligned, so that it reads well in a terminal too; first column left, the others right."""
        plain = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in self.rows]
        every = [self.header, *plain]
        widths = [max(2, *(len(row[c]) for row in every)) for c in range(len(self.header))]

        def line(row: list[str]) -> str:
            padded = [
                text.ljust(width) if c == 0 else text.rjust(width)
                for c, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            return "| " + " | ".join(padded) + " |"

        rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join([line(self.header), "| " + " | ".join(rules) + " |", *map(line, plain)])

    def csv(self) -> str:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([self.header, *self.rows])
        return buffer.getvalue()
