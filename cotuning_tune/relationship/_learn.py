"""p(source class | target class), and the temperature of the source network before it.
Source: You, Kou, Long, Wang, "Co-Tuning for Transfer Learning", NeurIPS 2020: Algorithm 1
(relationship) and Algorithm 2 (calibration). Works on the device of the logits it is given.

Shapes: N training images, M validation images, B images of either split, S source classes,
T target classes, K target classes that have a training image, R source classes a fit iterates on.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cotuning_tune.relationship._calibration import check_split, fit_temperature
from cotuning_tune.relationship._path import Split, choose_classifier

_APPROACHES = ("direct", "reverse")
_MARGINALS = ("images", "uniform")


@dataclass(frozen=True, eq=False)
class Relationship:
    """p(source class | target class), rows summing to 1, and what was chosen (None for direct)."""

    matrix_TS: Tensor
    chosen_c: float | None
    scale: float | None
    val_accuracy: float | None


def learn_relationship(
    train_logits_NS: Tensor,
    train_labels_N: Tensor,
    val_logits_MS: Tensor,
    val_labels_M: Tensor,
    *,
    num_classes: int,
    temperature: float = 1.0,
    approach: str = "reverse",
    calibrated: bool = True,
    source_marginal: str = "images",
) -> Relationship:
    """p(source class | target class) from the source network's logits (Algorithm 1).

    Any floating dtype and device; the result is float64 on the CPU, each row summing to 1.
    `temperature` divides the logits (see `fit_temperature`).

    reverse: multinomial logistic regression from source probabilities to target classes (L2, no
    intercept, scikit-learn's objective), fitted on the training split for 17 values of C, chosen by
    validation accuracy (ties go to the larger C), calibrated there by one positive scale; then
    Bayes, p(source class) being the mean of all images, or with `source_marginal` uniform one over their number; not
    `calibrated`: the scale is 1. Two classes: the weights are [-w/2, w/2], w
    being scikit-learn's single row, so that their softmax is its `predict_proba` and C means the same.
    direct: mean source probabilities of each class's images, both splits together: validation
    accuracy flatters it, for it reads every validation label; reverse, for C and the scale alone.

    A class without images (reverse: without training images) gets the row p(source class). In
    reverse its logit is left out of every softmax; its validation images count as wrong and are not
    calibrated on. If no other validation image is left, the scale is 1.

    Raises ValueError on shapes that disagree, labels out of range, logits that are not finite, a
    temperature that is not positive, an unknown approach or marginal, no training image and, in reverse,
    no validation image.
    """
    for kind, name, known in (("approach", approach, _APPROACHES), ("source_marginal", source_marginal, _MARGINALS)):
        if name not in known:
            raise ValueError(f"no {kind} {name!r}; there are {', '.join(known)}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; it must be positive and finite")
    check_split("training", train_logits_NS, train_labels_N, num_classes)
    check_split("validation", val_logits_MS, val_labels_M, num_classes)
    _check_splits_agree(train_logits_NS, val_logits_MS, approach)
    device = train_logits_NS.device
    train = _split(train_logits_NS, train_labels_N, temperature, device)
    val = _split(val_logits_MS, val_labels_M, temperature, device)
    if approach == "direct":
        return Relationship(_direct(train, val, num_classes).cpu(), None, None, None)
    marginal_S = _marginal(train, val)
    if source_marginal == "uniform":
        marginal_S = torch.full_like(marginal_S, 1 / len(marginal_S))
    return _reverse(train, val, num_classes, marginal_S, calibrated=calibrated)


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


def _split(logits_BS: Tensor, labels_B: Tensor, temperature: float, device: torch.device) -> Split:
    p_BS = torch.softmax(logits_BS.to(device).double() / temperature, dim=1)
    return Split(p_BS, labels_B.to(device).long())


def _marginal(train: Split, val: Split) -> Tensor:
    """p(source class) [S]: the mean probabilities of all images."""
    return torch.cat([train.p_BS, val.p_BS]).mean(0)


def _direct(train: Split, val: Split, num_classes: int) -> Tensor:
    """[T, S] mean probabilities of each class's images, of both splits; p(source class) where it has none."""
    totals_TS = train.p_BS.new_zeros(num_classes, train.p_BS.shape[1])
    for split in (train, val):
        totals_TS.index_add_(0, split.labels_B, split.p_BS)
    counts_T1 = totals_TS.sum(1, keepdim=True)
    return torch.where(counts_T1 > 0, totals_TS / counts_T1, _marginal(train, val))


def _reverse(train: Split, val: Split, num_classes: int, marginal_S: Tensor, *, calibrated: bool) -> Relationship:
    """Fit, calibrate, Bayes with p(source class). Class k of the fit is the k-th class seen in training."""
    seen_K, labels_N = torch.unique(train.labels_B, return_inverse=True)
    known_M = torch.isin(val.labels_B, seen_K)
    labels_M = torch.searchsorted(seen_K, val.labels_B).masked_fill(~known_M, -1)
    chosen = choose_classifier(Split(train.p_BS, labels_N), Split(val.p_BS, labels_M))
    scale = 1.0
    if calibrated and known_M.any():
        scale = 1.0 / fit_temperature(val.p_BS[known_M] @ chosen.weights_SK, labels_M[known_M])
    joint_KS = torch.log_softmax(chosen.weights_SK * scale, dim=1).T + marginal_S.log()
    matrix_TS = marginal_S.repeat(num_classes, 1)
    matrix_TS[seen_K] = torch.softmax(joint_KS, dim=1)
    return Relationship(matrix_TS.cpu(), chosen.c, scale, chosen.hits / len(labels_M))
