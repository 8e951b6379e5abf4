"""Data sets of texts as tasks: splits, classes, sub-words, pieces."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Task, TaskConfig, open_task
from cotuning_tune.data.text._tokens import pieces
from cotuning_tune.models import words_of

SENTENCES = [
    ("Badoan went to Keliville", "B-PER O O B-LOC"),
    ("nothing new was said", "O O O O"),
    ("shares of Moracorp fell", "O O B-ORG O"),
    ("Sellio Tanan left Rasoft", "B-PER I-PER O B-ORG"),
]


def columns(path: Path, count: int, first: int = 0) -> Path:
    """A file of so many sentences that differ."""
    text = ""
    for number in range(first, first + count):
        words, tags = (part.split() for part in SENTENCES[number % len(SENTENCES)])
        pairs = [*zip(words, tags, strict=True), (f"n{number}", "O")]
        text += "".join(f"{word}\t{tag}\n" for word, tag in pairs) + "\n"
    path.write_text(text)
    return path


def task_of(root: Path, rate: float = 1.0, kind: str = "column_files", max_length: int = 64, **options: Any) -> Task:
    config = TaskConfig(max_length=max_length)
    return open_task("mine", rate, config, {"root": str(root), **options}, kind, words_of("tiny_bert"))


@given(st.lists(st.lists(st.integers(5, 9), min_size=1, max_size=4), max_size=30), st.integers(3, 9))
def test_pieces_tear_no_word_and_lose_none(words: list[list[int]], room: int) -> None:
    """Every word stands in one piece, in order; no piece is longer than there is room."""
    found = pieces(words, room)
    assert [word for piece in found for word in piece] == [word[:room] for word in words]
    assert all(sum(map(len, piece)) <= room for piece in found)
    assert all(len(found) == 1 or piece for piece in found)


def test_one_file_is_split_by_its_entities(tmp_path: Path) -> None:
    """A test split of its own, then the sampling rate and the validation split, each in equal shares of the strata."""
    file = columns(tmp_path / "all.conll", 200)
    whole, half = task_of(file), task_of(file, 0.5)
    assert whole.class_names == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert (len(whole.train), len(whole.val), len(whole.open_test())) == (128, 32, 40)
    assert set(half.train.names) <= set(whole.train.names) | set(whole.val.names)
    assert 80 <= len(half.train) + len(half.val) <= 83  # of each stratum half, rounded up
    for split in (whole.train, whole.val, whole.open_test()):
        assert max(Counter(split.strata).values()) - min(Counter(split.strata).values()) <= len(split) / 4


def test_given_splits_are_taken(tmp_path: Path) -> None:
    """By the names of the files; a type of entity that training lacks is told with its sentence."""
    columns(tmp_path / "mine.train", 40)
    columns(tmp_path / "mine.dev", 12, 40)
    columns(tmp_path / "mine.test", 12, 60)
    task = task_of(tmp_path)
    assert (len(task.train), len(task.val), len(task.open_test())) == (40, 12, 12)
    (tmp_path / "mine.test").write_text("Rome B-CITY\n")
    with pytest.raises(UserError, match=r"mine\.test line 1: the class 'B-CITY' stands in no training sentence"):
        task_of(tmp_path).check()
    (tmp_path / "also.test").write_text("Rome B-LOC\n")
    with pytest.raises(UserError, match='may all be the test split: say test = "PATTERN"'):
        task_of(tmp_path)


def test_first_sub_words_carry_the_tags(tmp_path: Path) -> None:
    """Of each word the first sub-word is active; labels are those of the words; padding is marked."""
    task = task_of(columns(tmp_path / "a.txt", 80))
    words = words_of("tiny_bert")
    stored, labels = next(task.stored_batches(task.train, 5))
    assert stored.shape[:2] == (5, 3)
    assert int(stored[:, 2].sum()) == len(labels) == sum(task.train.lengths[:5])
    assert stored[:, 0][stored[:, 1] == 0].eq(words.pad).all()
    first = stored[0][:, stored[0, 1] > 0]
    text = (tmp_path / "a.txt").read_text().split("\n\n")[0].splitlines()
    split = words.split([[line.split("\t")[0] for line in text]])[0]
    row = next(r for r in stored if [int(x) for x in r[0, 1 : 1 + len(split[0])]] == split[0]) if split else first
    assert [int(x) for x in row[0][row[2] > 0]] == [word[0] for word in split]


def test_long_sentences_are_split_and_not_cut(tmp_path: Path) -> None:
    """A sentence of 300 words has as many tags in rows of at most 16 sub-words, and is one example."""
    file = columns(tmp_path / "a.txt", 40)
    file.write_text(file.read_text() + "".join("sea O\n" for _ in range(299)) + "Kelia B-LOC\n")
    task = task_of(file, max_length=16)
    for split in (task.train, task.val, task.open_test()):
        for place in (p for p in range(len(split)) if split.lengths[p] == 300):
            rows = split.stored([place])
            assert rows.shape[2] <= 16
            assert (int(rows[:, 2].sum()), len(split.labels([place]))) == (300, 300)
            assert task.class_names[int(split.labels([place])[-1])] == "B-LOC"
            return
    raise AssertionError("the long sentence is lost")


def test_another_tokenizer_is_another_task(tmp_path: Path) -> None:
    """What the data are depends on the sub-words: the snapshot says by whose they were read."""
    task = task_of(columns(tmp_path / "a.txt", 40))
    assert task.snapshot().decoder == f"sub-words {words_of('tiny_bert').key[:16]}"
    assert task.fingerprint() != task_of(tmp_path / "a.txt", max_length=12).fingerprint()


def test_both_splits_together(tmp_path: Path) -> None:
    """Training on training and validation texts: the labels of both, in order."""
    task = task_of(columns(tmp_path / "a.txt", 60))
    both = task.train.plus(task.val)
    assert torch.equal(both.labels_N, torch.cat([task.train.labels_N, task.val.labels_N]))
    chosen = [0, len(task.train), len(both) - 1]
    expected = torch.cat([task.train.labels([0]), task.val.labels([0]), task.val.labels([len(task.val) - 1])])
    assert torch.equal(both.labels(chosen), expected)
    assert int(both.stored(chosen)[:, 2].sum()) == len(expected)
    assert np.array_equal(both.lengths, [*task.train.lengths, *task.val.lengths])


def csv_file(path: Path, rows: int = 60) -> Path:
    lines = [f'"a {"fine" if n % 3 else "dull"}, long film {n}",{"good" if n % 3 else "bad"}' for n in range(rows)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def test_texts_with_a_class_each(tmp_path: Path) -> None:
    """One class a text, at its first sub-word; metrics are those of classes."""
    task = task_of(csv_file(tmp_path / "reviews.csv"), kind="text_csv", max_length=8)
    assert task.class_names == ("bad", "good")
    assert task.noun == "texts"
    stored, labels = next(task.stored_batches(task.train, 7))
    assert stored.shape == (7, 3, 8)
    assert stored[:, 2].sum(1).tolist() == [1] * 7
    assert stored[:, 2, 0].all()
    assert torch.equal(labels, task.train.labels_N[:7])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "line 1: no column text or sentence or review; there are: a, b"),
        ("text,label\nx\n", "line 2: 1 columns, and the header has 2"),
        ("text,label\nx,good\n ,bad\n", "line 3: its text is empty"),
        ("text,label\nx,\n", "line 2: its label is empty"),
        ("", "is empty: a header"),
        ("text,label\n", "has no row below its header"),
        ("text,label\n" + "x,a\ny,a\n" * 3, "all training texts have one label"),
    ],
)
def test_bad_csv(tmp_path: Path, content: str, said: str) -> None:
    """One line with file and line."""
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError) as problem:
        task_of(tmp_path / "a.csv", kind="text_csv")
    assert said in str(problem.value)


def test_images_of_nothing(tmp_path: Path) -> None:
    """A backbone that takes images has no words for texts, and says so."""
    with pytest.raises(UserError, match="tiny_cnn takes images, no texts"):
        words_of("tiny_cnn")
    with pytest.raises(UserError, match="no file or folder"):
        task_of(tmp_path / "none")
