"""What TensorBoard answers about a run of a real search, asked over HTTP without a browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boards import Board, board_of


@pytest.fixture(scope="module")
def board(tiny_run: tuple[Path, str]) -> Iterator[Board]:
    with board_of(tiny_run[0], at_least=25) as found:
        yield found


def test_every_weight_has_a_column(board: Board) -> None:
    """The columns are the union over all studies: each method's weight, also where a baseline lacks it."""
    columns = {info["name"] for info in board.hparams("experiment")["hparamInfos"]}
    assert {"task", "rate", "method", "optim/lr", "optim/head_lr_factor"} <= columns
    assert {"bss/weight", "co_tuning/weight"} <= columns


def test_each_trial_is_a_row_and_seeds_share_one(board: Board) -> None:
    """One row a trial, drawn or confirming, one row for the three seeds of a configuration; all with true status."""
    groups = board.groups(["val/best_accuracy"])
    searched = [g for g in groups if g["hparams"]["stage"] == "search"]
    retrained = [g for g in groups if g["hparams"]["stage"] == "retrain"]
    confirmed = [g for g in groups if g["hparams"]["stage"] == "confirm"]
    assert (len(searched), len(confirmed)) == (12, 9)
    assert [len(g["sessions"]) for g in retrained] == [3, 3, 3]
    assert {s["status"] for g in groups for s in g["sessions"]} == {"STATUS_SUCCESS"}


def test_rows_show_the_value(board: Board, tiny_run: tuple[Path, str]) -> None:
    """A row's last validation accuracy is the trial's value: by default the last epoch is kept."""
    last = {}
    for group in board.groups(["val/accuracy"]):
        if group["hparams"]["stage"] in ("search", "confirm"):
            (last[group["name"]],) = [m["value"] for m in group["metricValues"] if m["name"]["tag"] == "val/accuracy"]
    for name, value in last.items():
        _, study, number = name.split("/")
        result = tiny_run[0] / "studies" / study / "trials" / number / "result.json"
        assert value == pytest.approx(json.loads(result.read_text())["value"])
    assert len(last) == 21


def test_scalars_have_plain_tags(board: Board) -> None:
    """Scalars carry the same tags in every trial; a step is an epoch."""
    tags = board.ask("/data/plugin/scalars/tags")
    trials = {run: set(found) for run, found in tags.items() if run.startswith("search/")}
    common = set.intersection(*trials.values())
    assert {"val/accuracy", "val/best_accuracy", "val/loss", "train/ce", "optim/lr"} <= common
    run = next(iter(trials))
    rows = board.ask(f"/data/plugin/scalars/scalars?run={run}&tag=val/accuracy")
    assert [row[1] for row in rows] == [1, 2, 3]


def test_the_curves_end_at_the_best(board: Board, tiny_run: tuple[Path, str]) -> None:
    """Each method's curve has a point for each of its four drawn trials; the last is the best accuracy of these."""
    for method in ("fine_tune", "bss", "co_tuning"):
        points = board.ask(f"/data/plugin/scalars/scalars?run=methods/{method}&tag=best_val_score/synthetic-1.00")
        study = json.loads((tiny_run[0] / "studies" / f"synthetic-1.00-{method}" / "study.json").read_text())
        assert [point[1] for point in points] == [1, 2, 3, 4]
        assert points[-1][2] == pytest.approx(max(trial["score"] for trial in study["trials"]))


def test_every_retrained_model_has_its_pictures(board: Board) -> None:
    """The confusion matrix and the surest mistakes of each of the nine models; of no test image."""
    tags = board.ask("/data/plugin/images/tags")
    assert len(tags) == 9
    assert {tag for found in tags.values() for tag in found} == {"validation/confusion", "validation/mistakes"}
