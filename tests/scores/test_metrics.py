"""Every metric against scikit-learn's or seqeval's, on planted predictions with absent classes and broken sequences."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from sklearn import metrics as sklearn

from cotuning_tune.base.errors import UserError
from cotuning_tune.scores import ACCURACY, CLASSES, METRICS, Predicted, check_metric, common, evaluate, unit_values

T = 6
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def planted(seed: int, count: int = 300) -> Predicted:
    """Predictions of six classes, one of which no target has, and another one that is never given."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, T - 1, count)
    logits = rng.normal(0, 1, (count, T)) + 2 * np.eye(T)[labels]
    logits[:, 1] = -9
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    nll = -np.log(probabilities[np.arange(count), labels])
    return Predicted(labels, logits.argmax(1), nll, [f"c{n}" for n in range(T)], None, probabilities)


@pytest.mark.parametrize("seed", range(3))
def test_image_metrics_are_scikit_learns(seed: int) -> None:
    """Accuracy, balanced accuracy, macro F1, log loss and the mean one-against-the-rest AUROC of the classes there."""
    p = planted(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn speaks of classes that are given and not there
        balanced = sklearn.balanced_accuracy_score(p.labels_N, p.predicted_N)
        macro = sklearn.f1_score(p.labels_N, p.predicted_N, average="macro", zero_division=0)
    is_NT = np.eye(T)[p.labels_N]
    auroc = np.mean([sklearn.roc_auc_score(is_NT[:, c], p.probabilities_NT[:, c]) for c in range(T - 1)])
    expected = {
        "accuracy": 100 * sklearn.accuracy_score(p.labels_N, p.predicted_N),
        "mean_class_accuracy": 100 * balanced,
        "balanced_accuracy": 100 * balanced,
        "macro_f1": 100 * macro,
        "auroc": 100 * auroc,
        "nll": sklearn.log_loss(p.labels_N, p.probabilities_NT, labels=range(T)),
    }
    assert set(expected) == set(CLASSES)
    for name, value in expected.items():
        assert evaluate(METRICS[name], p).value == pytest.approx(value, abs=1e-9), name


SEQUENCES = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=12), min_size=1
)


def tagged(pairs: list[list[tuple[str, str]]]) -> Predicted:
    """Sentences of (true tag, given tag)."""
    labels, given_ = (np.array([TAGS.index(pair[n]) for sentence in pairs for pair in sentence]) for n in (0, 1))
    return Predicted(labels, given_, np.ones(len(labels)), TAGS, np.array([len(sentence) for sentence in pairs]))


@settings(max_examples=300)
@given(SEQUENCES)
def test_entity_f1_is_seqevals(pairs: list[list[tuple[str, str]]]) -> None:
    """F1, precision and recall of any sequences, broken ones too (I- behind O, behind another type, at the start)."""
    true, given_ = ([[pair[n] for pair in sentence] for sentence in pairs] for n in (0, 1))
    found = evaluate(METRICS["entity_f1"], tagged(pairs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found.value == pytest.approx(100 * seqeval.f1_score(true, given_, zero_division=0))
        assert found.others["precision"] == pytest.approx(100 * seqeval.precision_score(true, given_, zero_division=0))
        assert found.others["recall"] == pytest.approx(100 * seqeval.recall_score(true, given_, zero_division=0))
    assert found.count == len(pairs)


@settings(max_examples=60)
@given(SEQUENCES)
def test_what_sentences_add_has_the_score_as_its_mean(pairs: list[list[tuple[str, str]]]) -> None:
    """The mean over the sentences of what each adds is the metric, F1 included."""
    p = tagged(pairs)
    for name in ("entity_f1", "accuracy", "nll"):
        values = unit_values(METRICS[name], p)
        assert values is not None
        assert (len(values), values.mean()) == (len(pairs), pytest.approx(evaluate(METRICS[name], p).value, abs=1e-9))


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "auroc"])
def test_what_images_add_has_the_score_as_its_mean(name: str) -> None:
    """The same for metrics of classes; AUROC has no such shares."""
    p = planted(4)
    values = unit_values(METRICS[name], p)
    assert values is not None
    assert values.mean() == pytest.approx(evaluate(METRICS[name], p).value)
    assert unit_values(METRICS["auroc"], p) is None


@pytest.mark.parametrize("name", ["macro_f1", "entity_f1"])
def test_the_spread_of_an_f1_is_that_of_the_bootstrap(name: str) -> None:
    """The standard error by the linear expansion is within a tenth of the one over 1000 resamplings."""
    rng = np.random.default_rng(0)
    p = planted(5, 600)
    if name == "entity_f1":
        draws = rng.integers(0, len(TAGS), (400, 8, 2))
        draws[:, :, 1] = np.where(rng.random((400, 8)) < 0.6, draws[:, :, 0], draws[:, :, 1])
        p = tagged([[(TAGS[a], TAGS[b]) for a, b in sentence] for sentence in draws])
    values = unit_values(METRICS[name], p)
    assert values is not None
    starts = np.concatenate([[0], np.cumsum(np.ones(p.count, int) if p.lengths_E is None else p.lengths_E)])
    found = []
    for _ in range(1000):
        chosen = rng.integers(0, p.count, p.count)
        places = np.concatenate([np.arange(starts[c], starts[c + 1]) for c in chosen])
        lengths = None if p.lengths_E is None else p.lengths_E[chosen]
        again = Predicted(p.labels_N[places], p.predicted_N[places], p.nll_N[places], p.classes, lengths)
        found.append(evaluate(METRICS[name], again).value)
    assert values.std() / np.sqrt(p.count) == pytest.approx(np.std(found), rel=0.1)


def test_names() -> None:
    """What is asked is checked by name and by what the task knows; mixed metrics have a name of their own."""
    assert check_metric("nll", CLASSES, "the task a", "experiment.metric").greater_is_better is False
    with pytest.raises(UserError, match="the task a cannot be judged by entity_f1: it knows accuracy"):
        check_metric("entity_f1", CLASSES, "the task a", "experiment.metric")
    with pytest.raises(UserError, match="metric 'f1'"):
        check_metric("f1", CLASSES, "the task a", "experiment.metric")
    assert common([ACCURACY, ACCURACY]) == ACCURACY
    assert common([ACCURACY, METRICS["entity_f1"]]).name == "score"


def test_no_class_and_nothing_right() -> None:
    """Without an entity anywhere F1 is 0; where all targets are of one class AUROC is that of chance."""
    assert evaluate(METRICS["entity_f1"], tagged([[("O", "O")]])).value == 0
    one = Predicted(np.zeros(3, int), np.zeros(3, int), np.ones(3), ("a", "b"), None, np.full((3, 2), 0.5))
    assert evaluate(METRICS["auroc"], one).value == 50
