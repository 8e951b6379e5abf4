"""The commands of the report make a study again; what it was made with stands beside them."""

import shlex
from pathlib import Path

from cotuning_tune import cli
from cotuning_tune.base.files import read_json, write_bytes
from cotuning_tune.experiment import Study, read_experiment
from cotuning_tune.report.reproduce import environment_table, reproduce_table, train_command
from cotuning_tune.report.results import StudyResult, read_studies
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.ledger import config_hash
from cotuning_tune.runs.snapshot import DataRecord
from tests.report.synthetic import write_run

DATA: DataRecord = {
    "tasks": {
        "birds": {
            "classes": 3,
            "counts": {"train": 12, "val": 0, "test": 6},
            "keys": {"train": "ab", "val": "00", "test": "cd"},
            "decoder": "",
        }
    },
    "accepted": [],
}
TINY = """
[experiment]
tasks = ["synthetic"]
methods = ["bss"]
backbone = "tiny_cnn"
[task]
size = 16
resize = 16
[train]
epochs = 1
batch_norm = ["train", "frozen"]
[train.optim]
lr = { low = 1e-3, high = 1e-1, log = true }
"""


def test_the_command_trains_the_chosen_configuration(tmp_path: Path) -> None:
    """What ``train`` parses from the printed command is the selection's configuration: same hash, same seed."""
    run = RunDir(tmp_path / "a run")
    write_bytes(run.experiment_file, TINY.encode())
    values = {"optim/lr": 0.0123456789012345, "batch_norm": "frozen", "optim/head_lr_factor": 30.0, "bss/weight": 1e-05}
    experiment = read_experiment(run.experiment_file)
    spec = experiment.spec(Study("synthetic", 1.0, "bss"), values, 100).to_json()
    chosen = {"values": values, "config": config_hash(spec), "spec": spec}
    study = StudyResult("synthetic", 1.0, "bss", 1, [], chosen, [{"seed": 2}])
    options = cli.make_parser().parse_args(shlex.split(train_command(run, study))[1:])
    given = cli._training.parse_values(options.set, "")
    again = read_experiment(options.experiment).spec(Study(options.task, options.rate, options.method), given, 100)
    assert (given, options.seed) == (values, 2)
    assert config_hash(again.to_json()) == chosen["config"]
    assert reproduce_table(run, [study]).rows[0][2] == chosen["config"]


def test_a_study_without_selection() -> None:
    """Nothing was chosen, so there is nothing to make again."""
    study = StudyResult("synthetic", 1.0, "bss", 1, [], None, [])
    assert reproduce_table(RunDir(Path("run")), [study]).rows == [["bss", "synthetic 100 %", "-", "-"]]


def test_every_study_has_its_command(tmp_path: Path) -> None:
    """The hash beside a command is that of its retrained models."""
    run = write_run(tmp_path / "run", ("birds",), (0.15, 1.0), methods=2, trials=3, epochs=2, files=False)
    studies = read_studies(run)
    for row, study in zip(reproduce_table(run, studies).rows, studies, strict=True):
        assert study.folder is not None
        assert row[2] == read_json(study.folder.retrain(0).result)["config"]
        assert f"--method {study.method} " in row[3]


def test_the_environment() -> None:
    """Versions, GPUs by kind, each task's data, and the command without the folder of the program."""
    found = {"cotuning_tune": "1", "python": "3", "packages": {"torch": "2"}, "gpus": ["A", "B", "A"]}
    rows = environment_table(found | {"command": ["/somewhere/cotuning-tune", "run", "x y.toml"]}, DATA).rows
    expected = [["cotuning_tune", "1"], ["python", "3"], ["torch", "2"], ["GPUs", "2 x A, 1 x B"]]
    expected += [["data of birds", "3 classes; images (key): train 12 (ab), test 6 (cd)"]]
    assert rows == [*expected, ["command", "cotuning-tune run 'x y.toml'"]]
