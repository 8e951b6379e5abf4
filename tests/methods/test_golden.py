"""The numbers of the published code: each term and its gradient against arrays that it gave (float64)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cotuning_tune.methods.bi_tuning import classifier_contrast, enqueued, projection_contrast
from cotuning_tune.methods.bss import shrinkage
from cotuning_tune.methods.co_tuning import soft_cross_entropy
from cotuning_tune.methods.delta import attention_distance
from cotuning_tune.methods.l2_sp import half_squared_distance
from cotuning_tune.methods.lwf import distillation

FILE = Path(__file__).parents[1] / "golden" / "losses.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """The stored arrays as tensors, by name."""
    with np.load(FILE) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def assert_golden(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.detach(), expected, rtol=1e-6, atol=1e-12)


def leaf(value: Tensor) -> Tensor:
    return value.clone().requires_grad_()


def test_bi_tuning_is_that_of_its_authors(golden):
    """Terms and queues: the projection's is of the queues before the batch, the classifier's of those after it."""
    labels, temperature = golden["bi_labels_B"], float(golden["bi_T"])
    projection = projection_contrast(
        golden["bi_z_query_BZ"], golden["bi_z_key_BZ"], golden["bi_queue_z_ZCK"], labels, temperature
    )
    assert_golden(projection, golden["bi_contrastive_z"])
    after = {}
    for kind, shape in (("h", "FCK"), ("z", "ZCK")):
        keys = golden[f"bi_{kind}_key_B{shape[0]}"]
        after[kind] = enqueued(golden[f"bi_queue_{kind}_{shape}"], keys, labels, torch.zeros(3, dtype=torch.int64))
        assert_golden(after[kind], golden[f"bi_queue_{kind}_after_{shape}"])
    head = nn.Linear(7, 3).double()
    head.load_state_dict({"weight": golden["bi_head_weight_CD"], "bias": golden["bi_head_bias_C"]})
    classifier = classifier_contrast(golden["bi_h_query_BF"], head, after["h"], labels, temperature)
    assert_golden(classifier, golden["bi_contrastive_y"])


@pytest.mark.parametrize("k", [1, 3])
def test_bss_is_that_of_its_authors(golden, k):
    """The k smallest squared singular values and their gradient are the published code's."""
    features = leaf(golden["bss_features_BD"])
    loss = shrinkage(features, k)
    loss.backward()
    assert_golden(loss, golden[f"bss_k{k}_loss"])
    assert_golden(features.grad, golden[f"bss_k{k}_grad"])


def test_soft_cross_entropy_is_that_of_its_authors(golden):
    """Co-tuning's term and its gradient with respect to the source logits are the published code's."""
    logits = leaf(golden["co_tuning_logits_BS"])
    loss = soft_cross_entropy(logits, golden["co_tuning_target_BS"])
    loss.backward()
    assert_golden(loss, golden["co_tuning_loss"])
    assert_golden(logits.grad, golden["co_tuning_grad"])


@pytest.mark.parametrize("temperature", [1, 3])
def test_distillation_is_that_of_its_authors(golden, temperature):
    """LwF's term and its gradient with respect to the student's logits are the published code's."""
    logits = leaf(golden["lwf_student_BS"])
    loss = distillation(logits, golden["lwf_teacher_BS"], temperature)
    loss.backward()
    assert_golden(loss, golden[f"lwf_T{temperature}_loss"])
    assert_golden(logits.grad, golden[f"lwf_T{temperature}_grad"])


def l2sp_layer(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: golden[f"{prefix}_{name}"] for name in ("weight", "bias")}


@pytest.mark.parametrize("form", [dict, lambda layer: list(layer.values())], ids=["dicts", "sequences"])
def test_l2_sp_is_that_of_its_authors(golden, form):
    """Half the squared distance is the published code's, its gradient the distance itself."""
    now = {name: leaf(value) for name, value in l2sp_layer(golden, "l2sp_w").items()}
    then = l2sp_layer(golden, "l2sp_w0")
    loss = half_squared_distance(form(now), form(then))
    loss.backward()
    assert_golden(loss, golden["l2sp_half_squared_distance"])
    for name, value in now.items():
        assert_golden(value.grad, (value - then[name]).detach())


def test_l2_sp_matches_dicts_by_name(golden):
    """Two dicts in another order are the same distance."""
    now, then = l2sp_layer(golden, "l2sp_w"), l2sp_layer(golden, "l2sp_w0")
    turned = dict(reversed(then.items()))
    assert_golden(half_squared_distance(now, turned), golden["l2sp_half_squared_distance"])


def test_distance_to_zero_is_the_l2_norm(golden):
    """From a start at zero the distance is half the squared norm."""
    now = l2sp_layer(golden, "l2sp_w")
    zeros = {name: torch.zeros_like(value) for name, value in now.items()}
    assert_golden(half_squared_distance(now, zeros), golden["l2_half_squared_norm"])


@pytest.mark.parametrize(
    ("now", "then", "message"),
    [
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, r"names differ: \['a', 'b'\]"),
        ([torch.ones(2)], [torch.ones(2), torch.ones(2)], "1 tensors and 2 starting points"),
        ([], [], "0 tensors and 0 starting points"),
    ],
    ids=["names", "counts", "nothing"],
)
def test_l2_sp_refuses_what_does_not_match(now, then, message):
    """Other names, another count or nothing at all is an error that says so."""
    with pytest.raises(ValueError, match=message):
        half_squared_distance(now, then)


def maps_of(golden: dict[str, Tensor], side: str) -> dict[str, Tensor]:
    return {layer: golden[f"delta_{side}_{layer}_BCHW"] for layer in ("a", "b")}


def attention_in(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {layer: golden[f"delta_attention_{layer}"] for layer in ("a", "b")}


@pytest.mark.parametrize(
    ("attention", "expected"),
    [(attention_in, "delta_attention_loss"), (lambda golden: None, "delta_plain_loss")],
    ids=["attention", "plain"],
)
def test_delta_is_that_of_its_authors(golden, attention, expected):
    """The distance of the maps, with and without channel attention, is the published code's."""
    loss = attention_distance(maps_of(golden, "source"), maps_of(golden, "target"), attention(golden))
    assert_golden(loss, golden[expected])


def test_delta_moves_the_target_maps_alone(golden):
    """The gradient is ``C / (H W) * attention * difference`` at the target maps, and none at the source's."""
    source = {layer: leaf(value) for layer, value in maps_of(golden, "source").items()}
    target = {layer: leaf(value) for layer, value in maps_of(golden, "target").items()}
    attention = attention_in(golden)
    attention_distance(source, target, attention).backward()
    for layer, value in target.items():
        channels, height, width = value.shape[1:]
        scale = attention[layer][:, None, None] * channels / (height * width)
        assert_golden(value.grad, (scale * (value - source[layer])).detach())
        assert source[layer].grad is None


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [({"a": 1}, {"b": 1}, r"layers differ: \['a', 'b'\]"), ({}, {}, "no maps to compare")],
    ids=["layers", "nothing"],
)
def test_delta_refuses_what_does_not_match(source, target, message):
    """Other layers, or none, is an error that says so."""
    with pytest.raises(ValueError, match=message):
        attention_distance(source, target, None)
