"""Tables as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"±": r"$\pm$", "·": r"$\cdot$", "\n": " "},
}


UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """Bytes for people: ``850 kB``, ``4.3 GB``, in powers of 1000."""
    unit = 0
    while count >= 999.5 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 or count >= 10 else f"{count:.1f} {UNITS[unit]}"


def latex_text(text: str) -> str:
    """A text as LaTeX shows it: special signs escaped, minus signs before figures."""
    escaped = "".join(LATEX.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w.)}-])-(?=\d)", "$-$", escaped)


@dataclass(frozen=True)
class Table:
    """A table with a title, a note below it, and text in every cell; ``bold``: (row, column) of some."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    bold: frozenset[tuple[int, int]] = frozenset()

    def _marked(self, before: str, after: str, escape: Callable[[str], str]) -> list[list[str]]:
        return [
            [before + escape(t) + after if (r, c) in self.bold else escape(t) for c, t in enumerate(row)]
            for r, row in enumerate(self.rows)
        ]

    def markdown(self) -> str:
        """Aligned, so that it reads well in a terminal too; first column left, the others right."""
        plain = self._marked("**", "**", lambda text: text.replace("|", "\\|").replace("\n", " "))
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

    def latex(self) -> str:
        """A ``tabular`` for the package booktabs; title and note are comments above it."""
        comments = [f"% {line}" for line in (self.title, *self.note.splitlines()) if line]
        rows = [[latex_text(text) for text in self.header], *self._marked(r"\textbf{", "}", latex_text)]
        head, *body = [" & ".join(row) + r" \\" for row in rows]
        columns = "l" + "r" * (len(self.header) - 1)
        start = ["% \\usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        end = [r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*comments, *start, head, r"\midrule", *body, *end]) + "\n"
