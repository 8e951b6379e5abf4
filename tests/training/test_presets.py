"""Trainings by name: the numbers of their sources, and keys of one's own above them."""

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.hyper import Choice, Range
from cotuning_tune.training.presets import PRESETS, with_preset

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
[train]
"""


def made(train: str) -> Experiment:
    return parse(TEXT + train, "preset")


def test_the_paper_is_the_default() -> None:
    """By name or not: the same space."""
    assert made('preset = "paper-2020"').train == made("").train


def test_timm_finetune() -> None:
    """Table 9 of He et al., CVPR 2022: AdamW, 0.9, 0.999, layer decay 0.75, 5 of 100 epochs warm-up, 0.1, 0.8, 1.0."""
    space = made('preset = "timm-finetune"').train
    pinned = {key: p.value for key, p in space.items() if p.search is None}
    expected = {
        "optim/name": "adamw",
        "optim/betas": (0.9, 0.999),
        "optim/decay_all": False,
        "schedule": "cosine",
        "warmup": 0.05,
        "label_smoothing": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "augment": "randaugment",
    }
    assert {key: pinned[key] for key in expected} == expected
    assert space["optim/lr"].search == Range(1e-5, 1e-3, log=True)
    assert space["optim/layer_decay"].search == Choice((0.75, 0.65, 1.0))
    weight_decay = space["optim/weight_decay"].search
    assert isinstance(weight_decay, Range)
    assert weight_decay.low < 0.05 < weight_decay.high


def test_few_shot() -> None:
    """The rule of Kolesnikov et al., ECCV 2020, for fewer than 20,000 images: 500 steps, no mixup, no decay."""
    space = made('preset = "few-shot"').train
    assert [space[key].value for key in ("iterations", "mixup", "optim/weight_decay", "optim/name")] == [
        500,
        0.0,
        0.0,
        "sgd",
    ]
    lr = space["optim/lr"].search
    assert isinstance(lr, Range)
    assert lr.low < 0.003 < lr.high


def test_keys_of_ones_own_stay() -> None:
    """A value, a list, a range, in the table or below it: above the preset's; what is not named is the preset's."""
    space = made(
        'preset = "timm-finetune"\nmixup = 0.0\n[train.optim]\nlr = 0.01\nlayer_decay = [0.9]\nclip_norm = 1.0'
    ).train
    assert (space["mixup"].value, space["optim/lr"].value, space["optim/lr"].search) == (0.0, 0.01, None)
    assert space["optim/layer_decay"].search == Choice((0.9,))
    assert (space["optim/clip_norm"].value, space["optim/name"].value) == (1.0, "adamw")
    given = with_preset({"preset": "few-shot", "optim": {"lr": {"low": 1e-3, "high": 1e-2}}})
    assert given["optim"] == {"lr": {"low": 1e-3, "high": 1e-2}, "weight_decay": 0.0}


def test_a_preset_that_there_is_not() -> None:
    """One line with the nearest name and all of them."""
    with pytest.raises(UserError, match="no preset 'few_shot', did you mean 'few-shot'") as refused:
        made('preset = "few_shot"')
    assert refused.value.key == "train.preset"
    assert all(preset.source for preset in PRESETS.values())
