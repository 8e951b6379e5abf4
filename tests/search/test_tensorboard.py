"""What TensorBoard answers about a run, asked over HTTP without a browser."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.search.conftest import command
from tests.servers import free_port

ALL = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"]


class Board:
    """A running TensorBoard."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def hparams(self, name: str, **body: Any) -> Any:
        return self.ask(f"/data/plugin/hparams/{name}", {"experimentName": "", **body})

    def groups(self, metrics: list[str]) -> list[dict[str, Any]]:
        columns = [{"metric": {"tag": tag, "group": ""}} for tag in metrics]
        body = {"allowedStatuses": ALL, "colParams": columns, "startIndex": 0, "sliceSize": 1000}
        return list(self.hparams("session_groups", **body)["sessionGroups"])


@pytest.fixture(scope="module")
def board(tiny_run: tuple[Path, str]) -> Iterator[Board]:
    port = free_port()
    process = subprocess.Popen(
        command("tensorboard", tiny_run[0], "--port", port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    found = Board(port)
    deadline = time.monotonic() + 90
    while True:
        try:
            if len(found.ask("/data/runs")) >= 22:
                break
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < deadline, "TensorBoard has not shown the run in 90 s"
        time.sleep(0.5)
    yield found
    process.terminate()
    process.wait(30)


def test_every_weight_has_a_column(board: Board) -> None:
    """The columns are the union over all cells: each method's weight, also where a baseline lacks it."""
    columns = {info["name"] for info in board.hparams("experiment")["hparamInfos"]}
    assert {"task", "rate", "method", "optim/lr", "optim/head_lr_factor"} <= columns
    assert {"bss/weight", "co_tuning/weight"} <= columns


def test_each_trial_is_a_row_and_seeds_share_one(board: Board) -> None:
    """One row a trial, one row for the three seeds of a configuration, all with the true status."""
    groups = board.groups(["val/best_accuracy"])
    searched = [g for g in groups if g["hparams"]["stage"] == "search"]
    retrained = [g for g in groups if g["hparams"]["stage"] == "retrain"]
    assert len(searched) == 12
    assert [len(g["sessions"]) for g in retrained] == [3, 3, 3]
    assert {s["status"] for g in groups for s in g["sessions"]} == {"STATUS_SUCCESS"}


def test_rows_show_the_best_value(board: Board, tiny_run: tuple[Path, str]) -> None:
    """The metric of a row is the trial's best validation accuracy, not its last."""
    best = {}
    for group in board.groups(["val/best_accuracy"]):
        if group["hparams"]["stage"] == "search":
            best[group["name"]] = group["metricValues"][0]["value"]
    for name, value in best.items():
        cell, number = name.split("/")
        result = tiny_run[0] / "cells" / cell / "trials" / number / "result.json"
        assert value == pytest.approx(json.loads(result.read_text())["value"])
    assert len(best) == 12


def test_scalars_have_plain_tags(board: Board) -> None:
    """Scalars carry the same tags in every trial; a step is an epoch."""
    tags = board.ask("/data/plugin/scalars/tags")
    trials = {run: set(found) for run, found in tags.items() if run.startswith("search/")}
    common = set.intersection(*trials.values())
    assert {"val/accuracy", "val/best_accuracy", "val/loss", "train/ce", "optim/lr"} <= common
    run = next(iter(trials))
    rows = board.ask(f"/data/plugin/scalars/scalars?run={run}&tag=val/accuracy")
    assert [row[1] for row in rows] == [1, 2, 3]
