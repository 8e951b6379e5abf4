"""Figures of the retrained models: validation against test score, and what a method learned of the classes."""

from statistics import mean
from typing import Any

from cotuning_tune.base.files import read_json
from cotuning_tune.report.figures.chart import ALL, Axis, Figure, Series, Views, by_method, by_view
from cotuning_tune.report.results import StudyResult, metric_of_all
from cotuning_tune.runs.folder import RunDir


def _seed_points(study: StudyResult) -> list[tuple[float, float]]:
    """Validation and test score of each seed that came to an end."""
    done = [seed for seed in study.seeds if seed["state"] == "COMPLETE" and seed.get("val_score") is not None]
    return [(seed["val_score"], seed["test_score"]) for seed in done]


def gap_figure(studies: list[StudyResult]) -> Figure:
    """Test against validation score: below the diagonal (of less is better, above), the choice was too hopeful."""
    metric = metric_of_all(studies)
    points = {study.name: _seed_points(study) for study in studies}
    every = []
    for method, mine in by_method(studies).items():
        found = [points[study.name] for study in mine if points[study.name]]
        every.append(Series.of(method, [(mean(x for x, _ in p), mean(y for _, y in p)) for p in found]))
    views: Views = {
        view: [Series.of(study.method, points[study.name]) for study in mine] for view, mine in by_view(studies).items()
    }
    return Figure(
        name="validation_test_gap",
        title=f"Validation and test {metric.shown}",
        caption="A point is a retrained seed. All studies: a point is a study, mean over its"
        f" seeds. {'Below' if metric.greater_is_better else 'Above'} the dashed line the test split was harder than the"
        " validation split.",
        kind="points",
        x=Axis(f"validation {metric.label}"),
        y=Axis(f"test {metric.label}"),
        views={ALL: every, **views},
        diagonal=True,
    )


def _related(run: RunDir, study: StudyResult) -> list[list[Any]]:
    """Rows of a target class, then pairs of a source class and its probability."""
    for seed in study.seeds:
        path = run.study(study.name).retrain(int(seed["seed"])).method
        if path.exists():
            related = read_json(path).get("related", [])
            return [[row["target"], *([s["name"], s["probability"]] for s in row["source"])] for row in related]
    return []


def relations_figure(run: RunDir, studies: list[StudyResult]) -> Figure:
    """For each target class the source classes that co-tuning takes it for, the likeliest first."""
    views: Views = {}
    for view, mine in by_view(studies).items():
        for study in mine:
            if related := _related(run, study):
                views[view] = related
    return Figure(
        name="relations",
        title="What co-tuning relates to what",
        caption="The five source classes with the greatest p(source class | target class), learned once before"
        " training. Names are ImageNet's where the source head has 1000 classes, sub-words where it is a"
        " vocabulary.",
        kind="relations",
        x=Axis("source class"),
        y=Axis("target class"),
        views=views,
    )
