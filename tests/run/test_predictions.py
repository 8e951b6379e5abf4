"""The file of per-image predictions: equal contents are equal bytes, and damage is told."""

import io
import zipfile

import numpy as np
import pytest

from cotuning_tune.runs.predictions import Predictions, order_key


def made(order: str = "key") -> Predictions:
    labels, confidence = np.arange(6) % 3, np.linspace(0.4, 1.0, 6)
    return Predictions(labels, labels[::-1], confidence, -np.log(confidence), order, ("a", "ß", "naïve owl"))


def test_it_comes_back() -> None:
    """Every array has its values in the types of the format; classes keep their names."""
    found = Predictions.unpacked(made().packed())
    assert [a.dtype for a in (found.labels_N, found.predicted_N)] == [np.int32] * 2
    assert [a.dtype for a in (found.confidence_N, found.nll_N)] == [np.float32] * 2
    assert found.labels_N.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.predicted_N.tolist() == [2, 1, 0, 2, 1, 0]
    assert found.confidence_N.tolist() == np.linspace(0.4, 1.0, 6, dtype=np.float32).tolist()
    assert found.nll_N.tolist() == (-np.log(np.linspace(0.4, 1.0, 6))).astype(np.float32).tolist()
    assert (found.order, found.classes) == ("key", ("a", "ß", "naïve owl"))


def test_bytes_follow_from_the_content() -> None:
    """No time of day is in the file, whose hash the ledger covers."""
    data = made().packed()
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        assert {part.date_time for part in parts.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert data == made().packed() != made("other").packed()


@pytest.mark.parametrize("damage", [lambda d: d[:-200], lambda d: b"", lambda d: b"text", lambda d: d[:60] + d[61:]])
def test_damage_is_told(damage) -> None:
    """A part of a file, an empty one and text are no predictions."""
    with pytest.raises(ValueError, match="not predictions: "):
        Predictions.unpacked(damage(made().packed()))


def test_a_file_without_an_array() -> None:
    """An archive that lacks an array is none of ours."""
    buffer = io.BytesIO()
    np.savez(buffer, labels=np.zeros(3))
    with pytest.raises(ValueError, match="not predictions"):
        Predictions.unpacked(buffer.getvalue())


def test_the_key_knows_the_order() -> None:
    """The same images in another order, or cut elsewhere, have another key; it is short and holds no name."""
    assert order_key(["owl", "jay"]) == order_key(iter(["owl", "jay"]))
    assert len({order_key(names) for names in (["owl", "jay"], ["jay", "owl"], ["owlj", "ay"], ["owl"])}) == 4
    assert len(order_key(["owl"])) == 16
