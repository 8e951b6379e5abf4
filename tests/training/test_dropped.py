"""What is left out at random in training: residual branches and features; as often as asked, by seed and step."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import parse
from cotuning_tune.models import Pretrained, TransferModel
from cotuning_tune.search.checks import check_studies
from cotuning_tune.training import TrainConfig
from cotuning_tune.training.job import make_trainer
from tests.training.test_trainer import spec_of

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
[task]
size = 16
resize = 16
[data.synthetic]
classes = 2
images = 20
[train]
drop_path = DROPS
"""


def model_of(source: Pretrained) -> TransferModel:
    return TransferModel(source, 3, torch.Generator().manual_seed(0)).train()


def test_as_many_branches_are_dropped_as_asked(residual: Pretrained) -> None:
    """The last one's share is the option's, those before keep their part of it; what is kept makes up for it."""
    model, seen = model_of(residual), list[tuple[Tensor, Tensor]]()
    model.backbone.set_drop_path(0.6)
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.register_forward_hook(lambda _m, given, output: seen.append((given[0], output)))
    images = torch.randint(0, 256, (2000, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.manual_seed(0)
    model(images)
    assert len(seen) == 2
    for (given, output), share in zip(seen, (0.3, 0.6), strict=True):
        dropped = (output == 0).flatten(1).all(1)
        assert dropped.float().mean().item() == pytest.approx(share, abs=0.04)
        torch.testing.assert_close(output[~dropped], given[~dropped] / (1 - share))
    seen.clear()
    model.eval()(images)
    assert all(output.equal(given) for given, output in seen)


def test_as_many_features_are_zeroed_as_asked(residual: Pretrained) -> None:
    """In training alone, before the new head alone, and instead of the backbone's own last dropout."""
    model, seen = model_of(residual), list[Tensor]()
    model.set_dropout(0.4)
    model.head.register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
    images = torch.randint(0, 256, (1000, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features = model(images).features
    assert (features == 0).float().mean() < 0.01
    zeroed = seen[0] == 0
    assert zeroed.float().mean().item() == pytest.approx(0.4, abs=0.03)
    torch.testing.assert_close(seen[0][~zeroed], features[~zeroed] / 0.6)
    assert model.eval()(images).features.equal(seen[1])
    own = residual.backbone.chain[-1]
    assert isinstance(own, nn.Dropout)
    assert own.p == 0.25


@pytest.mark.parametrize(("train", "own", "new"), [({}, 0.25, 0.0), ({"dropout": 0.0}, 0.0, 0.0)], ids=str)
def test_left_alone_the_backbone_keeps_its_own(
    residual: Pretrained, train: dict[str, float], own: float, new: float
) -> None:
    """By default nothing of the backbone is touched; 0 switches its own last dropout off."""
    model = make_trainer(spec_of(**train)).model
    last = model.backbone.chain[-1]
    assert isinstance(last, nn.Dropout)
    assert (last.p, model.dropout.p) == (own, new)
    assert not any(isinstance(module, StochasticDepth) for module in model.modules())
    assert model.state_dict().keys() == model_of(residual).state_dict().keys()


@pytest.mark.parametrize("train", [{"dropout": 0.5}, {"drop_path": 0.5}], ids=str)
@pytest.mark.usefixtures("residual")
def test_what_is_dropped_follows_from_seed_and_step(train: dict[str, float]) -> None:
    """Whatever the global generator has drawn since; another step, and another seed, drop others."""
    found = []
    for seed, step, drawn in ((0, 3, 0), (0, 3, 77), (0, 4, 0), (1, 3, 0)):
        trainer = make_trainer(spec_of(min_scale=1.0, seed=seed, **train))
        batch = trainer.load_batch(list(range(10)))
        trainer._train_mode()
        trainer.step = step
        torch.manual_seed(drawn)
        trainer.train_step(batch)
        found.append(copy.deepcopy(trainer.model.head.weight.grad))
    first, same, other_step, other_seed = found
    assert first is not None
    assert first.equal(same)
    assert not first.equal(other_step)
    assert not first.equal(other_seed)


@pytest.mark.parametrize("drops", ["0.1", "{ low = 0.0, high = 0.1 }", "[-1, 0.1]"])
def test_a_backbone_without_branches_is_refused(drops: str) -> None:
    """Before anything runs, also where the value may be drawn alone; 0 asks for nothing."""
    with pytest.raises(UserError) as refused:
        check_studies(parse(TEXT.replace("DROPS", drops), "none"))
    assert refused.value.key == "train.drop_path"
    assert str(refused.value).startswith("train.drop_path = 0.1: this backbone has no residual branches")
    assert check_studies(parse(TEXT.replace("DROPS", "0"), "none"))


@pytest.mark.parametrize("name", ["drop_path", "dropout"])
@pytest.mark.parametrize("value", [1.0, -0.5])
def test_shares_that_mean_nothing(name: str, value: float) -> None:
    words = f"train.{name} = {value}: from 0 to below 1, or -1 (as the backbone has it), is needed"
    with pytest.raises(UserError) as refused:
        TrainConfig(**{name: value})  # type: ignore[arg-type]
    assert str(refused.value) == words
