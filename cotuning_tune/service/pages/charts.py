"""Charts as SVG, drawn on the server: a curve, points by trial, and parallel coordinates. Colours are the style's."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, isfinite, log10

from markupsafe import Markup

from cotuning_tune.scores import Metric
from cotuning_tune.service.pages.folders import Trial
from cotuning_tune.service.pages.words import element, number, trial_state

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 40
AXIS, PARALLEL = 104, 230  # pixels between two parallel axes, and of their height
GRADES = 5  # colours of lines from worst to best
MOST = 2000  # trials that are drawn
LOG_FROM = 30.0  # largest over smallest value from which an axis is logarithmic
Scale = Callable[[float], float]


def _svg(label: str, width: int, height: int, parts: Sequence[Markup]) -> Markup:
    head = '<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
    return element(head, width, height, width, height, label) + Markup("").join(parts) + Markup("</svg>")


def _text(x: float, y: float, text: object, anchor: str = "middle", name: str = "") -> Markup:
    form = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>'
    return element(form, x, y, anchor, name, text)


def _rule(x1: float, y1: float, x2: float, y2: float, name: str = "rule") -> Markup:
    form = '<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
    return element(form, name, x1, y1, x2, y2)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two others, at most so many and one more.

    >>> ticks(0.0, 10.0, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [round(n * step, 12) for n in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _frame(xs: Sequence[float], ys: Sequence[float], x: str, y: str) -> tuple[list[Markup], Scale, Scale]:
    """Axes with their labels around points, and where a value lies on each."""
    low, high = min(ys), max(ys)
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    across = _scale(min(xs), max(xs), LEFT + 8, WIDTH - RIGHT - 8)
    up = _scale(low - pad, high + pad, HEIGHT - BOTTOM, TOP)
    floor_y = HEIGHT - BOTTOM
    parts = [_rule(LEFT, floor_y, WIDTH - RIGHT, floor_y, "axis")]
    for tick in ticks(low - pad, high + pad):
        parts += [_rule(LEFT, up(tick), WIDTH - RIGHT, up(tick)), _text(LEFT - 6, up(tick) + 4, number(tick), "end")]
    for tick in ticks(min(xs), max(xs)):
        if tick == int(tick):
            parts.append(_text(across(tick), floor_y + 16, int(tick)))
    parts += [_text((LEFT + WIDTH) / 2, HEIGHT - 6, x, name="label"), _text(LEFT, TOP - 2, y, "start", "label")]
    return parts, across, up


def curve(points: Sequence[tuple[float, float]], x: str, y: str) -> Markup:
    """A line through points (x, y); '' of none. ``x``, ``y``: the axes' labels, with their units."""
    points = [(a, b) for a, b in points if isfinite(a) and isfinite(b)]
    if not points:
        return Markup("")
    parts, across, up = _frame([a for a, _ in points], [b for _, b in points], x, y)
    path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
    parts.append(element('<polyline class="line s1" points="{}"/>', path))
    for a, b in points[:MOST]:
        dot = '<circle class="mark s1" cx="{:.1f}" cy="{:.1f}" r="3"><title>{} {}: {}</title></circle>'
        parts.append(element(dot, across(a), up(b), x, number(a), number(b)))
    return _svg(f"{y} by {x}", WIDTH, HEIGHT, parts)


def _scored(trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
    found = [(one, one.score) for one in trials if one.score is not None and isfinite(one.score)]
    return found[-MOST:]


def points(trials: Sequence[Trial], metric: Metric, address: str, best: Trial | None) -> Markup:
    """Validation score by trial, each a link below ``address``; '' where no trial has a score."""
    scored = _scored(trials)
    if not scored:
        return Markup("")
    y = f"validation {metric.label}"
    parts, across, up = _frame([one.number for one, _ in scored], [score for _, score in scored], "trial", y)
    dot = (
        '<a href="{}/{}"><circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>trial {}, {}: {}{}</title>'
        "</circle></a>"
    )
    for one, score in scored:
        first, name = one == best, f"trial-{one.state.lower()}"
        shown = metric.text(score), metric.unit
        place = across(one.number), up(score), 6 if first else 4
        name += " best" if first else ""
        parts.append(element(dot, address, one.number, name, *place, one.number, trial_state(one.state), *shown))
    return _svg(f"{y} by trial", WIDTH, HEIGHT, parts)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _axis(values: Sequence[object], top: float, bottom: float) -> tuple[Callable[[object], float], list[str]]:
    """Where each value lies on an upright axis, and the words at its lower and upper end, or all of its options."""
    if not all(_is_number(value) and isfinite(float(str(value))) for value in values):
        options = sorted({str(value) for value in values})
        along = _scale(0, max(len(options) - 1, 1), bottom, top)
        return lambda value: along(options.index(str(value))), options
    known = [float(str(value)) for value in values]
    low, high = min(known), max(known)
    logarithmic = low > 0 and high / low >= LOG_FROM
    turn: Scale = log10 if logarithmic else float
    along = _scale(turn(low), turn(high), bottom, top)
    if low == high:
        return lambda value: (top + bottom) / 2, [number(low)]
    return lambda value: along(turn(float(str(value)))), [number(low), number(high)]


def _grade(score: float, ordered: Sequence[float]) -> int:
    below = sum(other < score for other in ordered)
    return min(GRADES - 1, GRADES * below // max(len(ordered), 1))


def parallel(trials: Sequence[Trial], metric: Metric, best: Trial | None) -> Markup:
    """A line per trial through what was searched and its validation score; '' of fewer than two trials with both."""
    scored = [(one, score) for one, score in _scored(trials) if one.values and one.state != "RUNNING"]
    shared = set.intersection(*(set(one.values) for one, _ in scored)) if scored else set[str]()
    names = [name for name in (scored[0][0].values if scored else ()) if name in shared]
    if len(scored) < 2 or not names:
        return Markup("")
    columns: Mapping[str, list[object]] = {name: [one.values[name] for one, _ in scored] for name in names}
    columns = {**columns, metric.label: [score for _, score in scored]}
    top, bottom, parts = 56, 56 + PARALLEL, list[Markup]()
    placed = []
    for column, (name, values) in enumerate(columns.items()):
        x = AXIS / 2 + column * AXIS
        place, words = _axis(values, top, bottom)
        placed.append([f"{x:.1f},{place(value):.1f}" for value in values])
        parts += [_rule(x, top, x, bottom, "axis"), *_titles(x, name, column)]
        parts += _ends(x, words, top, bottom, "end" if column == len(columns) - 1 else "start")
    ordered = sorted(metric.oriented(score) for _, score in scored)
    for row, (one, score) in enumerate(scored):
        path = " ".join(places[row] for places in placed)
        grade = "best" if one == best else f"grade{_grade(metric.oriented(score), ordered)}"
        line = '<polyline class="thread {}" points="{}"><title>trial {}: {}{}</title></polyline>'
        parts.append(element(line, grade, path, one.number, metric.text(score), metric.unit))
    label = f"what was searched, and validation {metric.label}, a line per trial"
    return _svg(label, AXIS * len(columns), bottom + 24, parts)


def _titles(x: float, name: str, column: int) -> list[Markup]:
    """An axis's name, every second one higher up so that neighbours do not overlap."""
    shown = name if len(name) <= 26 else f"{name[:25]}…"
    return [_text(x, 14 if column % 2 else 32, shown, name="label")]


def _ends(x: float, words: Sequence[str], top: float, bottom: float, anchor: str) -> list[Markup]:
    """What stands at an axis, to its right; of the last one to its left, where there is room."""
    beside = x + 5 if anchor == "start" else x - 5
    if len(words) == 1:
        return [_text(beside, (top + bottom) / 2 - 4, words[0][:14], anchor)]
    along = _scale(0, len(words) - 1, bottom, top)
    step = max(1, ceil(len(words) / 8))
    return [_text(beside, along(n) - 4, words[n][:14], anchor) for n in range(0, len(words), step)]
