"""Figures over time: the best validation score so far, and the learning curves of the winners."""

from bisect import bisect_right
from statistics import mean

from cotuning_tune.report.figures.chart import ALL, Axis, Figure, Series, Views, by_method, by_view
from cotuning_tune.report.results import StudyResult, metric_of_all
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import read_rows

GRID = 60
Curve = tuple[list[float], list[float]]


def _ended(study: StudyResult) -> list[tuple[float, float | None]]:
    """Hours and score of each ended trial; stopped trials have none, unless none ran to its end."""
    counted = "COMPLETE" if study.count("COMPLETE") else "PRUNED"
    ended = [t for t in study.trials if t["state"] in ("COMPLETE", "PRUNED", "FAIL")]
    return [(t["seconds"] / 3600, t["value"] if t["state"] == counted else None) for t in ended]


def best_curve(study: StudyResult, *, hours: bool) -> Curve:
    """Trials or hours spent, and the best score so far: each rise, and the end of the search."""
    spent, xs, ys, oriented = 0.0, list[float](), list[float](), study.metric.oriented
    for cost, value in _ended(study):
        spent += cost if hours else 1
        if value is not None and (not ys or oriented(value) > oriented(ys[-1])):
            xs.append(spent)
            ys.append(value)
    if xs and xs[-1] < spent:
        xs.append(spent)
        ys.append(ys[-1])
    return xs, ys


def mean_curve(curves: list[Curve], grid: list[float]) -> Curve:
    """The mean of step curves at the grid's points: from where every curve has begun to the longest one's end."""
    if not curves or not all(xs for xs, _ in curves):
        return [], []
    start, stop = max(xs[0] for xs, _ in curves), max(xs[-1] for xs, _ in curves)
    kept = [x for x in grid if start <= x <= stop]
    return kept, [mean(ys[bisect_right(xs, x) - 1] for xs, ys in curves) for x in kept]


def _grid(curves: list[Curve], *, hours: bool) -> list[float]:
    """From the first best to the end of the longest search: every trial, or equal steps of hours."""
    last = max((xs[-1] for xs, _ in curves if xs), default=0.0)
    if not hours:
        return [float(n) for n in range(1, round(last) + 1)]
    first = min((xs[0] for xs, _ in curves if xs), default=0.0)
    return [first + (last - first) * n / GRID for n in range(GRID + 1)]


def _mean_over_studies(studies: list[StudyResult], *, hours: bool) -> list[Series]:
    curves = {m: [best_curve(c, hours=hours) for c in mine] for m, mine in by_method(studies).items()}
    grid = _grid([curve for mine in curves.values() for curve in mine], hours=hours)
    ends = [x for mine in curves.values() for xs, _ in mine if xs for x in (xs[0], xs[-1])]
    points = sorted({*grid, *ends})
    return [Series(method, *mean_curve(mine, points)) for method, mine in curves.items()]


def best_figure(studies: list[StudyResult], device: str, *, hours: bool) -> Figure:
    """Best validation score so far against trials, or against hours of a trial or a GPU."""
    views: Views = {
        view: [Series(study.method, *best_curve(study, hours=hours)) for study in mine]
        for view, mine in by_view(studies).items()
    }
    spent, metric = f"{device}-hours" if hours else "trials", metric_of_all(studies)
    return Figure(
        name=f"best_by_{'hours' if hours else 'trials'}",
        title=f"Best validation {metric.shown} so far, by {spent}",
        caption=f"Best {metric.shown} of a trial of full length after so many {spent} of a study, in the order of their"
        " numbers; trials that failed or were stopped count as spent. All studies: the mean over them.",
        kind="curves",
        x=Axis(f"{spent} spent on a study", whole=not hours),
        y=Axis(f"validation {metric.label}"),
        views={ALL: _mean_over_studies(studies, hours=hours), **views},
        steps=True,
    )


def _seed_curves(run: RunDir, study: StudyResult) -> list[list[float]]:
    """The validation scores by epoch of each retrained seed."""
    folder = run.study(study.name)
    found = [read_rows(folder.retrain(int(seed["seed"])).metrics) for seed in study.seeds]
    return [[row["val_score"] for row in rows] for rows in found if rows and "val_score" in rows[0]]


def _mean_rows(curves: list[list[float]]) -> list[float]:
    """The mean of curves at every place that all of them have."""
    return [mean(values) for values in zip(*curves, strict=False)]


def learning_figure(run: RunDir, studies: list[StudyResult]) -> Figure:
    """Validation score by epoch of the chosen configurations' retraining, mean over the seeds."""
    metric = metric_of_all(studies)
    means = {study.name: _mean_rows(_seed_curves(run, study)) for study in studies}

    def series(method: str, curve: list[float]) -> Series:
        return Series(method, [float(n) for n in range(1, len(curve) + 1)], curve)

    views: Views = {
        view: [series(study.method, means[study.name]) for study in mine] for view, mine in by_view(studies).items()
    }
    every = [
        series(method, _mean_rows([curve for study in mine if (curve := means[study.name])]))
        for method, mine in by_method(studies).items()
    ]
    return Figure(
        name="learning_curves",
        title="Learning curves of the chosen configurations",
        caption=f"Validation {metric.shown} in the retraining, mean over the seeds. All studies: the mean over them, as"
        " far as the shortest goes.",
        kind="curves",
        x=Axis("epoch (or interval of iterations)", whole=True),
        y=Axis(f"validation {metric.label}"),
        views={ALL: every, **views},
    )
