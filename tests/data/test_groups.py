"""Groups, as patients or cameras: none is torn apart by a split that is drawn, or refused where a given one does."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import Task, TaskConfig, open_task
from cotuning_tune.data._splitting import draw, grouped, hold_out
from cotuning_tune.plan.inventory import Names
from tests.data.test_csv_list import make, names

Write = Callable[..., Path]


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_no_group_is_torn_apart(data: st.DataObject) -> None:
    """Whatever groups and classes there are: every image in exactly one split, every group whole, no class lost."""
    count = data.draw(st.integers(1, 60))
    given_groups = data.draw(st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=count, max_size=count))
    labels = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    fraction, seed = data.draw(st.sampled_from([0.1, 0.2, 0.5, 0.9])), data.draw(st.integers(0, 5))
    listing = Names([f"i{n}" for n in range(count)], labels)
    groups = grouped(listing.names, given_groups)
    train, held = hold_out(listing, range(count), fraction, seed, groups)
    assert sorted(train + held) == list(range(count))
    assert not {given_groups[p] for p in train} & {given_groups[p] for p in held} - {""}
    assert {labels[p] for p in train} == set(labels)
    again = hold_out(listing, range(count), fraction, seed, groups)
    assert again == (train, held)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=20), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_the_share_is_met_as_well_as_groups_allow(sizes: list[int], seed: int) -> None:
    """Of a class with two groups or more one is held out, and the share is missed by less than the largest group."""
    keys = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    listing = Names([f"i{n}" for n in range(len(keys))], [0] * len(keys))
    _, held = hold_out(listing, range(len(keys)), 0.2, seed, grouped(listing.names, keys))
    assert held
    assert abs(len(held) - 0.2 * len(keys)) <= max(sizes)


def test_groups_that_others_tie_together() -> None:
    """An image of one group with the bytes of one of another joins both; the smallest name is the group's."""
    assert grouped(["c", "a", "b", "d"], ["x", "x", "y", ""], ["1", "2", "2", ""]) == [1, 1, 1, 3]
    assert grouped(["a", "b"], ["", ""], None) is None


def test_a_group_of_several_classes() -> None:
    """It goes as a whole, by its most frequent class."""
    keys = ["x"] * 4 + ["y"] * 4 + ["z"] * 4
    listing = Names([f"i{n:02d}" for n in range(12)], [0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 0])
    for seed in range(6):
        held = draw(
            listing, range(12), lambda of_class: 4 if len(of_class) == 8 else 0, seed, grouped(listing.names, keys)
        )
        assert {keys[p] for p in held} in ({"x"}, {"y"})
        assert len(held) == 4


HEAD = "path,label,patient_id\n"
ROWS = [f"{n}.jpg,{'ab'[n % 2]},{n // 4}" for n in range(80)]


def test_the_test_share_of_a_table(tmp_path: Path) -> None:
    """Patients stay whole; the share is met, for each class alike; the column is guessed and said."""
    found = make(tmp_path / "l.csv", HEAD + "\n".join(ROWS))
    patients = [{int(name.partition(".")[0]) // 4 for name in names(found, split)} for split in ("train", "test")]
    assert not patients[0] & patients[1]
    files = found.files("test")
    assert files
    assert Counter(files.labels) == {0: 8, 1: 8}
    assert found.grouping() == "column patient_id"


@pytest.mark.parametrize(
    ("head", "options", "column"),
    [
        ("path,label,Group", {}, "Group"),
        ("path,label,camera", {}, ""),
        ("path,label,camera", {"group": "camera"}, "camera"),
        ("path,label,group", {"group": "none"}, ""),
    ],
)
def test_which_column(tmp_path: Path, head: str, options: dict[str, Any], column: str) -> None:
    """Only an unmistakable name is guessed; any other is given, and ``none`` leaves it."""
    found = make(tmp_path / "l.csv", "\n".join([head, *ROWS]), **options)
    assert found.grouping() == (f"column {column}" if column else "")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    """A column of groups that is named and not there is refused."""
    with pytest.raises(UserError, match="no column ward"):
        make(tmp_path / "l.csv", HEAD + "\n".join(ROWS), group="ward")


def test_given_splits_that_tear_groups_apart(tmp_path: Path) -> None:
    """One line with the number, an example, and the ways out."""
    rows = ["0.jpg,a,p1,train", "1.jpg,b,p1,test", "2.jpg,b,p2,train", "3.jpg,a,,test", "4.jpg,a,,train"]
    with pytest.raises(UserError) as caught:
        make(tmp_path / "l.csv", "\n".join(["path,label,group,split", *rows]))
    assert str(caught.value) == (
        f"{tmp_path}/l.csv column group: 1 of 2 groups have images in two splits: p1 has 0.jpg in train, 1.jpg in test;"
        ' give each group one split, or set group = "none" where the column says something else'
    )
    make(tmp_path / "l.csv", None, group="none")


def grouped_task(tmp_path: Path, rate: float = 1.0, **config: Any) -> Task:
    table = {"file": str(tmp_path / "l.csv")}
    return open_task("scans", rate, TaskConfig(size=8, resize=8, **config), table, "csv_list")


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_a_task_by_groups(tmp_path: Path, write_image: Write, rate: float) -> None:
    """Training, validation and test split share no patient, at any rate and validation seed."""
    for n in range(40):
        write_image(tmp_path / f"{n}.jpg", n)
    (tmp_path / "l.csv").write_text(HEAD + "\n".join(ROWS[:40]))
    splits = set()
    for val_seed in range(4):
        task = grouped_task(tmp_path, rate, val_seed=val_seed)
        parts = [
            {int(name.partition(".")[0]) // 4 for name in part}
            for part in (task.train.names, task.val.names, task.open_test().names)
        ]
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
        assert len(task.train) + len(task.val) == 32 * rate
        splits.add(frozenset(task.val.names))
    assert len(splits) > 1
    assert task.grouping() == ["scans: 8 groups (column patient_id): no drawn split tears one apart"]


def test_another_split_in_place_of_a_given_one(tmp_path: Path, write_image: Write) -> None:
    """Where a validation split is given and another is drawn, that one keeps patients whole too."""
    rows = []
    for n in range(40):
        write_image(tmp_path / f"{n}.jpg", n)
        rows.append(f"{n}.jpg,{'ab'[n % 2]},{n // 4},{'val' if n < 8 else 'test' if n >= 32 else 'train'}")
    (tmp_path / "l.csv").write_text("\n".join(["path,label,group,split", *rows]))
    drawn = [grouped_task(tmp_path, val_seed=seed) for seed in range(5)]
    for task in drawn:
        patients = [{int(name.partition(".")[0]) // 4 for name in part} for part in (task.train.names, task.val.names)]
        assert not patients[0] & patients[1]
        assert (len(task.train), len(task.val)) == (24, 8)
    assert len({frozenset(task.val.names) for task in drawn}) > 1
