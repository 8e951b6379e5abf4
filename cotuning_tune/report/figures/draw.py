"""Figures as PNG and SVG files, drawn by matplotlib from the same numbers as the page's."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cotuning_tune.base.files import write_bytes
from cotuning_tune.report.figures.chart import ALL, Figure, Series

COLOURS = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8a8d00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "*")
DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2), (4, 1), (1, 1), (8, 2, 2, 2, 2, 2), (10, 3), (3, 3, 1, 3))
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "cotuning_tune",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
NO_DATE: dict[str, dict[str, Any]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


def _shown_view(figure: Figure) -> tuple[Any, str]:
    """The view over all studies, or the only task's own; and the label of y."""
    others = [view for view in figure.views if view != ALL]
    if len(others) == 1:
        return figure.views[others[0]], figure.y.label
    return figure.views.get(ALL, []), figure.y_of_all or figure.y.label


def _linear_end(series: list[Series]) -> float:
    """Below this a logarithmic axis that holds a zero continues linearly."""
    return min((x for s in series for x in s.x if x > 0), default=1.0)


def _draw_series(axes: Any, figure: Figure, series: list[Series], order: list[str]) -> None:
    for one in series:
        style = order.index(one.method) % len(COLOURS)
        joined = figure.kind == "curves"
        axes.plot(
            one.x,
            one.y,
            color=COLOURS[style],
            marker=MARKERS[style],
            markersize=4,
            markevery=max(1, len(one.x) // 8) if joined else 1,
            linestyle=(0, DASHES[style]) if joined and DASHES[style] else "-" if joined else "none",
            drawstyle="steps-post" if figure.steps else "default",
            linewidth=1.5,
            label=one.method,
        )
    if figure.x.whole:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if figure.x.log:
        axes.set_xscale("symlog", linthresh=_linear_end(series))
    if figure.diagonal:
        ends = [value for one in series for value in (*one.x, *one.y)]
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="#888888", linestyle="--", linewidth=1)


def _draw_shares(axes: Any, rows: list[dict[str, Any]], order: list[str]) -> None:
    names = [row["parameter"] for row in rows]
    for method in order:
        found = [(row["shares"][method], place) for place, row in enumerate(rows) if method in row["shares"]]
        style = order.index(method) % len(COLOURS)
        xs, ys = [x for x, _ in found], [y for _, y in found]
        axes.plot(xs, ys, color=COLOURS[style], marker=MARKERS[style], linestyle="none", label=method)
    axes.set_yticks(range(len(names)), names)
    axes.margins(y=0.3)


def _drawn(figure: Figure, order: list[str]) -> Any:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6.4, 4.0), layout="constrained")
    axes = canvas.add_subplot()
    view, label = _shown_view(figure)
    if figure.kind == "shares":
        _draw_shares(axes, view, order)
    else:
        _draw_series(axes, figure, view, order)
    axes.set(title=figure.title, xlabel=figure.x.label, ylabel=label)
    canvas.legend(loc="outside right upper", frameon=False)
    return canvas


def _has_points(figure: Figure) -> bool:
    view, _ = _shown_view(figure)
    if figure.kind == "shares":
        return bool(view)
    return figure.kind in ("curves", "points") and any(one.x for one in view)


def draw_files(figures: list[Figure], order: list[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of a PNG and an SVG file for each figure over all studies that has points.

    ``order``: the methods in the experiment's order. The same numbers give the same bytes.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        for figure in figures:
            if not _has_points(figure):
                continue
            canvas = _drawn(figure, order)
            for ending, metadata in NO_DATE.items():
                buffer = io.BytesIO()
                canvas.savefig(buffer, format=ending, dpi=150, metadata=metadata)
                yield f"{figure.name}.{ending}", buffer.getvalue()


def write_figures(folder: Path, figures: list[Figure], order: list[str]) -> list[str]:
    """Write ``draw_files`` into a folder, beside the tables; the names of the files."""
    names = []
    for name, content in draw_files(figures, order):
        write_bytes(folder / name, content)
        names.append(name)
    return names
