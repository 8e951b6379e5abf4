"""Calibration of probabilities by one temperature: You et al., NeurIPS 2020, Algorithm 2.

Shapes: B images, S classes.
"""

import math

import torch
from torch import Tensor

_SEPARATED_NLL = 1e-4


def fit_temperature(logits_BS: Tensor, labels_B: Tensor) -> float:
    """The t > 0 that minimises the mean NLL of softmax(logits / t) (Algorithm 2).

    The NLL is convex in 1 / t; the search is Newton's over log t inside a shrinking bracket, so t
    stays positive. fit_temperature(a * logits) = a * fit_temperature(logits). Logits equal within
    each image give 1.

    Data without a minimum: where every label already has the largest logit the NLL falls to 0 with
    t, and t is the largest one with a mean NLL of 1e-4; where the logits say nothing or the
    contrary, t is the upper end of the interval. The interval is 1e-6 to 1e6 times the largest
    difference of a logit from its label's.
    """
    check_split("calibration", logits_BS, labels_B, logits_BS.shape[-1] if logits_BS.ndim else 0)
    if not len(labels_B):
        raise ValueError("there is no image to fit a temperature on; give at least one")
    logits_BS = logits_BS.double()
    gaps_BS = logits_BS - logits_BS.gather(1, labels_B.to(logits_BS.device).long()[:, None])
    widest = gaps_BS.abs().max().item()
    return 1.0 / _fit_scale(gaps_BS, widest) if widest > 0 else 1.0


def _fit_scale(gaps_BS: Tensor, widest: float) -> float:
    """The s > 0 that minimises the mean logsumexp(s * gaps); gaps: logits less their label's."""
    low, high = 1e-6 / widest, 1e6 / widest
    scale = min(max(1.0, low), high)
    for _ in range(200):
        nll, slope, curvature = _scale_derivatives(gaps_BS, scale)
        too_sharp = slope > 0 or nll < _SEPARATED_NLL
        low, high = (low, scale) if too_sharp else (scale, high)
        newton = -slope / (scale * curvature) if curvature > 0 else math.inf
        proposal = scale * math.exp(min(max(newton, -50.0), 50.0))
        if not low < proposal < high:
            proposal = math.sqrt(low * high)
        if abs(math.log(proposal / scale)) < 1e-12:
            break
        scale = proposal
    return scale


def _scale_derivatives(gaps_BS: Tensor, scale: float) -> tuple[float, float, float]:
    """Mean NLL and its first and second derivative with respect to the scale."""
    scaled_BS = gaps_BS * scale
    nll_B = torch.logsumexp(scaled_BS, dim=1)
    weighted_BS = torch.exp(scaled_BS - nll_B[:, None]) * gaps_BS
    mean_B, square_B = weighted_BS.sum(1), (weighted_BS * gaps_BS).sum(1)
    nll, slope, curvature = torch.stack([nll_B, mean_B, square_B - mean_B**2]).mean(1).tolist()
    return nll, slope, curvature


def check_split(name: str, logits_BS: Tensor, labels_B: Tensor, num_classes: int) -> None:
    """ValueError unless logits are finite [images, classes] and labels integers in range."""
    shape = tuple(logits_BS.shape)
    if len(shape) != 2 or not logits_BS.is_floating_point() or shape[1] == 0:
        raise ValueError(
            f"{name} logits are {logits_BS.dtype} of shape {shape}; "
            "expected floating point of shape [images, source classes]"
        )
    if labels_B.is_floating_point() or labels_B.is_complex() or labels_B.dtype == torch.bool:
        raise ValueError(f"{name} labels are {labels_B.dtype}; expected integers")
    if labels_B.shape != shape[:1]:
        raise ValueError(
            f"{name} labels have shape {tuple(labels_B.shape)}; "
            f"expected [{shape[0]}], one label for each row of the logits"
        )
    if not torch.isfinite(logits_BS).all():
        raise ValueError(f"{name} logits hold nan or inf; all must be finite")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
    if len(labels_B) and not 0 <= int(labels_B.min()) <= int(labels_B.max()) < num_classes:
        raise ValueError(
            f"{name} labels run from {int(labels_B.min())} to {int(labels_B.max())}; "
            f"with {num_classes} classes they must lie in 0..{num_classes - 1}"
        )
