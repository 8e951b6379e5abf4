"""Networks of tokens: every method trains a vision transformer, DELTA compares its tokens as maps."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from cotuning_tune.data import Task, TaskConfig, open_task
from cotuning_tune.methods import Preparation, method, names
from cotuning_tune.methods._channel_attention import by_first_order, channel_attention
from cotuning_tune.methods.l2_sp import regularised
from cotuning_tune.models import Pretrained, TransferModel
from cotuning_tune.models.images import torchvision_models as tv
from cotuning_tune.models.images._weights import take_head
from cotuning_tune.training import TrainConfig, Trainer


@pytest.fixture(scope="module")
def transformer() -> Pretrained:
    """A vision transformer of four layers and sixteen channels, for images of 32 pixels."""
    torch.manual_seed(11)
    network = VisionTransformer(32, 8, 4, 2, 16, 32, num_classes=7)
    nn.init.normal_(network.heads.head.weight, generator=torch.Generator().manual_seed(12))
    head = take_head(network, "heads.head")
    return Pretrained("vit_tiny", tv.assemble(network), head, temperature=1.0)


@pytest.fixture(scope="module")
def task() -> Task:
    return open_task("synthetic", 1.0, TaskConfig(size=32, resize=36), {"classes": 3, "images": 8})


@pytest.mark.parametrize("name", names())
def test_every_method_trains_a_transformer(transformer, task, name):
    """An epoch of each method moves backbone and head, or says which of them stands still; every term is finite."""
    if name == "stoch_norm":
        pytest.skip("a transformer has no BatchNorm: refused, see test_variants")
    model = TransferModel(transformer, task.num_classes, torch.Generator().manual_seed(0))
    made = method(name)(method(name).Config(), model, task)
    made.check(transformer)
    made.setup(Preparation(task, transformer, torch.device("cpu")))
    trainer = Trainer(model, made, task, TrainConfig(epochs=1, batch_size=9), seed=0)
    before = copy.deepcopy(model.state_dict())
    row = trainer.train_epoch()
    assert all(torch.tensor(value).isfinite() for value in row.values())
    after = model.state_dict()
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    head, backbone = {"head"} if made.trains else set(), set() if made.still(1.0) else {"backbone"}
    assert moved - {"source_head"} == head | backbone


def slow_rise(source: Pretrained, stage: str, images: Tensor, labels: Tensor, channel: int, share: float) -> Tensor:
    """The rise of the loss with a share of a channel of all tokens taken away, divided by the share."""
    backbone, head = copy.deepcopy(source.backbone).double(), copy.deepcopy(source.source_head).double()

    def loss() -> Tensor:
        return nn.functional.cross_entropy(head(backbone(images)[0]), labels)

    def weaken(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        weaker = output.clone()
        weaker[..., channel] *= 1 - share
        return weaker

    with torch.no_grad():
        whole = loss()
        backbone.tap(stage).register_forward_hook(weaken)
        return (loss() - whole) / share


def test_the_rise_is_that_of_a_small_weakening(transformer):
    """To first order the loss rises as it does when a thousandth of a channel is taken away, class token included."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (20, 3, 32, 32), generator=generator)
    labels = torch.randint(0, 7, (20,), generator=generator)
    backbone, head = copy.deepcopy(transformer.backbone).double(), copy.deepcopy(transformer.source_head).double()
    with torch.no_grad():
        rises = by_first_order(backbone, list(backbone.taps), images, head, labels)
    for stage in ("stage1", "stage3"):
        for channel in (0, 7, 15):
            expected = slow_rise(transformer, stage, images, labels, channel, 1e-4)
            assert rises[stage][channel].item() == pytest.approx(expected.item(), rel=2e-2, abs=1e-5)


def test_attention_of_tokens_sums_to_one(transformer, task):
    """Each of the four depths has an attention over its channels; no hook stays behind."""
    preparation = Preparation(task, transformer, torch.device("cpu"))
    attention = channel_attention(preparation)
    assert {stage: len(shares) for stage, shares in attention.items()} == dict.fromkeys(transformer.backbone.taps, 16)
    for shares in attention.values():
        assert shares.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert attention["stage2"].unique().numel() > 8
    assert [m for m in transformer.backbone.modules() if m._forward_hooks] == []


def test_l2_sp_holds_a_transformers_weights(transformer):
    """Patch, attention and linear weights are held; class token, positions, biases and normalisation are not."""
    held = {id(p) for p in regularised(transformer.backbone)}
    names_of_held = {
        key.rsplit("encoder_layer_", 1)[-1] for key, p in transformer.backbone.named_parameters() if id(p) in held
    }
    one_layer = {"self_attention.in_proj_weight", "self_attention.out_proj.weight", "mlp.0.weight", "mlp.3.weight"}
    assert names_of_held == {"chain.0.conv_proj.weight"} | {f"{n}.{key}" for n in range(4) for key in one_layer}
