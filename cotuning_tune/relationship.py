"""p(source class | target class), and the temperature of the source network before it.
Source: You, Kou, Long, Wang, "Co-Tuning for Transfer Learning", NeurIPS 2020: Algorithm 1
(relationship) and Algorithm 2 (calibration). Works on the device of the logits it is given.

Shapes: N training images, M validation images, B images of either split, S source classes,
T target classes, K target classes that have a training image, R source classes a fit iterates on.

How the 17 logistic regressions are made fast; the objective is scikit-learn's throughout.

1. Source classes stand by falling sum of squared probabilities. Where c * sum << 1 the objective is
   hardly curved: a fit iterates on those above a threshold, one gradient step sets the others.
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

_APPROACHES = ("direct", "reverse")
_C_VALUES = (*(float(f"{m}e{e}") for e in range(-4, 4) for m in (1, 3)), 1e4)
_EXACT_LIMIT = 2**26
_FINALISTS = 3
_NEAR_TIE = 0.005
_SEPARATED_NLL = 1e-4


@dataclass(frozen=True, eq=False)
class Relationship:
    """p(source class | target class), rows summing to 1, and what was chosen (None for direct)."""

    matrix_TS: Tensor
    chosen_c: float | None
    scale: float | None
    val_accuracy: float | None


@dataclass(frozen=True)
class _Effort:
    """How far a fit is taken.

    `gap`: nats an image that the last Newton step promises at most. `forcing`: share of the mean
    gain below which conjugate gradients end. `curved`: least c * (sum of squared probabilities) of
    a source class that is iterated on. `products`: the most products with the Hessian in one
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


class _Split(NamedTuple):
    """Source probabilities and target labels of the training or the validation split."""

    p_BS: Tensor
    labels_B: Tensor


@dataclass(frozen=True, eq=False)
class _Images:
    """Training images; source classes by falling sum of squared probabilities (`energies_S`)."""

    features_SN: Tensor
    energies_S: Tensor
    targets_NK: Tensor


@dataclass(frozen=True, eq=False)
class _Classifier:
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


def learn_relationship(
    train_logits_NS: Tensor,
    train_labels_N: Tensor,
    val_logits_MS: Tensor,
    val_labels_M: Tensor,
    *,
    num_classes: int,
    temperature: float = 1.0,
    approach: str = "reverse",
) -> Relationship:
    """p(source class | target class) from the source network's logits (Algorithm 1).

    Any floating dtype and device; the result is float64 on the CPU, each row summing to 1.
    `temperature` divides the logits (see `fit_temperature`).

    reverse: multinomial logistic regression from source probabilities to target classes (L2, no
    intercept, scikit-learn's objective), fitted on the training split for 17 values of C, chosen by
    validation accuracy (ties go to the larger C), calibrated there by one positive scale; then
    Bayes, p(source class) being the mean of all images. Two classes: the weights are [-w/2, w/2], w
    being scikit-learn's single row, so that their softmax is its `predict_proba` and C means the same.
    direct: mean source probabilities of each class's images, both splits together: validation
    accuracy flatters it, for it reads every validation label; reverse, for C and the scale alone.

    A class without images (reverse: without training images) gets the row p(source class). In
    reverse its logit is left out of every softmax; its validation images count as wrong and are not
    calibrated on. If no other validation image is left, the scale is 1.

    Raises ValueError on shapes that disagree, labels out of range, logits that are not finite, a
    temperature that is not positive, an unknown approach, no training image and, in reverse, no
    validation image.
    """
    if approach not in _APPROACHES:
        raise ValueError(f"no approach {approach!r}; there are {', '.join(_APPROACHES)}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; it must be positive and finite")
    _check_split("training", train_logits_NS, train_labels_N, num_classes)
    _check_split("validation", val_logits_MS, val_labels_M, num_classes)
    _check_splits_agree(train_logits_NS, val_logits_MS, approach)
    device = train_logits_NS.device
    train = _split(train_logits_NS, train_labels_N, temperature, device)
    val = _split(val_logits_MS, val_labels_M, temperature, device)
    if approach == "direct":
        return Relationship(_direct(train, val, num_classes).cpu(), None, None, None)
    return _reverse(train, val, num_classes)


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
    _check_split("calibration", logits_BS, labels_B, logits_BS.shape[-1] if logits_BS.ndim else 0)
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


def _check_split(name: str, logits_BS: Tensor, labels_B: Tensor, num_classes: int) -> None:
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


def _check_splits_agree(train_NS: Tensor, val_MS: Tensor, approach: str) -> None:
    """ValueError unless both splits have the same source classes and enough images."""
    if train_NS.shape[1] != val_MS.shape[1]:
        raise ValueError(
            f"training logits have {train_NS.shape[1]} source classes, validation logits "
            f"{val_MS.shape[1]}; both must come from one source network"
        )
    if not len(train_NS):
        raise ValueError("the training split is empty; give at least one image")
    if approach == "reverse" and not len(val_MS):
        raise ValueError(
            "the validation split is empty, and reverse chooses C and the scale on it; "
            "hold out at least one image or use approach='direct'"
        )


def _split(logits_BS: Tensor, labels_B: Tensor, temperature: float, device: torch.device) -> _Split:
    p_BS = torch.softmax(logits_BS.to(device).double() / temperature, dim=1)
    return _Split(p_BS, labels_B.to(device).long())


def _marginal(train: _Split, val: _Split) -> Tensor:
    """p(source class) [S]: the mean probabilities of all images."""
    return torch.cat([train.p_BS, val.p_BS]).mean(0)


def _direct(train: _Split, val: _Split, num_classes: int) -> Tensor:
    """[T, S] mean probabilities of each class's images, of both splits; p(source class) where it has none."""
    totals_TS = train.p_BS.new_zeros(num_classes, train.p_BS.shape[1])
    for split in (train, val):
        totals_TS.index_add_(0, split.labels_B, split.p_BS)
    counts_T1 = totals_TS.sum(1, keepdim=True)
    return torch.where(counts_T1 > 0, totals_TS / counts_T1, _marginal(train, val))


def _reverse(train: _Split, val: _Split, num_classes: int) -> Relationship:
    """Fit, calibrate, Bayes. Class k of the fit is the k-th class seen in training."""
    seen_K, labels_N = torch.unique(train.labels_B, return_inverse=True)
    known_M = torch.isin(val.labels_B, seen_K)
    labels_M = torch.searchsorted(seen_K, val.labels_B).masked_fill(~known_M, -1)
    chosen = _choose_classifier(_Split(train.p_BS, labels_N), _Split(val.p_BS, labels_M))
    scale = 1.0
    if known_M.any():
        scale = 1.0 / fit_temperature(val.p_BS[known_M] @ chosen.weights_SK, labels_M[known_M])
    marginal_S = _marginal(train, val)
    joint_KS = torch.log_softmax(chosen.weights_SK * scale, dim=1).T + marginal_S.log()
    matrix_TS = marginal_S.repeat(num_classes, 1)
    matrix_TS[seen_K] = torch.softmax(joint_KS, dim=1)
    return Relationship(matrix_TS.cpu(), chosen.c, scale, chosen.hits / len(labels_M))


def _choose_classifier(train: _Split, val: _Split) -> _Classifier:
    """The logistic regression of best validation accuracy, in float64; labels are 0..K-1."""
    classes = int(train.labels_B.max()) + 1
    effort = _EXACT if train.p_BS.numel() * classes <= _EXACT_LIMIT else _SEARCH
    energies_S, order_S = (train.p_BS**2).sum(0).sort(descending=True, stable=True)
    features_SN = train.p_BS.to(effort.dtype)[:, order_S].T.contiguous()
    images = _Images(features_SN, energies_S, torch.eye(classes).to(features_SN)[train.labels_B])
    ordered_MS = val.p_BS[:, order_S].to(effort.dtype)
    # For two classes scikit-learn fits one row w: rows -w / 2 and w / 2 have the same probabilities and half its
    # penalty, so that half its C makes c * NLL + ||W||^2 / 2 half its objective.
    halving = 2.0 if classes == 2 else 1.0

    def classifier(c: float, start_SK: Tensor, effort: _Effort) -> _Classifier:
        weights_SK = _fit(images, start_SK, c / halving, effort)
        hits_M = (ordered_MS @ weights_SK).argmax(1) == val.labels_B
        return _Classifier(c, weights_SK, int(hits_M.sum()))

    path: list[_Classifier] = []
    for c in _C_VALUES:
        path.append(classifier(c, _extrapolate(path[-3:], c, images), effort))
    path.sort(key=lambda point: (point.hits, point.c))
    if effort is not _EXACT:
        least = path[-1].hits - _NEAR_TIE * len(val.labels_B)
        finalists = [point for point in path[-_FINALISTS:] if point.hits >= least]
        path = [classifier(point.c, point.weights_SK, _POLISH) for point in finalists]
    best = max(path, key=lambda point: (point.hits, point.c))
    weights_SK = torch.empty_like(best.weights_SK, dtype=torch.float64)
    weights_SK[order_S] = best.weights_SK.double()
    return _Classifier(best.c, weights_SK, best.hits)


def _extrapolate(points: list[_Classifier], c: float, images: _Images) -> Tensor:
    """Weights at c on the polynomial in log c through the points (Lagrange); zeros without any."""
    start_SK = images.features_SN.new_zeros(len(images.features_SN), images.targets_NK.shape[1])
    for point in points:
        others = [other.c for other in points if other is not point]
        factor = math.prod(math.log(c / x) / math.log(point.c / x) for x in others)
        start_SK += factor * point.weights_SK
    return start_SK


def _fit(images: _Images, start_SK: Tensor, c: float, effort: _Effort) -> Tensor:
    """Minimiser of c * NLL + ||W||^2 / 2: Newton where it is curved, else a gradient step."""
    rank = int((images.energies_S * c > effort.curved).sum())
    features_RN, weights_RK = images.features_SN[:rank], start_SK[:rank]
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
    return torch.cat([weights_RK, -c * (images.features_SN[rank:] @ residual_NK)])


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
