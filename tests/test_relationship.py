"""Algorithms 1 and 2 against reference numbers, scikit-learn and what must hold whatever the data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cotuning_tune.relationship import Relationship, _path, fit_temperature, learn_relationship

GOLDEN = Path(__file__).parent / "golden"
C_VALUES = [c * 10.0**e for e in range(-4, 4) for c in (1.0, 3.0)] + [1e4]


def golden(number: int) -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / f"relationship_{number}.npz"))


def learn(data: dict[str, np.ndarray], dtype: torch.dtype = torch.float64, approach: str = "reverse") -> Relationship:
    """What is learned from the reference arrays."""
    splits = [torch.from_numpy(data[name]) for name in ("train_logits_NS", "train_labels_N")]
    splits += [torch.from_numpy(data[name]) for name in ("val_logits_MS", "val_labels_M")]
    splits[0], splits[2] = splits[0].to(dtype), splits[2].to(dtype)
    temperature = 1.0 / float(data["logit_factor"])
    return learn_relationship(*splits, num_classes=len(data["reverse_TS"]), temperature=temperature, approach=approach)


def made_up(classes: int, images: int = 60, sources: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits in which each target class leans towards some source classes, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    leaning = torch.randn(classes, sources, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    labels = torch.arange(images) % classes
    noise = 1.5 * torch.randn(images, sources, generator=generator, dtype=torch.float64)
    return 2 * leaning[labels] + noise, labels


def split(classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *made_up(classes, seed=1), *made_up(classes, images=30, seed=2)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_reverse_equals_the_reference(number: int) -> None:
    """The matrix of converged logistic regressions, and all that was chosen on the way."""
    data = golden(number)
    found = learn(data)
    np.testing.assert_allclose(found.matrix_TS.numpy(), data["reverse_TS"], atol=2e-3)
    assert np.abs(found.matrix_TS.numpy() - data["reverse_TS"]).max() < 1e-5
    assert found.chosen_c == pytest.approx(float(data["chosen_C"]))
    assert found.scale == pytest.approx(float(data["scale"]), rel=1e-2)
    assert found.val_accuracy == pytest.approx(float(data["val_accuracy"]))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_direct_equals_the_reference(number: int) -> None:
    """The mean source probabilities of each class; nothing is chosen."""
    data = golden(number)
    found = learn(data, approach="direct")
    np.testing.assert_allclose(found.matrix_TS.numpy(), data["direct_TS"], atol=1e-6)
    assert (found.chosen_c, found.scale) == (None, None)


def test_float32_logits_give_the_same() -> None:
    """The precision of the logits hardly matters: the fits are made in float64."""
    wide, narrow = learn(golden(0)).matrix_TS, learn(golden(0), torch.float32).matrix_TS
    assert narrow.dtype == torch.float64
    torch.testing.assert_close(narrow, wide, atol=1e-5, rtol=0)


def test_two_classes_equal_scikit_learn() -> None:
    """With two classes scikit-learn gives one row w; rows [-w/2, w/2] and one scale give the same matrix."""
    train_NS, train_N, val_MS, val_M = split(2)
    found = learn_relationship(train_NS, train_N, val_MS, val_M, num_classes=2)
    p, q = torch.softmax(train_NS, 1).numpy(), torch.softmax(val_MS, 1).numpy()
    fits = [LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(p, train_N) for c in C_VALUES]
    best = max(reversed(fits), key=lambda fit: fit.score(q, val_M))
    assert found.val_accuracy == pytest.approx(best.score(q, val_M))
    assert found.chosen_c == pytest.approx(best.C)
    rows_2S = np.concatenate([-best.coef_, best.coef_]) / 2
    logits_M2 = torch.from_numpy(q @ rows_2S.T)
    scale = 1.0 / fit_temperature(logits_M2, val_M)
    assert found.scale == pytest.approx(scale, rel=1e-4)
    forward = torch.softmax(scale * torch.from_numpy(rows_2S), 0) * torch.from_numpy(np.concatenate([p, q]).mean(0))
    torch.testing.assert_close(found.matrix_TS, forward / forward.sum(1, keepdim=True), atol=1e-4, rtol=0)


@pytest.mark.parametrize("c", C_VALUES)
@pytest.mark.parametrize("classes", [2, 3])
def test_each_c_gives_scikit_learns_probabilities(classes: int, c: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every point of the path, with two classes and with more, the softmax is scikit-learn's predict_proba."""
    train_NS, train_N, val_MS, val_M = split(classes)
    p, q = torch.softmax(train_NS, 1), torch.softmax(val_MS, 1)
    fit = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(p.numpy(), train_N)
    monkeypatch.setattr(_path, "_C_VALUES", (c,))
    found = _path.choose_classifier(_path.Split(p, train_N), _path.Split(q, val_M))
    expected = fit.predict_proba(q.numpy())
    np.testing.assert_allclose(torch.softmax(q @ found.weights_SK, 1).numpy(), expected, atol=1e-5)
    rows = fit.coef_ if classes > 2 else np.concatenate([-fit.coef_, fit.coef_]) / 2
    np.testing.assert_allclose(found.weights_SK.T.numpy(), rows, atol=1e-4 * np.abs(rows).max())


def test_two_classes_that_validation_lacks() -> None:
    """With nothing to calibrate on the scale is 1, and p(target | source) is scikit-learn's at one-hot inputs."""
    train_NS, train_N, val_MS, val_M = split(2)
    found = learn_relationship(train_NS, train_N, val_MS, torch.full_like(val_M, 2), num_classes=3)
    p, q = torch.softmax(train_NS, 1), torch.softmax(val_MS, 1)
    fit = LogisticRegression(C=1e4, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(p.numpy(), train_N)
    joint_TS = torch.from_numpy(fit.predict_proba(np.eye(p.shape[1])).T) * torch.cat([p, q]).mean(0)
    assert (found.scale, found.chosen_c) == (1.0, 1e4)
    torch.testing.assert_close(found.matrix_TS[:2], joint_TS / joint_TS.sum(1, keepdim=True), atol=1e-4, rtol=0)


def test_a_missing_class_shifts_no_row() -> None:
    """Without training images of class 1 the other rows are those of a task without it."""
    train_NS, train_N, val_MS, val_M = split(3)
    train, val = train_N != 1, val_M != 1
    gap = learn_relationship(train_NS[train], train_N[train], val_MS[val], val_M[val], num_classes=3)
    renumbered = [labels[keep].div(2, rounding_mode="floor") for labels, keep in ((train_N, train), (val_M, val))]
    whole = learn_relationship(train_NS[train], renumbered[0], val_MS[val], renumbered[1], num_classes=2)
    torch.testing.assert_close(gap.matrix_TS[[0, 2]], whole.matrix_TS, atol=1e-8, rtol=0)
    assert torch.isfinite(gap.matrix_TS).all()
    assert gap.matrix_TS[1].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("approach", ["reverse", "direct"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_rows_are_probabilities(classes: int, approach: str) -> None:
    """Rows sum to 1 and are not negative."""
    found = learn_relationship(*split(classes), num_classes=classes, approach=approach)
    assert (found.matrix_TS >= 0).all()
    torch.testing.assert_close(found.matrix_TS.sum(1), torch.ones(classes, dtype=torch.float64))


@pytest.mark.parametrize("approach", ["reverse", "direct"])
def test_a_class_points_to_its_sources(approach: str) -> None:
    """Images of class t that look like source class t give a matrix with its largest values there."""
    labels = torch.arange(40) % 4
    logits = torch.eye(4, dtype=torch.float64)[labels] * 4
    found = learn_relationship(logits, labels, logits[:8], labels[:8], num_classes=4, approach=approach)
    assert found.matrix_TS.argmax(1).tolist() == [0, 1, 2, 3]


def test_order_of_images_does_not_matter() -> None:
    """Shuffled images give the same matrix."""
    train_NS, train_N, val_MS, val_M = split(4)
    order = torch.randperm(len(train_N), generator=torch.Generator().manual_seed(3))
    one = learn_relationship(train_NS, train_N, val_MS, val_M, num_classes=4)
    other = learn_relationship(train_NS[order], train_N[order], val_MS, val_M, num_classes=4)
    torch.testing.assert_close(one.matrix_TS, other.matrix_TS, atol=1e-6, rtol=0)


def test_renumbered_classes_permute_the_rows() -> None:
    """Class numbers are names."""
    train_NS, train_N, val_MS, val_M = split(4)
    new = torch.tensor([2, 0, 3, 1])
    one = learn_relationship(train_NS, train_N, val_MS, val_M, num_classes=4)
    other = learn_relationship(train_NS, new[train_N], val_MS, new[val_M], num_classes=4)
    torch.testing.assert_close(other.matrix_TS[new], one.matrix_TS, atol=1e-6, rtol=0)


def bayes(weights_SK: Tensor, marginal_S: Tensor) -> Tensor:
    """p(source class | target class) of a classifier and p(source class), by the formula."""
    joint_SK = torch.softmax(weights_SK, dim=1) * marginal_S[:, None]
    return (joint_SK / joint_SK.sum(0)).T


def test_ablations_leave_out_what_they_name() -> None:
    """Not calibrated: the classifier's own probabilities. A uniform marginal: each source class weighs the same."""
    train_NS, train_N, val_MS, val_M = split(4)
    probabilities = [torch.softmax(logits, dim=1) for logits in (train_NS, val_MS)]
    chosen = _path.choose_classifier(_path.Split(probabilities[0], train_N), _path.Split(probabilities[1], val_M))
    marginal_S = torch.cat(probabilities).mean(0)
    plain = learn_relationship(train_NS, train_N, val_MS, val_M, num_classes=4)
    raw = learn_relationship(train_NS, train_N, val_MS, val_M, num_classes=4, calibrated=False)
    level = learn_relationship(train_NS, train_N, val_MS, val_M, num_classes=4, source_marginal="uniform")
    assert plain.scale is not None
    assert abs(plain.scale - 1) > 0.1
    assert (raw.scale, level.scale) == (1.0, plain.scale)
    for found, scale, marginal in (
        (plain, plain.scale, marginal_S),
        (raw, 1.0, marginal_S),
        (level, plain.scale, torch.ones(12, dtype=torch.float64)),
    ):
        torch.testing.assert_close(found.matrix_TS, bayes(scale * chosen.weights_SK, marginal))


def test_the_scale_is_positive_where_validation_contradicts() -> None:
    """Validation labels that say the opposite of the training do not turn the scale negative."""
    train_NS, train_N, val_MS, val_M = split(2)
    found = learn_relationship(train_NS, train_N, val_MS, 1 - val_M, num_classes=2)
    assert found.scale is not None
    assert found.scale > 0


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_temperature_is_the_minimiser(factor: float) -> None:
    """Newton's answer is the one of a bounded scalar search over the negative log-likelihood."""
    noise, labels = made_up(5, images=200, sources=5)
    logits = factor * (noise + 3 * torch.nn.functional.one_hot(labels, 5))

    def nll(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / np.exp(log_t), labels))

    best = minimize_scalar(nll, bounds=(-5, 8), method="bounded", options={"xatol": 1e-10})
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(best.x), rel=1e-4)


def test_temperature_is_positive_on_separable_and_on_senseless_data() -> None:
    """Where the likelihood has no minimum the temperature stays finite and positive."""
    logits = 3 * torch.eye(4, dtype=torch.float64)
    labels = torch.arange(4)
    for found in (fit_temperature(logits, labels), fit_temperature(-logits, labels)):
        assert 0 < found < float("inf")


def test_temperature_scales_with_the_logits() -> None:
    """A factor on the logits is a factor on the temperature, on separable data too."""
    logits, labels = made_up(5, images=100, sources=5)
    for data in ((logits, labels), (3 * torch.eye(4, dtype=torch.float64), torch.arange(4))):
        expected = pytest.approx(7.0 * fit_temperature(*data), rel=1e-6)
        assert fit_temperature(7.0 * data[0], data[1]) == expected


def test_logits_equal_within_each_image_give_temperature_one() -> None:
    """Any temperature is as good; 1 is taken."""
    assert fit_temperature(torch.full((3, 4), 2.5), torch.tensor([0, 1, 2])) == 1.0


def test_no_image_gives_no_temperature() -> None:
    """An empty split is refused."""
    with pytest.raises(ValueError, match="at least one"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))


@pytest.mark.parametrize("approach", ["reverse", "direct"])
def test_a_class_without_images_gets_the_marginal(approach: str) -> None:
    """Its row is the mean source probabilities of all images."""
    train_NS, train_N, val_MS, val_M = split(3)
    found = learn_relationship(train_NS, train_N, val_MS, val_M, num_classes=4, approach=approach)
    marginal_S = torch.softmax(torch.cat([train_NS, val_MS]), 1).mean(0)
    torch.testing.assert_close(found.matrix_TS[3], marginal_S)


def test_validation_images_of_a_missing_class_count_as_wrong() -> None:
    """They lower the accuracy and leave the calibration alone."""
    train_NS, train_N, val_MS, val_M = split(3)
    kept = train_N != 1
    found = learn_relationship(train_NS[kept], train_N[kept], val_MS, val_M, num_classes=3)
    seen = val_M != 1
    known = (val_MS[seen], val_M[seen])
    alone = learn_relationship(train_NS[kept], train_N[kept], *known, num_classes=3)
    assert found.val_accuracy is not None
    assert alone.val_accuracy is not None
    assert found.val_accuracy == pytest.approx(alone.val_accuracy * int(seen.sum()) / len(val_M))
    assert found.scale == pytest.approx(alone.scale)


def test_one_class_takes_all() -> None:
    """With one class every source class means it, and its row is p(source class)."""
    logits, labels = made_up(1)
    found = learn_relationship(logits, labels, logits[:5], labels[:5], num_classes=1)
    marginal_S = torch.softmax(torch.cat([logits, logits[:5]]), 1).mean(0)
    torch.testing.assert_close(found.matrix_TS[0], marginal_S)
    assert (found.scale, found.val_accuracy) == (1.0, 1.0)


def test_a_single_validation_image_is_enough() -> None:
    """One image, got right, cannot make the matrix run away."""
    train_NS, train_N, val_MS, val_M = split(3)
    found = learn_relationship(train_NS, train_N, val_MS[:1], val_M[:1], num_classes=3)
    assert torch.isfinite(found.matrix_TS).all()
    torch.testing.assert_close(found.matrix_TS.sum(1), torch.ones(3, dtype=torch.float64))


def test_empty_validation_is_refused_by_reverse_only() -> None:
    """The error names the way out, which works."""
    train_NS, train_N, val_MS, val_M = split(3)
    splits = (train_NS, train_N, val_MS[:0], val_M[:0])
    with pytest.raises(ValueError, match="approach='direct'"):
        learn_relationship(*splits, num_classes=3)
    found = learn_relationship(*splits, num_classes=3, approach="direct")
    torch.testing.assert_close(found.matrix_TS.sum(1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_fast_way_gives_the_same(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the reference arrays float32 and loose tolerances choose the same C, nearly the same rows."""
    monkeypatch.setattr("cotuning_tune.relationship._path._EXACT_LIMIT", 0)
    data = golden(number)
    found = learn(data)
    assert found.chosen_c == pytest.approx(float(data["chosen_C"]))
    np.testing.assert_allclose(found.matrix_TS.numpy(), data["reverse_TS"], atol=2e-3)


TRAIN, LABELS = torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"approach": "sideways"}, "direct"),
        ({"temperature": 0.0}, "temperature"),
        ({"num_classes": 1}, "label"),
        ({"train_labels_N": torch.tensor([0, 1])}, "shape"),
        ({"train_logits_NS": TRAIN * float("nan")}, "finite"),
        ({"val_logits_MS": torch.zeros(4, 2)}, "source classes"),
        ({"train_labels_N": LABELS.float()}, "integers"),
        ({"train_labels_N": LABELS - 1}, "must lie in 0..1"),
        ({"train_logits_NS": TRAIN[:0], "train_labels_N": LABELS[:0]}, "training split is empty"),
        ({"train_logits_NS": TRAIN.long()}, "floating point"),
        ({"approach": "both"}, "no approach 'both'"),
        ({"source_marginal": "even"}, "no source_marginal 'even'"),
    ],
)
def test_impossible_input_is_named(change: dict[str, object], words: str) -> None:
    """ValueError says what is wrong."""
    arguments: dict[str, object] = {
        "train_logits_NS": TRAIN,
        "train_labels_N": LABELS,
        "val_logits_MS": TRAIN,
        "val_labels_M": LABELS,
        "num_classes": 2,
        **change,
    }
    with pytest.raises(ValueError, match=words):
        learn_relationship(**arguments)  # type: ignore[arg-type]
