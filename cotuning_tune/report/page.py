"""The report as one page that opens from the disk: styles, script and numbers stand inside it.

Tables and remarks are plain HTML, written by the template ``assets/page.html``, which escapes all that it is given;
the figures are drawn by the page's script, for the chosen study.
"""

import re
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cotuning_tune.base.tables import Table
from cotuning_tune.report.answer import Answer
from cotuning_tune.report.figures import Figure, Series
from cotuning_tune.report.results import StudyResult, methods_of, settings_of

DETAILS = ("classes", "gap", "repeats_variance", "repeats_terms", "audit", "repeats_audit", "reproduce", "environment")
SCRIPTS = ("axes.js", "charts.js", "page.js")
WARNING = re.compile(r"[A-Z]{4,}")
NUMBER = re.compile(r"[*<>~]*\s*[-+−]?\d|[-–]?$")
LONG = 40
WARNINGS_ON_TOP = 6
BOLD = re.compile(r"\*\*(.+?)\*\*")
CODE = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
JSON = {"separators": (",", ":"), "allow_nan": False}


def _asset(name: str) -> Markup:
    text = (resources.files("cotuning_tune.report") / "assets" / name).read_text(encoding="utf-8")
    return Markup(text)  # nosec B704 # our own file


def _bold(text: str) -> Markup:
    """A table's or remark's text, escaped; ``**bold**`` as Markdown has it."""
    shown = BOLD.sub(r"<strong>\1</strong>", str(escape(text)))
    return Markup(shown)  # nosec B704 # escaped


def _sentence(text: str) -> Markup:
    """An answer or a remark: code as Markdown has it too, and no option of a command broken up."""
    shown = CODE.sub(r"<code>\1</code>", str(_bold(text)))
    shown = OPTION.sub(r'<span class="option">\g<0></span>', shown)
    return Markup(shown)  # nosec B704 # escaped


def _column_classes(table: Table) -> list[str]:
    """The class of each column: text or numbers, and whether its text is so long that it must wrap."""
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.header)
    classes = []
    for column in columns:
        number = all(NUMBER.match(text) for text in column)
        classes.append("number" if number else "text wide" if max(map(len, column), default=0) > LONG else "text")
    return classes


def _short(value: Any) -> Any:
    """Numbers with five digits: a drawing shows no more, and the page stays small."""
    if isinstance(value, float):
        rounded = float(f"{value:.5g}")
        return int(rounded) if rounded.is_integer() and abs(rounded) < 1e9 else rounded
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return [_short(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _plain(view: Any) -> Any:
    series = isinstance(view, list) and all(isinstance(one, Series) for one in view)
    return _short([asdict(one) for one in view] if series else view)


def _page_data(figures: list[Figure], studies: list[StudyResult]) -> dict[str, Any]:
    """All that the script draws."""
    drawn = [
        {
            "name": f.name,
            "title": f.title,
            "kind": f.kind,
            "x": asdict(f.x),
            "y": asdict(f.y),
            "yOfAll": f.y_of_all,
            "steps": f.steps,
            "diagonal": f.diagonal,
            "views": {name: _plain(view) for name, view in f.views.items()},
        }
        for f in figures
    ]
    return {"methods": methods_of(studies), "views": settings_of(studies), "figures": drawn}


def page_html(
    title: str,
    answer: Answer,
    tables: list[Table],
    remarks: list[str],
    figures: list[Figure],
    studies: list[StudyResult],
) -> str:
    """The whole page; ``answer``: its first lines and pictures, ``studies``: those that the figures show."""
    pages = Environment(
        loader=PackageLoader("cotuning_tune.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(bold=_bold, sentence=_sentence, column_classes=_column_classes)
    pages.tests.update(warning=WARNING.match)
    pages.policies["json.dumps_kwargs"] = JSON
    return pages.get_template("page.html").render(
        title=title,
        answer=answer,
        style=_asset("page.css"),
        script=Markup("\n").join(map(_asset, SCRIPTS)),
        tables=tables,
        details=DETAILS,
        remarks=remarks,
        warnings_on_top=WARNINGS_ON_TOP,
        figures=figures,
        data=_page_data(figures, studies),
    )
