"""What a source class says about a target class: p(source class | target class), and the temperature before it.

Source: You, Kou, Long, Wang, "Co-Tuning for Transfer Learning", NeurIPS 2020: Algorithm 1 (relationship) and
Algorithm 2 (calibration). Works on the device of the logits it is given.

Shapes: N training images, M validation images, B images of either part, S source classes, T target classes,
K target classes that have a training image, R source classes that a fit iterates on.

How the 17 logistic regressions are made fast; the objective is scikit-learn's throughout.

1. Source classes stand by falling sum of squared probabilities. One with c * sum << 1 is hardly curved: for each c
   only those above a threshold are iterated on, and one gradient step sets the others.
2. The path runs from the smallest c to the largest, each fit starting on the parabola (in log c) through the last
   three. It never stops early: all 17 accuracies are computed.
3. Each fit is Newton's method, its linear systems solved by conjugate gradients. The preconditioner adds two
   inverse diagonals of the Hessian: of the classes as they are, and rotated into the eigenbasis of their mean
   covariance. Together they need a third to a sixth of the iterations of either.
4. Up to `_EXACT_LIMIT` numbers (N * S * K) all fits are in float64 and converged. Beyond, it is a heuristic: the
   path is in float32 and stops at about 2e-3 nats an image; then at most three fits within 0.5 % of the best
   accuracy are taken to 2e-5, or to 100 Hessian products, and the best of these is chosen. In a near-tie that may be
   another c than converged fits would choose, and the matrix can then differ visibly in single rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_APPROACHES = ("direct", "reverse")
_C_VALUES = (1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1, 3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
_EXACT_LIMIT = 2**26
_FINALISTS = 3
_NEAR_TIE = 0.005
_SEPARATED_NLL = 1e-4


@dataclass(frozen=True, eq=False)
class Relationship:
    """p(source class | target class), each row summing to 1, and what was chosen on the way (None for direct)."""

    matrix_TS: Tensor
    chosen_c: float | None
    scale: float | None
    val_accuracy: float | None


@dataclass(frozen=True)
class _Effort:
    """How far a fit is taken.

    `gap`: nats an image that the last Newton step promises at most. `forcing`: share of the mean gain below which
    conjugate gradients end. `curved`: least c * eigenvalue of a direction. `products`: the most with the Hessian.
    """

    dtype: torch.dtype
    gap: float
    forcing: float
    curved: float
    products: int


_EXACT = _Effort(torch.float64, gap=1e-13, forcing=0.1, curved=1e-9, products=100_000)
_SEARCH = _Effort(torch.float32, gap=5e-4, forcing=0.3, curved=1e-1, products=60)
_POLISH = _Effort(torch.float32, gap=2e-5, forcing=0.2, curved=1e-3, products=100)


@dataclass(frozen=True, eq=False)
class _Images:
    """The training images, source classes by falling sum of squared probabilities (`energies_S`)."""

    features_SN: Tensor
    squares_SN: Tensor
    energies_S: Tensor
    targets_NK: Tensor


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
    """p(source class | target class) from the source network's logits of the target images (Algorithm 1).

    Any floating dtype and device; the result is float64 on the CPU. `temperature` divides the logits (see
    `fit_temperature`). Each row of the matrix sums to 1.

    reverse: multinomial logistic regression from source probabilities to target classes (L2, no intercept, the
    objective of scikit-learn), fitted on the training part for 17 values of C, chosen by accuracy on the validation
    part (ties go to the larger C), its logits calibrated there by one positive scale; then Bayes, with p(source
    class) the mean of all images. With two classes the weights are [-w, w], w being scikit-learn's single row.
    direct: mean source probabilities of each class's images, both parts together.

    A class without images (reverse: without training images) gets the row p(source class). In reverse its logit is
    left out of every softmax, and its validation images count as wrong and are not used by the calibration. If no
    other validation image is left, the scale is 1.

    Raises ValueError on shapes that disagree, labels out of range, logits that are not finite, a temperature that is
    not positive, an unknown approach, no training image and, in reverse, no validation image.
    """
    if approach not in _APPROACHES:
        raise ValueError(f"no approach {approach!r}; there are {', '.join(_APPROACHES)}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; it must be positive and finite")
    _check_part("training", train_logits_NS, train_labels_N, num_classes)
    _check_part("validation", val_logits_MS, val_labels_M, num_classes)
    _check_parts_agree(train_logits_NS, val_logits_MS, approach)
    device = train_logits_NS.device
    train_NS = _probabilities(train_logits_NS, temperature)
    val_MS = _probabilities(val_logits_MS.to(device), temperature)
    train_N, val_M = train_labels_N.to(device).long(), val_labels_M.to(device).long()
    if approach == "direct":
        return Relationship(_direct(train_NS, train_N, val_MS, val_M, num_classes).cpu(), None, None, None)
    return _reverse(train_NS, train_N, val_MS, val_M, num_classes)


def fit_temperature(logits_BS: Tensor, labels_B: Tensor) -> float:
    """The t > 0 that minimises the mean NLL of softmax(logits / t) (Algorithm 2).

    The NLL is convex in 1 / t; the search is Newton's over log t inside a shrinking bracket, so t stays positive.
    fit_temperature(a * logits) = a * fit_temperature(logits). Logits equal within each image give 1.

    Data without a minimum: where every label already has the largest logit the NLL falls to 0 as t does, and t is
    the largest one with a mean NLL of 1e-4; where the logits say nothing or the contrary, t is the upper end of the
    interval. The interval is 1e-6 to 1e6 times the largest difference of a logit from its label's.
    """
    _check_part("calibration", logits_BS, labels_B, logits_BS.shape[-1] if logits_BS.ndim else 0)
    if not len(labels_B):
        raise ValueError("there is no image to fit a temperature on; give at least one")
    logits_BS = logits_BS.double()
    gaps_BS = logits_BS - logits_BS.gather(1, labels_B.to(logits_BS.device).long()[:, None])
    widest = gaps_BS.abs().max().item()
    return 1.0 / _fit_scale(gaps_BS, widest) if widest > 0 else 1.0


def _fit_scale(gaps_BS: Tensor, widest: float) -> float:
    """The s > 0 that minimises the mean of logsumexp(s * gaps); gaps are logits less their label's logit."""
    low, high = 1e-6 / widest, 1e6 / widest
    scale = min(max(1.0, low), high)
    for _ in range(200):
        nll, slope, curvature = _scale_derivatives(gaps_BS, scale)
        if slope > 0 or nll < _SEPARATED_NLL:
            high = scale
        else:
            low = scale
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
    mean_B = weighted_BS.sum(1)
    square_B = (weighted_BS * gaps_BS).sum(1)
    nll, slope, curvature = torch.stack([nll_B, mean_B, square_B - mean_B**2]).mean(1).tolist()
    return nll, slope, curvature


def _check_part(name: str, logits_BS: Tensor, labels_B: Tensor, num_classes: int) -> None:
    """ValueError unless the logits are finite [images, classes] and the labels one integer in range for each."""
    if logits_BS.ndim != 2 or not logits_BS.is_floating_point() or logits_BS.shape[1] == 0:
        raise ValueError(
            f"{name} logits are {logits_BS.dtype} of shape {tuple(logits_BS.shape)}; "
            "expected floating point of shape [images, source classes]"
        )
    if labels_B.is_floating_point() or labels_B.is_complex() or labels_B.dtype == torch.bool:
        raise ValueError(f"{name} labels are {labels_B.dtype}; expected integers")
    if labels_B.shape != logits_BS.shape[:1]:
        raise ValueError(
            f"{name} labels have shape {tuple(labels_B.shape)}; expected [{len(logits_BS)}], one for each row of logits"
        )
    if not torch.isfinite(logits_BS).all():
        raise ValueError(f"{name} logits hold values that are not finite (nan or inf); all must be finite")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
    if len(labels_B) and not 0 <= int(labels_B.min()) <= int(labels_B.max()) < num_classes:
        raise ValueError(
            f"{name} labels run from {int(labels_B.min())} to {int(labels_B.max())}; "
            f"with {num_classes} classes they must lie in 0..{num_classes - 1}"
        )


def _check_parts_agree(train_NS: Tensor, val_MS: Tensor, approach: str) -> None:
    """ValueError unless both parts have the same source classes and images enough for the approach."""
    if train_NS.shape[1] != val_MS.shape[1]:
        raise ValueError(
            f"training logits have {train_NS.shape[1]} source classes and validation logits {val_MS.shape[1]}; "
            "both must come from one source network"
        )
    if not len(train_NS):
        raise ValueError("the training part is empty; give at least one image")
    if approach == "reverse" and not len(val_MS):
        raise ValueError(
            "the validation part is empty, and the reverse approach chooses C and the scale on it; "
            "hold out at least one image or use approach='direct'"
        )


def _probabilities(logits_BS: Tensor, temperature: float) -> Tensor:
    return torch.softmax(logits_BS.double() / temperature, dim=1)


def _marginal(train_NS: Tensor, val_MS: Tensor) -> Tensor:
    """p(source class): the mean probabilities of all images."""
    return (train_NS.sum(0) + val_MS.sum(0)) / (len(train_NS) + len(val_MS))


def _direct(train_NS: Tensor, train_N: Tensor, val_MS: Tensor, val_M: Tensor, num_classes: int) -> Tensor:
    """[T, S] mean source probabilities of each class's images; p(source class) where a class has none."""
    totals_TS = train_NS.new_zeros(num_classes, train_NS.shape[1])
    totals_TS.index_add_(0, train_N, train_NS).index_add_(0, val_M, val_MS)
    counts_T = torch.bincount(torch.cat([train_N, val_M]), minlength=num_classes)
    means_TS = totals_TS / totals_TS.sum(1, keepdim=True)
    return torch.where(counts_T[:, None] > 0, means_TS, _marginal(train_NS, val_MS))


def _reverse(train_NS: Tensor, train_N: Tensor, val_MS: Tensor, val_M: Tensor, num_classes: int) -> Relationship:
    """Algorithm 1 on probabilities: fit, calibrate, Bayes. Class k of the fit is the k-th class seen in training."""
    seen_K, positions_N = torch.unique(train_N, return_inverse=True)
    known_M = torch.isin(val_M, seen_K)
    positions_M = torch.searchsorted(seen_K, val_M).masked_fill(~known_M, -1)
    weights_SK, chosen_c, accuracy = _choose_classifier(train_NS, positions_N, val_MS, positions_M, len(seen_K))
    scale = 1.0
    if known_M.any():
        scale = 1.0 / fit_temperature(val_MS[known_M] @ weights_SK, positions_M[known_M])
    marginal_S = _marginal(train_NS, val_MS)
    joint_KS = torch.log_softmax(weights_SK * scale, dim=1).T + marginal_S.log()
    matrix_TS = marginal_S.repeat(num_classes, 1)
    matrix_TS[seen_K] = torch.softmax(joint_KS, dim=1)
    return Relationship(matrix_TS.cpu(), chosen_c, scale, accuracy)


@dataclass(frozen=True, eq=False)
class _Classifier:
    """One point of the path. `hits`: the validation images it gets right."""

    c: float
    weights_SK: Tensor
    hits: int

    def merit(self) -> tuple[int, float]:
        """The greatest wins: more images right, then the larger C."""
        return self.hits, self.c


def _choose_classifier(
    train_NS: Tensor, labels_N: Tensor, val_MS: Tensor, labels_M: Tensor, num_seen: int
) -> tuple[Tensor, float, float]:
    """The logistic regression [S, K] of best validation accuracy, its C and that accuracy."""
    exact = train_NS.numel() * num_seen <= _EXACT_LIMIT
    effort = _EXACT if exact else _SEARCH
    order_S, images = _arrange(train_NS, labels_N, num_seen, effort.dtype)
    ordered_MS = val_MS[:, order_S].to(effort.dtype)
    # scikit-learn fits one row for two classes; half of its C gives the same fit with two rows, w / 2 and -w / 2
    halving = 2.0 if num_seen == 2 else 1.0

    def classifier(c: float, start_SK: Tensor, effort: _Effort) -> _Classifier:
        weights_SK = _fit(images, start_SK, c / halving, effort)
        return _Classifier(c, weights_SK, int(((ordered_MS @ weights_SK).argmax(1) == labels_M).sum()))

    path: list[_Classifier] = []
    for c in sorted(_C_VALUES):
        path.append(classifier(c, _extrapolate(path[-3:], c, images), effort))
    if not exact:
        finalists = sorted(path, key=_Classifier.merit)[-_FINALISTS:]
        least = finalists[-1].hits - _NEAR_TIE * len(labels_M)
        path = [classifier(point.c, point.weights_SK, _POLISH) for point in finalists if point.hits >= least]
    best = max(path, key=_Classifier.merit)
    weights_SK = torch.empty_like(best.weights_SK, dtype=torch.float64)
    weights_SK[order_S] = halving * best.weights_SK.double()
    return weights_SK, best.c, best.hits / len(labels_M)


def _arrange(train_NS: Tensor, labels_N: Tensor, num_seen: int, dtype: torch.dtype) -> tuple[Tensor, _Images]:
    """Source classes [S] by falling sum of squared probabilities, and the training images in that order."""
    energies_S, order_S = (train_NS**2).sum(0).sort(descending=True, stable=True)
    features_SN = train_NS.to(dtype)[:, order_S].T.contiguous()
    targets_NK = torch.eye(num_seen, dtype=dtype, device=train_NS.device)[labels_N]
    return order_S, _Images(features_SN, features_SN**2, energies_S, targets_NK)


def _extrapolate(points: list[_Classifier], c: float, images: _Images) -> Tensor:
    """Weights at c on the polynomial in log c through the points (Lagrange's form); zeros without any."""
    start_SK = images.features_SN.new_zeros(len(images.features_SN), images.targets_NK.shape[1])
    for point in points:
        others = [other.c for other in points if other is not point]
        factor = math.prod(math.log(c / other) / math.log(point.c / other) for other in others)
        start_SK += factor * point.weights_SK
    return start_SK


def _fit(images: _Images, start_SK: Tensor, c: float, effort: _Effort) -> Tensor:
    """Minimiser of c * NLL + ||W||^2 / 2: Newton's method on the curved classes, a gradient step on the others."""
    rank = int((images.energies_S * c > effort.curved).sum())
    features_RN, squares_RN = images.features_SN[:rank], images.squares_SN[:rank]
    weights_RK = start_SK[:rank]
    logits_NK = features_RN.T @ weights_RK
    products = 0
    while products < effort.products:
        probabilities_NK = torch.softmax(logits_NK, dim=1)
        gradient_RK = c * (features_RN @ (probabilities_NK - images.targets_NK)) + weights_RK
        hessian = _Hessian(features_RN, probabilities_NK, c)
        step = _newton_step(hessian, squares_RN, gradient_RK, effort.forcing, effort.products - products)
        length = _step_length(images, weights_RK, logits_NK, step, c)
        weights_RK = weights_RK + length * step.weights_RK
        logits_NK = logits_NK + length * step.logits_NK
        products += step.products
        if length == 0.0 or step.gain <= effort.gap * c * len(logits_NK):
            break
    residual_NK = torch.softmax(logits_NK, dim=1) - images.targets_NK
    return torch.cat([weights_RK, -c * (images.features_SN[rank:] @ residual_NK)])


@dataclass(frozen=True, eq=False)
class _Hessian:
    """Second derivative of c * NLL + ||W||^2 / 2 at given probabilities, applied and never formed."""

    features_RN: Tensor
    probabilities_NK: Tensor
    c: float

    def times(self, step_RK: Tensor, change_NK: Tensor) -> Tensor:
        """The Hessian times a step that changes the logits by `change_NK`."""
        weighted_NK = self.probabilities_NK * change_NK
        weighted_NK -= self.probabilities_NK * weighted_NK.sum(1, keepdim=True)
        return torch.add(step_RK, self.features_RN @ weighted_NK, alpha=self.c)


@dataclass(frozen=True, eq=False)
class _Step:
    """A Newton step and the change of logits it makes. `gain`: the fall of the objective it promises."""

    weights_RK: Tensor
    logits_NK: Tensor
    gain: float
    products: int


def _newton_step(
    hessian: _Hessian, squares_RN: Tensor, gradient_RK: Tensor, forcing: float, most_products: int
) -> _Step:
    """Conjugate gradients, ended when an iteration adds little to the gain (Nash and Sofer's rule, 1990)."""
    variances_NK = hessian.probabilities_NK * (1.0 - hessian.probabilities_NK)
    diagonal_RK = 1.0 + hessian.c * (squares_RN @ variances_NK)
    step_RK, change_NK = torch.zeros_like(gradient_RK), torch.zeros_like(hessian.probabilities_NK)
    residual_RK = -gradient_RK
    direction_RK = residual_RK / diagonal_RK
    size, gain, products = _dot(residual_RK, direction_RK), 0.0, 0
    while products < most_products and size > 0.0:
        along_NK = hessian.features_RN.T @ direction_RK
        curved_RK = hessian.times(direction_RK, along_NK)
        length = size / _dot(direction_RK, curved_RK)
        step_RK.add_(direction_RK, alpha=length)
        change_NK.add_(along_NK, alpha=length)
        residual_RK.add_(curved_RK, alpha=-length)
        gain, products = gain + 0.5 * length * size, products + 1
        if 0.5 * length * size * products <= forcing * gain:
            break
        conditioned_RK = residual_RK / diagonal_RK
        previous, size = size, _dot(residual_RK, conditioned_RK)
        direction_RK = conditioned_RK.add_(direction_RK, alpha=size / previous)
    return _Step(step_RK, change_NK, gain, products)


def _step_length(images: _Images, weights_RK: Tensor, logits_NK: Tensor, step: _Step, c: float) -> float:
    """The longest of 1, 1/2, 1/4 ... that lowers the objective enough (Armijo), 0 if rounding hides every descent."""
    before = _objective(images, weights_RK, logits_NK, c)
    rounding = 4 * torch.finfo(weights_RK.dtype).eps * abs(before)
    for halvings in range(30):
        length = 0.5**halvings
        moved_RK = weights_RK + length * step.weights_RK
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
