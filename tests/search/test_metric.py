"""A search by a metric of which less is better: every part knows its direction."""

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from cotuning_tune.report.results import read_studies
from cotuning_tune.report.write import build_report
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import read_rows
from cotuning_tune.search.driver import load_experiment
from cotuning_tune.search.storage import close, read_storage

FILE = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
metric = "nll"
trials = 6
pruner = "asha"
seeds = [0, 1]

[task]
size = 16
resize = 16

[train]
epochs = 4
epoch = "best"
batch_size = 16

[train.optim]
lr = { low = 1e-4, high = 3e-1, log = true }
"""


@pytest.fixture(scope="module")
def run(run_once: Callable[..., Path]) -> RunDir:
    """A finished run."""

    def write(folder: Path) -> Path:
        (folder / "by_nll.toml").write_text(FILE)
        return folder / "by_nll.toml"

    return RunDir.open(run_once("by_nll", write) / "by_nll")


def test_optuna_minimises(run: RunDir) -> None:
    """The studies in the journal have the direction, so that samplers and pruners of Optuna do."""
    storage = read_storage(run)
    assert storage
    directions = {study.directions[0] for study in storage.get_all_studies()}
    close(storage)
    assert directions == {optuna.study.StudyDirection.MINIMIZE}


def test_the_lowest_is_kept_chosen_and_put_first(run: RunDir) -> None:
    """The best epoch of a trial, the confirmed trial of a study, the model to take: each the one of the lowest loss."""
    assert load_experiment(run).metric("synthetic").name == "nll"
    studies = read_studies(run)
    for study in studies:
        assert study.metric.name == "nll"
        assert study.selection
        for trial in study.complete:
            rows = read_rows(run.study(study.name).trial(trial["number"]).metrics)
            assert trial["score"] == min(row["val_score"] for row in rows)
        best = sorted(study.complete, key=lambda trial: trial["score"])[:3]
        assert {one["confirms"] for one in study.confirmations} == {trial["number"] for trial in best}
        done = {one["confirms"]: one["score"] for one in study.confirmations if one["score"] is not None}
        means = {t["number"]: (t["score"] + done[t["number"]]) / 2 for t in best if t["number"] in done}
        assert study.selection["trial"] == min(means, key=means.__getitem__)
        assert study.selection["val_score"] == pytest.approx(min(means.values()))
    first = min(studies, key=lambda study: study.selection["val_score"])  # type: ignore[index]
    answer = json.loads(run.summary.read_text())["answer"]
    assert answer["take"][0]["study"] == first.name


def test_what_was_stopped_early_is_worse(run: RunDir) -> None:
    """At the epoch where a trial was stopped, some trial of the study that went on was lower."""
    stopped = 0
    for study in read_studies(run):
        curves = {
            t["number"]: [row["val_score"] for row in read_rows(run.study(study.name).trial(t["number"]).metrics)]
            for t in study.trials
            if t["state"] in ("COMPLETE", "PRUNED")
        }
        for trial in (t for t in study.trials if t["state"] == "PRUNED"):
            last = len(curves[trial["number"]]) - 1
            others = [curve[last] for n, curve in curves.items() if n != trial["number"] and len(curve) > last + 1]
            assert min(others) < curves[trial["number"]][last]
            stopped += 1
    assert stopped


def test_the_report_says_so(run: RunDir) -> None:
    """Names, direction and decimals; the test's NLL is the mean loss, accuracy stands beside it."""
    report = build_report(run)
    tables = {table.name: table for table in report.tables}
    assert tables["main"].title == "Test NLL"
    assert "less is better" in tables["main"].note
    assert "p (lowest)" in tables["models"].header
    (rule,) = {study.selection["rule"] for study in read_studies(run) if study.selection}
    assert "the lowest mean NLL" in rule
    seed = read_studies(run)[0].seeds[0]
    assert seed["test_score"] == seed["test_loss"]
    assert 0 <= seed["test_accuracy"] <= 100
    assert "NLL on new images" in report.answer.lines[0]
