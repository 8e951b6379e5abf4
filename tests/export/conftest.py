"""A small run of real images, retrained without a cluster, and its exports in each format: made once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cotuning_tune import cli
from cotuning_tune.base.files import write_bytes, write_json
from cotuning_tune.data.images.fashion_mnist import EMBEDDED
from cotuning_tune.experiment import parse
from cotuning_tune.export import FORMATS
from cotuning_tune.retrain import _discard_other_configuration, _entry, _write_result, planned
from cotuning_tune.runs import ledger
from cotuning_tune.runs.choice import rule_text
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.snapshot import settle_data
from cotuning_tune.scores import ACCURACY
from cotuning_tune.search.checks import snapshots
from cotuning_tune.training.seed import SeedJob

METHODS = ("fine_tune", "co_tuning")
CELL = "clothes-1.00-co_tuning"
CLASSES = {"bag": 8, "trouser": 1, "pullover": 2}  # the label in Fashion-MNIST
EXPERIMENT = """
[experiment]
tasks = ["clothes"]
methods = ["fine_tune", "co_tuning"]
backbone = "tiny_cnn"
trials = 3
seeds = [0, 1]
[data.clothes]
format = "image_folder"
root = "{root}"
[task]
size = 23
resize = 28
[train]
epochs = 3
batch_size = 8
[train.optim]
lr = {{ low = 1e-3, high = 1e-1, log = true }}
"""


def write_clothes(root: Path) -> None:
    """12 training and 9 test images a class: JPEG and PNG, grey and RGB, not square."""
    with np.load(EMBEDDED) as stored:
        for part, count in (("train", 12), ("test", 9)):
            for name, label in CLASSES.items():
                chosen = stored[f"{part}_images"][stored[f"{part}_labels"] == label][:count]
                for number, pixels in enumerate(chosen):
                    path = root / part / name / f"{number}.{'jpg' if number % 2 else 'png'}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    wide = Image.fromarray(255 - pixels).resize((40 + number, 31))
                    wide.convert("RGB" if number % 3 else "L").save(path)


def write_search(run: RunDir, text: str) -> None:
    """What the search of each study leaves: three trials, one of which failed, and the choice of the first."""
    experiment = parse(text, "small")
    write_bytes(run.experiment_file, text.encode())
    write_json(run.environment, {"gpus": []})
    settle_data(run, snapshots(experiment), accept=False)
    for study in experiment.studies:
        spec, values = experiment.spec(study, {"optim/lr": 0.03}, seed=100), {"optim/lr": 0.03}
        named = {"task": study.task, "rate": study.rate, "method": study.method}
        trial = {"number": 0, "state": "COMPLETE", "score": 66.7, "values": values, "epochs": 3, "seconds": 1.0}
        states = [{}, {"number": 1, "state": "PRUNED", "epochs": 1}, {"number": 2, "state": "FAIL", "epochs": 1}]
        trials = [{**trial, "reason": "", **state} for state in states]
        facts = {"budget": 3, "val_count": 6, "chance": 100 / 3, "trials": trials, "confirmations": []}
        write_json(run.study(study.name).summary, named | facts)
        selection = {**named, "trial": 0, "val_score": 66.7, "values": values, "hparams": values}
        selection |= {"state": "COMPLETE", "rule": rule_text(trial, "max", ACCURACY), "spec": spec.to_json()}
        write_json(run.study(study.name).selection, {**selection, "config": ledger.config_hash(spec.to_json())})


def retrain(run: RunDir, seeds: tuple[int, ...]) -> None:
    """The project's own retraining and test evaluation of every study, in this process."""
    run.raise_incarnation()
    for work in planned(run, seeds):
        _discard_other_configuration(work)
        job = SeedJob(work.spec, work.folder, "centre")
        while not job.ready:
            job.advance()
        ledger.append(run.ledger, {"event": "test_evaluation", **_entry(work)})
        job.advance()
        _write_result(run, work, job.history, job.tested[0], "", lambda head: None, again=False)


@pytest.fixture(scope="session")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the images."""
    root = tmp_path_factory.mktemp("clothes")
    write_clothes(root)
    return root


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, clothes: Path) -> RunDir:
    """A run of two studies, each retrained with two seeds."""
    torch.set_num_threads(1)
    run = RunDir(tmp_path_factory.mktemp("runs") / "small")
    write_search(run, EXPERIMENT.format(root=clothes))
    retrain(run, (0, 1))
    return run


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, small_run: RunDir) -> dict[str, Path]:
    """The folder of the co-tuning study's export in each format, made by the command."""
    folder = tmp_path_factory.mktemp("exports")
    for name in FORMATS:
        given = ["export", str(small_run.path), "--study", CELL, "--format", name, "--out", str(folder / name)]
        assert cli.main(given) == 0
    return {name: folder / name for name in FORMATS}
