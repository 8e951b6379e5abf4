"""Batch spectral shrinkage against the singular value decomposition that it avoids."""

import math

import pytest
import torch
from torch import Tensor

from cotuning_tune.methods.bss import shrinkage

SHAPES = pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)], ids=["B<D", "B>D", "B=D"])


def features_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def reference(features_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Value and gradient through torch's own decomposition."""
    features = features_BD.clone().requires_grad_()
    loss = torch.linalg.svdvals(features).flip(0)[:k].square().sum()
    loss.backward()
    return loss.detach(), features.grad


def computed(features_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Value and gradient of the method's own function."""
    features = features_BD.clone().requires_grad_()
    loss = shrinkage(features, k)
    loss.backward()
    return loss.detach(), features.grad


@SHAPES
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_it_is_the_sum_of_the_smallest_squared_singular_values(shape, k, dtype, tolerance):
    """Value and gradient are those of torch.linalg.svdvals in double precision, for every shape."""
    features = features_of(*shape)
    found = computed(features.to(dtype), k)
    expected = tuple(part.to(dtype) for part in reference(features, k))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@SHAPES
def test_all_singular_values_are_the_squared_norm(shape):
    """Where k exceeds the number of singular values the sum is the squared Frobenius norm."""
    features = features_of(*shape)
    loss, gradient = computed(features, k=100)
    torch.testing.assert_close(loss, features.square().sum())
    torch.testing.assert_close(gradient, 2 * features)


def test_a_batch_of_one_has_one_singular_value():
    """Of a single image the term is the squared length of its features."""
    features = features_of(1, 7)
    torch.testing.assert_close(shrinkage(features, 1), features.square().sum())


@pytest.mark.parametrize("k", [0, -1])
def test_no_singular_value_is_refused(k):
    """k below one is an error that says so."""
    with pytest.raises(ValueError, match=f"k = {k}: at least one singular value"):
        shrinkage(features_of(3, 5), k)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shape", [(6, 20), (20, 6)], ids=["B<D", "B>D"])
def test_equal_rows_give_a_finite_gradient(shape, k):
    """A batch of one image repeated has rank one: the term is zero and its gradient finite, with no 0/0."""
    loss, gradient = computed(features_of(1, shape[1]).repeat(shape[0], 1), k)
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


def test_autocast_does_not_coarsen_it():
    """Under bfloat16 autocast a small singular value beside large ones is found as exactly as without."""
    features = features_of(16, 64).float()
    features += 100 * features_of(16, 1).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = shrinkage(features, 1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, shrinkage(features, 1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_give_a_term_that_is_not(bad):
    """A diverged batch ends in a term that the loop reports, not in an error of the decomposition."""
    features = features_of(4, 6)
    features[1, 2] = bad
    assert not shrinkage(features, 1).isfinite()
