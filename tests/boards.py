"""What the tests of TensorBoard share: runs made up by the search's own writers, and a running TensorBoard."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from optuna.storages import InMemoryStorage

from cotuning_tune.base.files import write_bytes, write_json, write_lines
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.experiment import parse
from cotuning_tune.inspection.mistakes import Judged, draw_confusion, draw_mistakes
from cotuning_tune.retrain import RetrainBoard, Retraining
from cotuning_tune.runs.events import (
    EpochEnded,
    SeedEnded,
    StageStarted,
    Standing,
    TrialEnded,
    TrialStarted,
    TrialState,
)
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream
from cotuning_tune.search.board import SearchBoard, column_values
from cotuning_tune.search.study import OptunaStudy, Studies
from tests.search.conftest import command
from tests.search.ends import complete, fail, prune
from tests.servers import free_port

ALL = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"]
EXPERIMENT = """
[experiment]
validate = "each"
tasks = ["synthetic"]
rates = [0.5, 1.0]
methods = {methods}
backbone = "tiny_cnn"
trials = 5
sampler = "random"
pruner = "asha"
selection = "max"
[resources]
state_every = 0
[train]
epochs = 4
epoch = "best"
batch_norm = ["train", "frozen"]
"""
ENDS = ("COMPLETE", "FAIL", "PRUNED", "COMPLETE")
METHODS = ("fine_tune", "bss", "co_tuning")


def rows(number: int, epochs: int, base: float = 40.0) -> list[dict[str, Any]]:
    """The history of a made-up trial: its best epoch is the last but one."""
    accuracies = [base + 2 * number + 10 * epoch for epoch in range(epochs - 1)] + [35.0]
    return [
        {
            "epoch": epoch,
            "val_score": accuracy,
            "val_loss": 1.0,
            "train_ce": 1 / epoch,
            "lr": 0.1,
            "seconds": 2.0,
            "time": 1_750_000_000.0 + 100 * number + epoch,
        }
        for epoch, accuracy in enumerate(accuracies, 1)
    ]


class Made:
    """A run in the making: ``trial`` adds one trial to a study, as a search would write it."""

    def __init__(self, folder: Path, methods: tuple[str, ...] = METHODS) -> None:
        text = EXPERIMENT.format(methods=json.dumps(methods))
        self.run, self.experiment = RunDir(folder), parse(text, folder.name, folder)
        write_bytes(self.run.experiment_file, text.encode())
        write_json(self.run.environment, {"started": str(folder)})
        self.studies = Studies(self.experiment, InMemoryStorage(), self.run)
        self.board = SearchBoard(self.run, self.studies)
        self.stream = Stream(self.run, [self.board])
        self.stream.tell(StageStarted(self.run.name, str(self.run.path), 1, Standing()))

    def trial(self, study: OptunaStudy, end: str) -> int:
        """A trial that ends as ``end`` says, or runs on where it says RUNNING; its number."""
        issue = study.issue()
        name, number = issue.study.name, issue.number
        self.stream.tell(TrialStarted(name, number, issue.values, 4))
        base = 40.0 + self.experiment.config.methods.index(study.key.method)
        history = rows(issue.number, 4 if end == "COMPLETE" else 3, base)
        write_lines(self.run.study(name).trial(number).metrics, history)
        self.stream.tell(EpochEnded(name, number, history[:1], 1, 4))
        self.stream.tell(EpochEnded(name, number, history, len(history) - 1, 4))
        study.report(issue.number, history)
        best = max(row["val_score"] for row in history)
        if end == "COMPLETE":
            complete(study, issue.number, best, seconds=1.0)
        elif end == "PRUNED":
            prune(study, issue.number, accuracy=best, seconds=1.0)
        elif end == "FAIL":
            fail(study, issue.number, "ce = nan")
        if end != "RUNNING":
            self.stream.tell(TrialEnded(name, number, cast(TrialState, end), best, 1.0, best))
        return number


def write_run(folder: Path, methods: tuple[str, ...] = METHODS) -> RunDir:
    """A run whose last study has a trial that runs; every other trial has ended, the first study is retrained."""
    made = Made(folder, methods)
    with made.board:
        for study in made.studies.by_name.values():
            for end in ENDS:
                made.trial(study, end)
        made.trial(study, "RUNNING")
    write_seeds(made)
    return made.run


def write_seeds(made: Made) -> list[Retraining]:
    """Two retrained seeds of the first study, the first of them with pictures."""
    study = made.experiment.studies[0]
    hparams = column_values(made.experiment, study, {})
    selection = {"spec": made.experiment.spec(study, {}, 100).to_json(), "hparams": hparams}
    works = [Retraining(made.run.study(study.name), seed, selection) for seed in (0, 1)]
    with made.stream.also(RetrainBoard(made.run, works)):
        for seed, work in enumerate(works):
            write_lines(work.folder.metrics, rows(seed, 4))
            for tag, picture in pictures(f"{study.name}, seed {seed}").items() if not seed else ():
                write_bytes(work.folder.picture(tag), picture)
            write_json(work.folder.result, {"test_score": 50.0 + seed})
            made.stream.tell(SeedEnded(study.name, seed, 50.0 + seed, 1.0))
    return works


def judged(title: str = "made up", side: int = 16, images: int = 200) -> Judged:
    """Predictions of no model on the validation split of made-up images: every third one is wrong."""
    task = open_task("synthetic", 1.0, TaskConfig(size=side, resize=side), {"images": images})
    count = len(task.val)
    wrong = torch.arange(count) % 3 == 0
    predicted = torch.where(wrong, (task.val.labels_N + 1) % task.num_classes, task.val.labels_N)
    return Judged(title, task.val, task.class_names, predicted, torch.linspace(0.5, 1, count))


def pictures(title: str) -> dict[str, bytes]:
    """The images of a retraining."""
    found = judged(title)
    return {"validation/confusion": draw_confusion(found), "validation/mistakes": draw_mistakes(found)}


class Board:
    """A running TensorBoard."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer (JSON) to a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def hparams(self, name: str, **body: Any) -> Any:
        """The answer of the HParams plugin."""
        return self.ask(f"/data/plugin/hparams/{name}", {"experimentName": "", **body})

    def groups(self, metrics: list[str]) -> list[dict[str, Any]]:
        """The rows of HParams."""
        columns = [{"metric": {"tag": tag, "group": ""}} for tag in metrics]
        body = {"allowedStatuses": ALL, "colParams": columns, "startIndex": 0, "sliceSize": 1000}
        return list(self.hparams("session_groups", **body)["sessionGroups"])

    def wait(self, condition: Callable[[], object], seconds: float = 600) -> Any:
        """What the condition gives once it is true; a server that does not answer yet is waited for."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except OSError:
                pass
            assert time.monotonic() < deadline, "TensorBoard has not shown in time what was written"
            time.sleep(0.2)


@contextmanager
def board_of(*runs: object, at_least: int) -> Iterator[Board]:
    """``cotuning-tune tensorboard`` on runs, once it shows so many folders of event files."""
    port = free_port()
    start = command("tensorboard", *runs, "--port", port, "--reload-interval", 1)
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = Board(port)
    try:
        found.wait(lambda: len(found.ask("/data/runs")) >= at_least)
        yield found
    finally:
        process.terminate()
        process.wait(30)
