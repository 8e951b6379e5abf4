"""Draw the pictures of docs/how-it-works.md as SVG: boxes and arrows that adapt to a dark screen by themselves.

python scripts/draw_pictures.py
"""

from html import escape
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
STYLE = """
  .page { fill: #ffffff; } .box { fill: #eef0fb; stroke: #4051b5; stroke-width: 1.5; }
  .disk { fill: #fdf3dc; stroke: #b5832a; stroke-width: 1.5; }
  .arrow { stroke: #555; stroke-width: 1.5; fill: none; marker-end: url(#tip); } .tip { fill: #555; }
  text { font: 14px system-ui, sans-serif; fill: #1b1b1f; text-anchor: middle; } .name { font-weight: 600; }
  .note { font-size: 12px; fill: #555; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1e2129; } .box { fill: #2b3152; stroke: #8c9eff; } .disk { fill: #453a22; stroke: #e0b35c; }
    .arrow { stroke: #b9bccb; } .tip { fill: #b9bccb; } text { fill: #eceef6; } .note { fill: #b9bccb; }
  }
"""
TIP = (
    '<marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
    '<path class="tip" d="M0 0 L9 4 L0 8 z"/></marker>'
)


def box(x: int, y: int, width: int, name: str, *notes: str, kind: str = "box") -> str:
    """A box 40 pixels high and 18 for each note; ``x`` and ``y`` are its upper left corner."""
    middle = x + width // 2
    lines = [f'<text class="name" x="{middle}" y="{y + 25}">{escape(name)}</text>']
    lines += [
        f'<text class="note" x="{middle}" y="{y + 43 + 18 * row}">{escape(note)}</text>'
        for row, note in enumerate(notes)
    ]
    height = 40 + 18 * len(notes)
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>' + "".join(lines)


def arrow(*points: tuple[int, int]) -> str:
    """A line through the points, with a tip at the last one."""
    return f'<path class="arrow" d="M{" L".join(f"{x} {y}" for x, y in points)}"/>'


def note(x: int, y: int, text: str) -> str:
    return f'<text class="note" x="{x}" y="{y}">{escape(text)}</text>'


def picture(width: int, height: int, title: str, *parts: str) -> str:
    """A whole SVG file; ``title`` is read aloud."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    page = f'<rect class="page" width="{width}" height="{height}" rx="10"/>'
    return "\n".join(
        [head, f"<title>{escape(title)}</title><style>{STYLE}</style><defs>{TIP}</defs>", page, *parts, "</svg>\n"]
    )


def road() -> str:
    """From the experiment file to the report, and which split each stage sees."""
    return picture(
        860,
        262,
        "An experiment file is checked, searched, chosen from, retrained and reported; the test split comes last.",
        box(20, 30, 130, "experiment", "one TOML file", kind="disk"),
        arrow((150, 59), (185, 59)),
        box(185, 30, 140, "search", "every study", "as many trials"),
        arrow((325, 59), (360, 59)),
        box(360, 30, 140, "choice", "the 3 best, on", "another split"),
        arrow((500, 59), (535, 59)),
        box(535, 30, 140, "retraining", "each winner,", "over the seeds"),
        arrow((675, 59), (710, 59)),
        box(710, 30, 130, "report", "answer, tables"),
        box(185, 170, 315, "training and validation split", "all that search and choice see", kind="disk"),
        arrow((255, 170), (255, 106)),
        arrow((430, 170), (430, 106)),
        box(535, 170, 140, "test split", "once a model", kind="disk"),
        arrow((605, 170), (605, 106)),
        note(697, 145, "the ledger's line first"),
    )


def house() -> str:
    """Who does the work and who holds the truth."""
    return picture(
        860,
        330,
        "The driver hands trials to Ray's workers; studies and run folder hold the truth; observers only listen.",
        box(320, 20, 220, "driver", "draws, hands out, records"),
        box(40, 135, 200, "Optuna studies", "journal or database", "the only truth", kind="disk"),
        arrow((320, 60), (140, 60), (140, 135)),
        note(220, 50, "first"),
        box(320, 135, 220, "workers of Ray", "one training each", "any machine, any number"),
        arrow((430, 78), (430, 135)),
        box(620, 135, 200, "observers", "terminal, summary.json,", "TensorBoard, yours"),
        arrow((540, 60), (720, 60), (720, 135)),
        note(640, 50, "after"),
        box(320, 250, 220, "run folder", "states, results, ledger", kind="disk"),
        arrow((430, 211), (430, 250)),
        note(490, 236, "each epoch"),
        arrow((320, 279), (140, 279), (140, 211)),
        note(230, 300, "what is lost comes back"),
    )


PICTURES = {"road.svg": road, "house.svg": house}


def main() -> None:
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
