"""The logistic regressions of the relationship, for every strength C, and the choice among them.

Shapes: N training images, M validation images, B images of either split, S source classes,
T target classes, K target classes that have a training image, D directions (as many as source
classes), R of them that a fit iterates on.

How the 17 logistic regressions are made fast; the objective is scikit-learn's throughout.

1. Directions D stand by falling energy (sum of squares of the features along them): source classes,
   or, beyond `_EXACT_LIMIT` where most are used, the principal directions; a turn leaves penalty and
   optimum as they are. Where c * energy << 1 the objective is hardly curved: a fit iterates on the
   directions above a threshold, one gradient step sets the others.
2. The path runs from the smallest c to the largest, each fit starting on the parabola (in log c)
   through the last three. It never stops early: all 17 accuracies are computed.
3. Each fit is Newton's method, its systems solved by conjugate gradients. The preconditioner adds
   two inverse diagonals of the Hessian: of the classes as they are, and rotated into the eigenbasis
   of their mean covariance. In the hard cases both need a sixth of the iterations of the first.
4. Up to `_EXACT_LIMIT` numbers (N * S * K) all fits are in float64 and converged. Beyond, float32
   and a heuristic: the path stops at about 2e-3 nats an image, then at most three fits within 0.5 %
   of the best accuracy are taken to 2e-5 (work is capped) and the best of them is chosen.
   In a near-tie that may be another c than converged fits choose, with visibly other single rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_C_VALUES = (*(float(f"{m}e{e}") for e in range(-4, 4) for m in (1, 3)), 1e4)
_EXACT_LIMIT = 2**26
_FINALISTS = 3
_NEAR_TIE = 0.005


class Split(NamedTuple):
    """Source probabilities and target labels of the training or the validation split."""

    p_BS: Tensor
    labels_B: Tensor


@dataclass(frozen=True)
class _Effort:
    """How far a fit is taken.

    `gap`: nats an image that the last Newton step promises at most. `forcing`: share of the mean
    gain below which conjugate gradients end. `curved`: least c * (sum of squared probabilities) of
    a direction that is iterated on. `products`: the most products with the Hessian in one
    Newton step; after as many in all, no further step begins.
    """

    dtype: torch.dtype
    gap: float
    forcing: float
    curved: float
    products: int


_EXACT = _Effort(torch.float64, gap=1e-13, forcing=0.1, curved=1e-9, products=100_000)
_SEARCH = _Effort(torch.float32, gap=2e-3, forcing=0.3, curved=1.0, products=60)
_POLISH = _Effort(torch.float32, gap=2e-5, forcing=0.3, curved=0.1, products=100)


@dataclass(frozen=True, eq=False)
class _Images:
    """Training images along the directions, those by falling sum of squares (`energies_D`)."""

    features_DN: Tensor
    energies_D: Tensor
    targets_NK: Tensor


@dataclass(frozen=True, eq=False)
class Classifier:
    """One point of the path. `hits`: the validation images it gets right."""

    c: float
    weights_SK: Tensor
    hits: int


@dataclass(frozen=True, eq=False)
class _Step:
    """A Newton step, its change of the logits, the fall of the objective it promises."""

    weights_RK: Tensor
    logits_NK: Tensor
    gain: float
    products: int


def choose_classifier(train: Split, val: Split) -> Classifier:
    """The logistic regression of best validation accuracy, in float64; labels are 0..K-1."""
    classes = int(train.labels_B.max()) + 1
    effort = _EXACT if train.p_BS.numel() * classes <= _EXACT_LIMIT else _SEARCH
    energies_D, turn = _directions(train.p_BS, effort)
    features_DN = _turned(train.p_BS, turn).to(effort.dtype).T.contiguous()
    images = _Images(features_DN, energies_D, torch.eye(classes).to(features_DN)[train.labels_B])
    turned_MD = _turned(val.p_BS, turn).to(effort.dtype)
    # For two classes scikit-learn fits one row w: rows -w / 2 and w / 2 have the same probabilities and half its
    # penalty, so that half its C makes c * NLL + ||W||^2 / 2 half its objective.
    halving = 2.0 if classes == 2 else 1.0

    def classifier(c: float, start_DK: Tensor, effort: _Effort) -> Classifier:
        weights_DK = _fit(images, start_DK, c / halving, effort)
        hits_M = (turned_MD @ weights_DK).argmax(1) == val.labels_B
        return Classifier(c, weights_DK, int(hits_M.sum()))

    path: list[Classifier] = []
    for c in _C_VALUES:
        path.append(classifier(c, _extrapolate(path[-3:], c, images), effort))
    path.sort(key=lambda point: (point.hits, point.c))
    if effort is not _EXACT:
        least = path[-1].hits - _NEAR_TIE * len(val.labels_B)
        finalists = [point for point in path[-_FINALISTS:] if point.hits >= least]
        path = [classifier(point.c, point.weights_SK, _POLISH) for point in finalists]
    best = max(path, key=lambda point: (point.hits, point.c))
    return Classifier(best.c, _turned_back(best.weights_SK.double(), turn), best.hits)


def _directions(p_NS: Tensor, effort: _Effort) -> tuple[Tensor, Tensor]:
    """Energies [D], falling, and what they belong to: source classes [D], or the columns of a turn [S, D].

    Where most source classes are used, the diagonals of the preconditioner fit principal directions
    better: half of the time at N = 5000, S = 1000. Where few are, they are the directions already.
    """
    energies_D, order_D = (p_NS**2).sum(0).sort(descending=True, stable=True)
    used = int((energies_D * _C_VALUES[-1] > effort.curved).sum())
    if effort is _EXACT or 2 * used <= len(order_D):
        return energies_D, order_D
    energies_D, turn_SD = torch.linalg.eigh(p_NS.T @ p_NS)
    return energies_D.flip(0), turn_SD.flip(1)


def _turned(p_BS: Tensor, turn: Tensor) -> Tensor:
    """Source probabilities along the directions."""
    return p_BS[:, turn] if turn.ndim == 1 else p_BS @ turn


def _turned_back(weights_DK: Tensor, turn: Tensor) -> Tensor:
    """Weights of the directions as weights of the source classes."""
    return weights_DK[turn.argsort()] if turn.ndim == 1 else turn @ weights_DK


def _extrapolate(points: list[Classifier], c: float, images: _Images) -> Tensor:
    """Weights at c on the polynomial in log c through the points (Lagrange); zeros without any."""
    start_DK = images.features_DN.new_zeros(len(images.features_DN), images.targets_NK.shape[1])
    for point in points:
        others = [other.c for other in points if other is not point]
        factor = math.prod(math.log(c / x) / math.log(point.c / x) for x in others)
        start_DK += factor * point.weights_SK
    return start_DK


def _fit(images: _Images, start_DK: Tensor, c: float, effort: _Effort) -> Tensor:
    """Minimiser of c * NLL + ||W||^2 / 2: Newton where it is curved, else a gradient step."""
    rank = int((images.energies_D * c > effort.curved).sum())
    features_RN, weights_RK = images.features_DN[:rank], start_DK[:rank]
    logits_NK = features_RN.T @ weights_RK
    products = 0
    while products < effort.products:
        p_NK = torch.softmax(logits_NK, dim=1)
        gradient_RK = c * (features_RN @ (p_NK - images.targets_NK)) + weights_RK
        step = _newton_step(features_RN, p_NK, gradient_RK, c, effort)
        length = _step_length(images, weights_RK, logits_NK, step, c)
        weights_RK = weights_RK + length * step.weights_RK
        logits_NK = logits_NK + length * step.logits_NK
        products += step.products
        if length == 0.0 or step.gain <= effort.gap * c * len(logits_NK):
            break
    residual_NK = torch.softmax(logits_NK, dim=1) - images.targets_NK
    return torch.cat([weights_RK, -c * (images.features_DN[rank:] @ residual_NK)])


def _newton_step(x_RN: Tensor, p_NK: Tensor, grad_RK: Tensor, c: float, effort: _Effort) -> _Step:
    """Conjugate gradients, ended where an iteration adds little (Nash and Sofer's rule, 1990)."""
    precondition = _preconditioner(x_RN, p_NK, c)
    step_RK, change_NK = torch.zeros_like(grad_RK), torch.zeros_like(p_NK)
    residual_RK = -grad_RK
    direction_RK = precondition(residual_RK)
    size, gain, products = _dot(residual_RK, direction_RK), 0.0, 0
    while products < effort.products and size > 0.0:
        along_NK = x_RN.T @ direction_RK
        weighted_NK = p_NK * along_NK
        weighted_NK -= p_NK * weighted_NK.sum(1, keepdim=True)
        curved_RK = torch.add(direction_RK, x_RN @ weighted_NK, alpha=c)
        length = size / _dot(direction_RK, curved_RK)
        step_RK.add_(direction_RK, alpha=length)
        change_NK.add_(along_NK, alpha=length)
        residual_RK.add_(curved_RK, alpha=-length)
        gain, products = gain + 0.5 * length * size, products + 1
        if 0.5 * length * size * products <= effort.forcing * gain:
            break
        conditioned_RK = precondition(residual_RK)
        previous, size = size, _dot(residual_RK, conditioned_RK)
        direction_RK = conditioned_RK.add_(direction_RK, alpha=size / previous)
    return _Step(step_RK, change_NK, gain, products)


def _preconditioner(features_RN: Tensor, p_NK: Tensor, c: float) -> Callable[[Tensor], Tensor]:
    """Division by the Hessian's diagonal plus, in the eigenbasis of the classes, the same there."""
    covariance_KK = torch.diag(p_NK.mean(0)) - p_NK.T @ p_NK / len(p_NK)
    rotation_KK = torch.linalg.eigh(covariance_KK)[1]
    variances_NK = (p_NK @ rotation_KK**2 - (p_NK @ rotation_KK) ** 2).clamp_min(0.0)
    squares_RN = features_RN**2
    diagonal_RK = 1.0 + c * (squares_RN @ (p_NK * (1.0 - p_NK)))
    rotated_diagonal_RK = 1.0 + c * (squares_RN @ variances_NK)

    def precondition(vector_RK: Tensor) -> Tensor:
        rotated_RK = (vector_RK @ rotation_KK) / rotated_diagonal_RK
        return torch.addmm(vector_RK / diagonal_RK, rotated_RK, rotation_KK.T)

    return precondition


def _step_length(images: _Images, w_RK: Tensor, logits_NK: Tensor, step: _Step, c: float) -> float:
    """The longest of 1, 1/2, 1/4 ... that lowers the objective (Armijo), 0 if rounding hides it."""
    before = _objective(images, w_RK, logits_NK, c)
    rounding = 4 * torch.finfo(w_RK.dtype).eps * abs(before)
    for length in (0.5**halvings for halvings in range(30)):
        moved_RK = w_RK + length * step.weights_RK
        after = _objective(images, moved_RK, logits_NK + length * step.logits_NK, c)
        if after <= before - 1e-4 * length * step.gain + rounding:
            return length
    return 0.0


def _objective(images: _Images, weights_RK: Tensor, logits_NK: Tensor, c: float) -> float:
    """c * NLL + ||W||^2 / 2, summed in float64."""
    label_logits_N = (logits_NK * images.targets_NK).sum(1)
    nll = (torch.logsumexp(logits_NK, dim=1) - label_logits_N).sum(dtype=torch.float64)
    return float(c * nll + 0.5 * (weights_RK**2).sum(dtype=torch.float64))


def _dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum(dtype=torch.float64))
