"""Backbones and image sizes are searched as any parameter is, or backbones have studies of their own."""

import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.experiment import Study, parse
from cotuning_tune.report.advice import read_space
from cotuning_tune.report.reproduce import train_command
from cotuning_tune.report.results import read_studies
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.board import column_values, columns_of
from cotuning_tune.search.checks import check_studies
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import Issue, Studies
from tests.search.conftest import call
from tests.search.ends import complete

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
{backbones}
weights = "random"
trials = 3
seeds = [0]
sampler = "qmc"
selection = "max"
[task]
size = {size}
resize = 40
[data.synthetic]
images = 32
[train]
epochs = 1
batch_size = 8
[train.optim]
lr = {{ low = 1e-3, high = 1e-1, log = true }}
"""
LISTED = 'backbone = ["tiny_cnn", "shufflenet_v2_x0_5"]'
AXIS = 'backbones = ["tiny_cnn", "shufflenet_v2_x0_5"]'
OWN = '\n[backbones."shufflenet_v2_x0_5".train]\nbatch_size = 4\noptim.lr = { low = 1e-4, high = 1e-2, log = true }\n'


def text(backbones: str, size: str = "[32, 40]") -> str:
    return TEXT.format(backbones=backbones, size=size)


def writer(content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "mine.toml").write_text(content)
        return folder / "mine.toml"

    return write


@pytest.fixture(scope="module")
def listed(run_once: Callable[..., Path]) -> RunDir:
    """A finished run that searched backbone and image size in every study."""
    return RunDir(run_once("backbones_listed", writer(text(LISTED))) / "mine")


@pytest.fixture(scope="module")
def compared(run_once: Callable[..., Path]) -> RunDir:
    """A finished run with studies for each backbone, one of which has ranges of its own."""
    return RunDir(run_once("backbones_compared", writer(text(AXIS, "32") + OWN)) / "mine")


def specs(run: RunDir) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Drawn values and spec of every trial."""
    configs = [read_json(path) for path in sorted(run.path.glob("studies/*/trials/*/config.json"))]
    return [(config["values"], config["specs"][0]) for config in configs]


def test_every_trial_has_what_it_drew(listed: RunDir) -> None:
    """A trial trains the backbone that it drew, on images of the size that it drew."""
    found = specs(listed)
    assert len(found) == 6
    assert all(values["backbone"] == spec["backbone"] for values, spec in found)
    assert all(values["task/size"] == spec["task_config"]["size"] for values, spec in found)
    assert {spec["backbone"] for _, spec in found} == {"tiny_cnn", "shufflenet_v2_x0_5"}
    assert {spec["task_config"]["size"] for _, spec in found} == {32, 40}
    assert not any(key.startswith("task") or key == "backbone" for _, spec in found for key in spec["train"])


def test_the_chosen_backbone_is_retrained_and_shown(listed: RunDir) -> None:
    """What was chosen is what is retrained, tested and shown, with the size that it was chosen at."""
    report = (listed.report / "report.md").read_text()
    for study in read_studies(listed):
        assert study.selection is not None
        assert study.scores
        spec, values = study.selection["spec"], study.selection["values"]
        assert (spec["backbone"], spec["task_config"]["size"]) == (values["backbone"], values["task/size"])
        assert study.selection["hparams"]["backbone"] == spec["backbone"]
        assert f"backbone = {spec['backbone']}, task/size = {spec['task_config']['size']}" in report
    assert "Backbones: tiny_cnn, shufflenet_v2_x0_5, every training from the same random weights" in report


def test_a_diagnostic_names_the_line(listed: RunDir) -> None:
    """The report knows both as searched parameters, and where they stand in the file."""
    space = read_space(listed)
    assert space.searched["backbone"]["options"] == ["tiny_cnn", "shufflenet_v2_x0_5"]
    assert space.change("backbone", "tiny_cnn") == 'line 5: backbone = "tiny_cnn"'
    assert space.change("task/size", 40) == "line 12: size = 40"


def test_the_chosen_model_is_exported(listed: RunDir, tmp_path: Path) -> None:
    """The exported model takes images of the size that its configuration was chosen at."""
    study = read_studies(listed)[0]
    done = call("export", listed.path, "--study", study.name, "--format", "safetensors", "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    told = next(read_json(path) for path in (tmp_path / "model").glob("*.json") if "input" in read_json(path))
    assert study.selection is not None
    assert told["input"]["shape"][2:] == [study.selection["values"]["task/size"]] * 2
    assert told["backbone"] == study.selection["values"]["backbone"]


def test_each_backbone_has_its_studies(compared: RunDir) -> None:
    """A study is a method on a task at a rate with a backbone; its trials all have that one, and its ranges."""
    studies = read_studies(compared)
    assert [study.name for study in studies] == [
        f"synthetic-1.00-{backbone}-{method}"
        for backbone in ("tiny_cnn", "shufflenet_v2_x0_5")
        for method in ("fine_tune", "bss")
    ]
    for study in studies:
        assert study.selection is not None
        spec = study.selection["spec"]
        assert spec["backbone"] == study.backbone
        assert spec["train"]["batch_size"] == (4 if study.backbone == "shufflenet_v2_x0_5" else 8)
        assert study.selection["hparams"]["backbone"] == study.backbone
    drawn = {s.backbone: [t["values"]["optim/lr"] for t in s.trials if not t["fixed"]] for s in studies}
    assert [10 * low for low in drawn["shufflenet_v2_x0_5"]] == pytest.approx(drawn["tiny_cnn"])
    assert drawn["tiny_cnn"]


def test_methods_are_compared_within_a_backbone(compared: RunDir) -> None:
    """The report has a column for each setting, and says nothing of methods: it is one data set."""
    report = (compared.report / "report.md").read_text()
    heads = [[word.strip() for word in line.split("|")[1:-1]] for line in report.splitlines()]
    assert ["method", "synthetic 100 % tiny_cnn", "synthetic 100 % shufflenet_v2_x0_5", "average"] in heads
    assert "Which method is better is open" in report
    own = read_space(compared).own["shufflenet_v2_x0_5"]
    assert own["optim/lr"]["high"] == 1e-2
    change = read_space(compared).change("optim/lr", 0.1, "shufflenet_v2_x0_5")
    assert change == "line 24: lr = 0.1"


def test_a_compared_study_is_made_again(compared: RunDir) -> None:
    """The report's command trains the study of its backbone."""
    command = train_command(compared, read_studies(compared)[-1])
    assert "--set backbone=shufflenet_v2_x0_5" in command
    done = call(*shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    assert "synthetic-1.00-shufflenet_v2_x0_5-bss" in done.stdout
    refused = call("train", compared.experiment_file, "--method", "bss", "--set", "backbone=resnet18")
    assert refused.returncode == 2
    assert "no backbone of" in refused.stderr


def deal_all(start: Callable[[], Studies]) -> list[Issue]:
    """Every issue, each of a driver of its own."""
    issues = []
    while (issue := (studies := start()).next()) is not None:
        issues.append(issue)
        complete(studies.by_name[issue.study.name], issue.number, 50.0 + 100 * issue.values["optim/lr"], seconds=1.0)
    return issues


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
@pytest.mark.parametrize("backbones", [LISTED, AXIS])
def test_restarts_do_not_change_the_draws(tmp_path: Path, backbones: str, sampler: str) -> None:
    """A driver started anew before each trial asks for the same as one that lives through."""
    experiment = parse(text(backbones).replace('"qmc"', f'"{sampler}"'), "draws")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    through = Studies(experiment, open_storage(RunDir(tmp_path / "a")))
    once = deal_all(lambda: through)
    assert deal_all(lambda: Studies(experiment, open_storage(RunDir(tmp_path / "b")))) == once
    assert len(once) == 3 * len(experiment.studies)
    if backbones == LISTED:
        assert {issue.values["backbone"] for issue in once} == {"tiny_cnn", "shufflenet_v2_x0_5"}


def test_a_first_trial_takes_the_first_backbone(tmp_path: Path) -> None:
    """Trial 0 is the published default: the list's first backbone, the published size or the nearest to it."""
    studies = Studies(parse(text(LISTED), "first"), open_storage(RunDir(tmp_path)))
    issue = studies.next()
    assert issue is not None
    assert (issue.values["backbone"], issue.values["task/size"]) == ("tiny_cnn", 40)


def test_tensorboard_has_a_column_of_backbones() -> None:
    """With a list, and with an axis, every trial is shown with its backbone; one backbone needs no column."""
    for backbones in (LISTED, AXIS):
        experiment = parse(text(backbones), "columns")
        study = experiment.studies[-1]
        assert "backbone" in columns_of(experiment)
        assert column_values(experiment, study, {})["backbone"] == (study.backbone or "tiny_cnn")
    assert "backbone" not in columns_of(parse(text('backbone = "tiny_cnn"'), "columns"))


@pytest.mark.parametrize(
    ("backbones", "size", "refused"),
    [
        ('backbone = ["tiny_cnn", "vit_b_16"]', "32", "vit_b_16 cannot take images of task.size = 32"),
        ('backbones = ["tiny_cnn", "vit_b_16"]', "32", "vit_b_16 cannot take images of task.size = 32"),
        ('backbone = "alexnet"', "[70, 40]", "alexnet cannot take images of task.size = 40"),
    ],
)
def test_every_backbone_is_checked_before_a_search(backbones: str, size: str, refused: str) -> None:
    """One that cannot take the smallest or the largest images is one line before anything runs."""
    with pytest.raises(UserError, match=refused):
        check_studies(parse(text(backbones, size).replace("resize = 40", "resize = 70"), "checked"))


def test_one_backbone_is_as_before() -> None:
    """With one backbone and one size a study has the name, the searched parameters and the space it always had."""
    experiment = parse(text('backbone = "tiny_cnn"', "32"), "one")
    study = experiment.studies[0]
    assert study == Study("synthetic", 1.0, "fine_tune")
    assert study.name == "synthetic-1.00-fine_tune"
    assert experiment.order("bss") == ["optim/lr", "optim/head_lr_factor", "optim/weight_decay", "bss/weight"]
    assert tomllib.loads(experiment.space_text()).keys() == {"train", "methods"}
    assert json.dumps(experiment.spec(study, {}, 0).to_json()).count("tiny_cnn") == 1
