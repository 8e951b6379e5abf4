"""The report as one page that opens from the disk: styles, script and numbers stand inside it.

Tables and remarks are plain HTML; the figures are drawn by the page's script, for the chosen study.
"""

import json
import re
from dataclasses import asdict
from html import escape
from importlib import resources
from string import Template
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.report.figures import Figure, Series
from cotuning_tune.report.results import StudyResult, methods_of, settings_of

SCRIPTS = ("axes.js", "charts.js", "page.js")
WARNING = re.compile(r"[A-Z]{4,}")
NUMBER = re.compile(r"[*<>~]*\s*[-+−]?\d|[-–]?$")
LONG = 40
WARNINGS_ON_TOP = 6
BOLD = re.compile(r"\*\*(.+?)\*\*")


def _asset(name: str) -> str:
    return (resources.files("cotuning_tune.report") / "assets" / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """HTML of a table's or remark's text; ``**bold**`` as Markdown has it."""
    return BOLD.sub(r"<strong>\1</strong>", escape(text))


def _kinds(table: Table) -> list[str]:
    """The class of each column: text or numbers, and whether its text is so long that it must wrap."""
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.header)
    kinds = []
    for column in columns:
        number = all(NUMBER.match(text) for text in column)
        kinds.append("number" if number else "text wide" if max(map(len, column), default=0) > LONG else "text")
    return kinds


def _row(table: Table, number: int, kinds: list[str]) -> str:
    texts = [_text(text) for text in table.rows[number]]
    texts = [f"<strong>{t}</strong>" if (number, c) in table.bold else t for c, t in enumerate(texts)]
    tds = [f'<td class="{kind}">{text}</td>' for text, kind in zip(texts[1:], kinds[1:], strict=True)]
    return f'<tr><th scope="row">{texts[0]}</th>{"".join(tds)}</tr>'


def table_html(table: Table) -> str:
    """A section with the table in a box that scrolls by itself; every column can be sorted."""
    kinds = _kinds(table)
    head = "".join(
        f'<th scope="col" class="{kind}" aria-sort="none"><button type="button">{_text(name)}</button></th>'
        for name, kind in zip(table.header, kinds, strict=True)
    )
    body = "\n".join(_row(table, number, kinds) for number in range(len(table.rows)))
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return (
        f'<section class="table" id="table-{table.name}" aria-labelledby="title-{table.name}">'
        f'<h2 id="title-{table.name}">{escape(table.title)}</h2>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="title-{table.name}">'
        f'<table><caption class="hidden">{escape(table.title)}; column heads sort</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>{note}</section>"
    )


def _figure_html(figure: Figure) -> str:
    return (
        f'<figure id="figure-{figure.name}" data-name="{figure.name}"><h3>{escape(figure.title)}</h3>'
        '<div class="choice"></div><div class="plot"></div>'
        f'<figcaption>{escape(figure.caption)}</figcaption><div class="data"></div></figure>'
    )


def _figures_html(figures: list[Figure]) -> str:
    drawn = "\n".join(map(_figure_html, figures))
    return Template(_asset("figures.html")).substitute(figures=drawn)


def _remarks_html(remarks: list[str]) -> str:
    items = [
        f'<li class="{"warning" if WARNING.match(remark) else "plain"}">{_text(remark)}</li>' for remark in remarks
    ]
    return "\n".join(items)


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


def page_data(figures: list[Figure], studies: list[StudyResult]) -> str:
    """JSON of all that the script draws, safe inside a script element."""
    methods, views = methods_of(studies), settings_of(studies)
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
    text = json.dumps({"methods": methods, "views": views, "figures": drawn}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _warnings_html(remarks: list[str]) -> str:
    """The first warnings, for the page's top; where the others are."""
    warnings = [remark for remark in remarks if WARNING.match(remark)]
    more = len(warnings) - WARNINGS_ON_TOP
    shown = _remarks_html(warnings[:WARNINGS_ON_TOP])
    link = f'<li class="warning"><a href="#remarks">{more} more warnings among the remarks</a></li>'
    return f"{shown}\n{link}" if more > 0 else shown


def page_html(
    title: str, tables: list[Table], remarks: list[str], figures: list[Figure], studies: list[StudyResult]
) -> str:
    """The whole page; ``studies``: those that the figures show."""
    links = [(f"#table-{table.name}", table.title) for table in tables[:1]]
    links += [("#figures", "Figures")] if figures else []
    links += [*((f"#table-{table.name}", table.title) for table in tables[1:])]
    links.append(("#remarks", "Remarks"))
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        style=_asset("page.css"),
        script="\n".join(map(_asset, SCRIPTS)),
        links="".join(f'<li><a href="{place}">{escape(name)}</a></li>' for place, name in links),
        warnings=_warnings_html(remarks),
        main="\n".join(map(table_html, tables[:1])),
        figures=_figures_html(figures) if figures else "",
        tables="\n".join(map(table_html, tables[1:])),
        remarks=_remarks_html(remarks),
        data=page_data(figures, studies),
    )
