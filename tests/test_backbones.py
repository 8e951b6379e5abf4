"""Backbones and image sizes in experiment files: spaces, places of parameters, and every refusal."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import TaskConfig, open_task
from cotuning_tune.experiment import Experiment, parse, read_experiment
from cotuning_tune.hyper import Choice, Parameter, Range

TEXT = """\
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
rates = [0.5, 1]
{backbones}
[task]
size = {size}
resize = 40
[train]
epochs = 3
[train.optim]
lr = {{ low = 1e-3, high = 1e-1, log = true }}
{more}
"""
AXIS = 'backbones = ["tiny_cnn", "convnext_tiny"]'
OWN = """\
[backbones.convnext_tiny.train]
epochs = 5
[backbones.convnext_tiny.train.optim]
lr = { low = 1e-5, high = 1e-3, log = true }
"""


def made(backbones: str, size: str = "32", more: str = "") -> Experiment:
    return parse(TEXT.format(backbones=backbones, size=size, more=more), "example")


def test_a_list_is_a_parameter_of_every_study() -> None:
    """A list of backbones, and sizes, are searched beside the training's parameters, with the same names for all."""
    experiment = made('backbone = ["tiny_cnn", "resnet18"]', "{ low = 16, high = 40 }")
    assert [study.name for study in experiment.studies] == [
        f"synthetic-{rate}-{method}" for rate in ("0.50", "1.00") for method in ("fine_tune", "bss")
    ]
    for method in ("fine_tune", "bss"):
        space = experiment.space(method)
        assert space["backbone"] == Parameter("", Choice(("tiny_cnn", "resnet18")))
        assert space["backbone"].first == "tiny_cnn"
        assert space["task/size"] == Parameter(224, Range(16, 40))
        shared = ["optim/lr", "optim/head_lr_factor", "optim/weight_decay", "backbone", "task/size"]
        assert experiment.order(method)[:5] == shared


def test_drawn_values_are_put_where_they_belong() -> None:
    """A drawn backbone is the spec's, a drawn size stands in its task; neither stands in the training's table."""
    experiment = made('backbone = ["tiny_cnn", "resnet18"]', "[24, 32]")
    spec = experiment.spec(experiment.studies[0], {"backbone": "resnet18", "task/size": 24}, 0)
    assert (spec.backbone, spec.task_config["size"], spec.task_config["resize"]) == ("resnet18", 24, 40)
    assert spec.train.keys() == made('backbone = "tiny_cnn"').spec(experiment.studies[0], {}, 0).train.keys()
    first = experiment.spec(experiment.studies[0], {}, 0)
    assert (first.backbone, first.task_config["size"]) == ("tiny_cnn", 32)


def test_places_stand_for_all_that_may_be_drawn() -> None:
    """What is checked before a search: each backbone with every size; what is planned with: the largest."""
    experiment = made('backbone = ["tiny_cnn", "resnet18"]', "{ low = 16, high = 40 }")
    drawn = [(place["backbone"], place["task/size"]) for place in experiment.places()]
    assert drawn == [("tiny_cnn", 16), ("tiny_cnn", 40), ("resnet18", 16), ("resnet18", 40)]
    assert [place["task/size"] for place in experiment.places(largest=True)] == [40, 40]
    assert made('backbone = "tiny_cnn"').places() == [{}]


def test_an_axis_gives_each_backbone_its_studies() -> None:
    """With ``backbones`` a setting names its backbone; specs have it without any value that says so."""
    experiment = made('backbones = ["tiny_cnn", "resnet18"]')
    assert [study.setting for study in experiment.studies][::2] == [
        f"synthetic-{rate}-{backbone}" for rate in ("0.50", "1.00") for backbone in ("tiny_cnn", "resnet18")
    ]
    assert [experiment.spec(study, {}, 0).backbone for study in experiment.studies] == [
        study.backbone for study in experiment.studies
    ]
    assert experiment.backbones == ("tiny_cnn", "resnet18")


def test_a_backbone_with_ranges_of_its_own() -> None:
    """``[backbones.NAME.train]`` changes what it names for that backbone alone; places of parameters stay common."""
    experiment = made(AXIS, more=OWN)
    tiny, own = (experiment.space("bss", backbone) for backbone in experiment.backbones)
    assert (tiny["epochs"], own["epochs"]) == (Parameter(3), Parameter(5))
    assert (tiny["optim/lr"].search, own["optim/lr"].search) == (
        Range(1e-3, 1e-1, log=True),
        Range(1e-5, 1e-3, log=True),
    )
    assert tiny["optim/weight_decay"] == own["optim/weight_decay"]
    assert (experiment.rows("tiny_cnn"), experiment.rows("convnext_tiny")) == (3, 5)
    assert experiment.order("bss") == made(AXIS).order("bss")


def test_a_preset_of_a_backbone() -> None:
    """A backbone may take a whole training by name, over that of the others."""
    experiment = made(AXIS, more='[backbones.convnext_tiny.train]\npreset = "timm-finetune"')
    assert experiment.space("bss", "convnext_tiny")["optim/name"] == Parameter("adamw")
    assert experiment.space("bss", "tiny_cnn")["optim/name"] == Parameter("sgd")


NORMS = 'batch_norm = ["train", "frozen"]\nepochs = 3'


@pytest.mark.parametrize(
    ("backbones", "searched"),
    [
        ('backbone = ["tiny_cnn", "convnext_tiny"]', [True]),
        ('backbone = ["convnext_tiny", "alexnet"]', [False]),
        (AXIS, [True, False]),
        ('backbone = "convnext_tiny"', [True]),  # as ever
    ],
)
def test_no_batch_norm_to_search(backbones: str, searched: list[bool]) -> None:
    """BatchNorm's mode is pinned where no backbone of the study has any."""
    experiment = parse(TEXT.format(backbones=backbones, size="32", more="").replace("epochs = 3", NORMS), "norms")
    found = [
        experiment.space("bss", backbone)["batch_norm"].search is not None
        for backbone in experiment.config.backbones or ("",)
    ]
    assert found == searched
    assert ("batch_norm" in experiment.order("bss")) == any(searched)


@pytest.mark.parametrize(
    ("backbones", "size", "more", "line", "words"),
    [
        ('backbone = "tiny_cnn"\nbackbones = ["tiny_cnn"]', "32", "", 6, ["exclude each other"]),
        ("", "32", "", 1, ["experiment.backbone is missing", "experiment.backbones"]),
        ("backbone = []", "32", "", 5, ["experiment.backbone", "empty"]),
        ('backbone = ["tiny_cnn", "tiny_cn"]', "32", "", 5, ["'tiny_cn'", "'tiny_cnn'"]),
        ('backbone = ["tiny_cnn", "tiny_cnn"]', "32", "", 5, ["experiment.backbone lists something twice"]),
        ('backbones = ["tiny_cnn", "tiny_cnn"]', "32", "", 5, ["experiment.backbones lists something twice"]),
        ("backbone = { low = 1, high = 2 }", "32", "", 5, ["experiment.backbone", "list its options"]),
        (f'{AXIS}\nweights = "one.pth"', "32", "", 6, ["one.pth", "one backbone, and there are 2"]),
        ('backbone = "tiny_cnn"', "[16, 41]", "", 7, ["task.size = 41", "task.resize = 40"]),
        ('backbone = "tiny_cnn"', "{ low = 0, high = 40 }", "", 7, ["task.size = 0"]),
        ('backbone = "tiny_cnn"', "32\nval_fraction = [0.1, 0.2]", "", 8, ["task.val_fraction cannot be searched"]),
        ('backbone = "tiny_cnn"', "32", OWN, 13, ["needs experiment.backbones"]),
        ('backbone = ["tiny_cnn", "convnext_tiny"]', "32", OWN, 13, ["share one space"]),
        (AXIS, "32", "[backbones.resnet18.train]\nepochs = 2", 13, ["'resnet18'", "convnext_tiny"]),
        (AXIS, "32", "[backbones.convnext_tiny]\nepochs = 2", 14, ["[backbones.convnext_tiny]", "'epochs'", "train"]),
        (AXIS, "32", "[backbones]\nconvnext_tiny = 2", 14, ["backbones.convnext_tiny = 2", "table"]),
        (AXIS, "32", "[backbones.convnext_tiny.train]\nepoch = 'first'", 14, ["'first'", "last", "best"]),
        (AXIS, "32", "[backbones.convnext_tiny.train]\nepochs = 0", 14, ["train.epochs", "at least 1"]),
        (AXIS, "32", "[backbones.convnext_tiny.train]\nepocs = 1", 14, ["'epocs'", "'epochs'"]),
    ],
)
def test_mistakes(tmp_path: Path, backbones: str, size: str, more: str, line: int, words: list[str]) -> None:
    """A mistake is one line with file, line number, what is wrong and what there is instead."""
    path = tmp_path / "spoilt.toml"
    path.write_text(TEXT.format(backbones=backbones, size=size, more=more))
    with pytest.raises(UserError) as caught:
        read_experiment(path)
    message = str(caught.value)
    assert re.search(rf"line {line}: ", message), message
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_sizes_share_the_decoded_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: Callable[..., Path]
) -> None:
    """Images are decoded once for all sizes: the cache knows ``resize`` alone."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))
    for split in ("train", "test"):
        for number in range(8):
            write_image(tmp_path / "birds" / split / f"class{number % 2}" / f"{number}.jpg", number, side=(40, 30))
    decoded = []
    for size in (16, 32):
        task = open_task(
            "birds", 1.0, TaskConfig(size=size, resize=40), {"root": str(tmp_path / "birds")}, "image_folder"
        )
        assert next(task.plain_batches(task.train, 2))[0].shape[-1] == size
        decoded.append({path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "images").iterdir()})
    assert decoded[0]
    assert decoded[0] == decoded[1]
