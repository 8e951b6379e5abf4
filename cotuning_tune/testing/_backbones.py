"""What every backbone for images must do, whatever it computes; it is tried with random weights."""

import copy
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from cotuning_tune.models import Backbone, Pretrained, TransferModel, pretrained
from cotuning_tune.testing._trainings import spec_of
from cotuning_tune.training import TrainingJob


def images(count: int = 2, side: int = 64) -> Tensor:
    """Noise, the same every time."""
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)


def assert_maps_as_tapped(backbone: Backbone, pixels: Tensor) -> dict[str, Tensor]:
    """Each stage has a map with the channels that its tap says, of falling resolution; the maps."""
    with torch.no_grad():
        maps: dict[str, Tensor] = backbone(pixels)[1]
    assert maps.keys() == backbone.taps.keys()
    sides = [found.shape[2] for found in maps.values()]
    assert sides == sorted(sides, reverse=True)
    for stage, found in maps.items():
        assert found.shape == (len(pixels), backbone.taps[stage].channels, found.shape[2], found.shape[2]), stage
    return maps


def assert_copy_is_independent(backbone: Backbone, pixels: Tensor) -> None:
    """A deep copy shares no weights, and takes the weights of the first back from its state dict."""
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        before = backbone(pixels)[0]
        for weights in other.parameters():
            weights.zero_()
        assert torch.equal(backbone(pixels)[0], before)
        assert not torch.equal(other(pixels)[0], before)
        other.load_state_dict(backbone.state_dict())
        assert torch.equal(other(pixels)[0], before)


def make_model(source: Pretrained, classes: int = 5, seed: int = 0) -> TransferModel:
    """The network that a method trains."""
    return TransferModel(source, classes, torch.Generator().manual_seed(seed))


class BackboneConformance:
    """Subclass it as ``class TestMine(BackboneConformance): backbone = "mine"``.

    ``weights``: as in the experiment file; ``side``: of the images, in pixels.
    """

    backbone: ClassVar[str]
    weights: ClassVar[str] = "random"
    side: ClassVar[int] = 64

    @pytest.fixture
    def name(self) -> str:
        """The backbone; a fixture of several in a subclass tries each."""
        return self.backbone

    @pytest.fixture
    def source(self, name: str) -> Pretrained:
        """It with its head, as published."""
        return pretrained(name, self.weights)

    @pytest.fixture
    def evaluated(self, source: Pretrained) -> Backbone:
        """A copy in evaluation mode."""
        return copy.deepcopy(source.backbone).eval()

    def test_maps_are_as_tapped(self, evaluated: Backbone) -> None:
        """There is a map of each stage, with the channels that its tap says, of falling resolution."""
        assert_maps_as_tapped(evaluated, images(side=self.side))

    def test_features_fit_the_head(self, source: Pretrained, evaluated: Backbone) -> None:
        """Features are finite numbers, as many as the source head takes, and not the same of any two images."""
        with torch.no_grad():
            features_BD = evaluated(images(side=self.side))[0]
        assert features_BD.shape == (2, source.source_head.in_features)
        assert features_BD.isfinite().all()
        assert not torch.equal(features_BD[0], features_BD[1])

    def test_a_copy_is_independent_and_its_weights_fit(self, evaluated: Backbone) -> None:
        """A deep copy shares no weights, and takes the weights of the first back from its state dict."""
        assert_copy_is_independent(evaluated, images(side=self.side))

    def test_it_is_the_same_every_time(self, name: str) -> None:
        """Its weights do not depend on the global generator, and making it does not touch that."""
        keys = []
        for seed in (1, 99):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            keys.append(pretrained.__wrapped__(name, self.weights).fingerprint)
            assert torch.equal(torch.get_rng_state(), before)
        assert keys[0] == keys[1]

    def test_a_model_starts_at_the_pretrained_weights(self, source: Pretrained) -> None:
        """Backbone and source head of a new model are those of the pre-trained network."""
        model = make_model(source)
        for mine, theirs in ((model.backbone, source.backbone), (model.source_head, source.source_head)):
            for key, value in theirs.state_dict().items():
                assert torch.equal(mine.state_dict()[key], value)

    def test_training_a_model_leaves_the_pretrained_one(self, source: Pretrained) -> None:
        """Training a model changes neither weights nor statistics of the network that it was made from."""
        before = copy.deepcopy([source.backbone.state_dict(), source.source_head.state_dict()])
        model = make_model(source)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        outputs = model(images(4, self.side))
        (outputs.logits.sum() + model.source_head(outputs.features).sum()).backward()
        optimiser.step()
        pairs = zip(model.backbone.parameters(), source.backbone.parameters(), strict=True)
        assert any(not torch.equal(mine, theirs) for mine, theirs in pairs)
        for old, now in zip(before, (source.backbone, source.source_head), strict=True):
            assert all(torch.equal(value, now.state_dict()[key]) for key, value in old.items())

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
    def test_pixels_of_any_type(self, evaluated: Backbone, dtype: torch.dtype) -> None:
        """Grey levels give the same features as whole numbers and as floating ones."""
        pixels = images(side=self.side)
        with torch.no_grad():
            assert torch.equal(evaluated(pixels.to(dtype))[0], evaluated(pixels)[0])

    def test_the_chain_in_parts_is_the_whole(self, evaluated: Backbone) -> None:
        """Running the chain up to any link and on from there gives the features of a whole pass."""
        pixels, links = images(side=self.side), len(evaluated.chain)
        with torch.no_grad():
            whole = evaluated(pixels)[0]
            for link in range(links):
                middle = evaluated.run(evaluated.normalised(pixels), 0, link)
                assert torch.equal(evaluated.run(middle, link, links), whole)

    def test_a_forward_leaves_no_hook(self, evaluated: Backbone) -> None:
        """A forward pass leaves no hook behind, neither does one that fails."""
        before = [len(module._forward_hooks) for module in evaluated.modules()]
        evaluated(images(side=self.side))
        with pytest.raises(RuntimeError):
            evaluated(torch.zeros(1, 5, self.side, self.side))
        assert [len(module._forward_hooks) for module in evaluated.modules()] == before

    def test_every_parameter_lies_in_one_layer(self, source: Pretrained) -> None:
        """The layers, by which rates differ and parts stand still, hold each parameter once."""
        listed = [id(parameter) for layer in source.backbone.layers for parameter in layer]
        assert sorted(listed) == sorted(map(id, source.backbone.parameters()))

    def test_it_is_trained(self, name: str) -> None:
        """An epoch of plain fine-tuning changes its weights and ends with a score."""
        sizes = {"size": self.side, "resize": self.side, "min_scale": 0.5}
        spec = replace(spec_of("fine_tune"), backbone=name, weights=self.weights, task_config=sizes)
        job = TrainingJob(spec)
        assert 0 <= job.advance()["val_score"] <= 100
        trained, first = job.trainer.model.backbone.state_dict(), pretrained(name, self.weights).backbone.state_dict()
        assert any(not torch.equal(value, first[key]) for key, value in trained.items())
