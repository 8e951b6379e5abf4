"""What the figures show is worked out from the run's files; checked with numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.files import write_json
from cotuning_tune.report import write_figures
from cotuning_tune.report.figures import ALL, Figure, build_figures
from cotuning_tune.report.figures.curves import best_curve, best_figure, mean_curve
from cotuning_tune.report.figures.draw import draw_files
from cotuning_tune.report.figures.weights import binned, importance_figure, read_space
from cotuning_tune.report.results import StudyResult, methods_of, read_studies
from cotuning_tune.runs.folder import RunDir
from tests.report.synthetic import METHODS, write_run


def trial(number: int, value: float | None, state: str = "COMPLETE", weight: float = 0.1) -> dict[str, Any]:
    return {"number": number, "state": state, "value": value, "seconds": 1800.0, "values": {"bss/weight": weight}}


def study(trials: list[dict[str, Any]], task: str = "birds", method: str = "bss") -> StudyResult:
    return StudyResult(task, 0.15, method, len(trials), trials, None, [], f"{task}-0.15-{method}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Two tasks at two rates with three methods."""
    return write_run(tmp_path_factory.mktemp("figures") / "made", methods=3, trials=12, files=False, selection="max")


@pytest.fixture(scope="module")
def figures(run: RunDir) -> dict[str, Figure]:
    return {figure.name: figure for figure in build_figures(run, read_studies(run))}


def test_best_so_far_by_hand() -> None:
    """Failed and stopped trials cost and give nothing; each rise is a point, and the end of the search."""
    trials = [trial(0, 60.0), trial(1, 50.0), trial(2, 90.0, "PRUNED"), trial(3, None, "FAIL"), trial(4, 70.0)]
    trials += [trial(5, 65.0), trial(6, None, "RUNNING")]
    assert best_curve(study(trials), hours=False) == ([1, 5, 6], [60.0, 70.0, 70.0])
    assert best_curve(study(trials), hours=True) == ([0.5, 2.5, 3.0], [60.0, 70.0, 70.0])


def test_a_study_of_stopped_trials_shows_them() -> None:
    """Where no trial ran to its end, the selection falls back on the stopped ones, and so does the curve."""
    trials = [trial(0, 60.0, "PRUNED"), trial(1, 50.0, "PRUNED")]
    assert best_curve(study(trials), hours=False) == ([1, 2], [60.0, 60.0])
    assert best_curve(study([trial(0, None, "FAIL")]), hours=False) == ([], [])


def test_mean_of_step_curves_by_hand() -> None:
    """The mean begins where every curve has begun, and holds a curve's last value to the longest one's end."""
    curves = [([1.0, 3.0], [10.0, 20.0]), ([2.0, 4.0], [30.0, 40.0])]
    assert mean_curve(curves, [1.0, 2.0, 3.0, 4.0, 5.0]) == ([2.0, 3.0, 4.0], [20.0, 25.0, 30.0])
    assert mean_curve([*curves, ([], [])], [1.0]) == ([], [])


def test_the_mean_over_studies_ends_at_the_mean_of_the_bests(run: RunDir) -> None:
    """By trials and by hours the last point of each method is the mean of its studies' selected accuracies."""
    studies = read_studies(run)
    for hours in (False, True):
        for series in best_figure(studies, "trial", hours=hours).views[ALL]:
            chosen = [c.selection["val_score"] for c in studies if c.method == series.method and c.selection]
            assert len(chosen) == 4
            assert series.y[-1] == pytest.approx(sum(chosen) / 4)
            assert series.y == sorted(series.y)


def test_weights_are_binned_by_hand() -> None:
    """Half decades of the weight, distances to the best of the same study; zero has a bin of its own."""
    first = study([trial(0, 60.0, weight=0.0), trial(1, 70.0, weight=0.11), trial(2, 66.0, weight=0.12)])
    second = study([trial(0, 90.0, weight=0.13), trial(1, 80.0, weight=0.0), trial(2, 10.0, "PRUNED", 0.13)])
    bins = binned([first, second])
    assert [weight for weight, _ in bins] == [0.0, pytest.approx(10**-0.75)]
    assert [distance for _, distance in bins] == [-10.0, pytest.approx(-4 / 3)]


def test_importance_is_the_mean_over_studies() -> None:
    """Methods share the row of their own weight; a study without shares counts nowhere."""
    shares = [{"optim/lr": 0.8, "bss/weight": 0.2}, {"optim/lr": 0.4, "bss/weight": 0.6}, {}]
    studies = [replace(study([]), importance=one) for one in shares]
    rows = importance_figure(studies).views[ALL]
    assert rows == [
        {"parameter": "optim/lr", "shares": {"bss": pytest.approx(0.6)}},
        {"parameter": "weight", "shares": {"bss": pytest.approx(0.4)}},
    ]


def test_every_view_has_every_method(figures: dict[str, Figure]) -> None:
    """Each task at each rate is a view, the mean over all of them another one."""
    views = ["birds 15 %", "birds 100 %", "cars 15 %", "cars 100 %"]
    for name in ("best_by_trials", "best_by_hours", "validation_test_gap", "learning_curves"):
        assert list(figures[name].views) == [ALL, *views]
        for series in figures[name].views.values():
            assert [one.method for one in series] == list(METHODS[:3])
            assert all(len(one.x) == len(one.y) > 0 for one in series)
    assert "relations" not in figures
    assert "importance" not in figures


def test_parallel_coordinates_have_ranges(run: RunDir, figures: dict[str, Figure]) -> None:
    """An axis has the range of the space file; a row is a trial's number, values and accuracy."""
    assert read_space(run)["delta/weight"]["log"] is True
    one = figures["parallel"].views["cars 15 %"][2]
    assert [axis["name"] for axis in one["axes"]] == ["optim/lr", "optim/head_lr_factor", "weight"]
    assert one["axes"][1]["options"] == [1.0, 10.0, 30.0]
    assert all(len(row) == 5 for row in one["rows"])
    assert one["chosen"] == one["rows"][-1][0]


def test_relations_are_read_from_the_retrained_method(run: RunDir) -> None:
    """What the method's summary says of the classes is a view of its study."""
    source = [{"name": "jay", "probability": 0.75}, {"name": "magpie", "probability": 0.25}]
    path = run.study("cars-0.15-delta").retrain(1).method
    write_json(path, {"related": [{"target": "bluebird", "source": source}]})
    relations = build_figures(run, read_studies(run))[-1]
    path.unlink()
    assert relations.views == {"cars 15 %": [["bluebird", ["jay", 0.75], ["magpie", 0.25]]]}


def test_files_are_drawn_alike_each_time(run: RunDir, figures: dict[str, Figure]) -> None:
    """Each figure over all studies is a PNG and an SVG file that names every method; again, the same bytes."""
    names = write_figures(run.report, list(figures.values()), methods_of(read_studies(run)))
    first = {name: (run.report / name).read_bytes() for name in names}
    stems = {"best_by_trials", "best_by_hours", "weight_sensitivity", "validation_test_gap", "learning_curves"}
    assert set(first) == {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}
    for name, content in first.items():
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert all(method in first["best_by_hours.svg"].decode() for method in METHODS[:3])
    again = dict(draw_files([figures["weight_sensitivity"]], list(METHODS[:3])))
    assert again.items() <= first.items()
    assert len(again) == 2


def test_a_run_without_retraining_draws_its_search(tmp_path: Path) -> None:
    """After ``search`` alone there are curves of the search, and no figure of retrained models."""
    made = write_run(tmp_path / "made", ["birds"], [1.0], methods=2, seeds=0, trials=4, files=False)
    studies = read_studies(made)
    names = write_figures(made.report, build_figures(made, studies), methods_of(studies))
    assert {name.split(".")[0] for name in names} == {
        "best_by_trials",
        "best_by_hours",
        "weight_sensitivity",
    }
