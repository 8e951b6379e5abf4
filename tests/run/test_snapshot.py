"""What data were and what they are: every kind of change has its number."""

from pathlib import Path

import pytest

from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.snapshot import DataChanged, Example, Snapshot, changes, check, read_record, settle_data

TRAIN: list[Example] = [("a/1", "a", "p"), ("a/2", "a", "q"), ("b/1", "b", "r"), ("b/2", "b", "s")]
THEN = Snapshot(("a", "b"), "rules 1", {"train": TRAIN, "val": [], "test": [("t/1", "a", "u")]})


def with_train(*images: Example, classes: tuple[str, ...] = ("a", "b")) -> Snapshot:
    return Snapshot(classes, "rules 1", {"train": list(images), "val": [], "test": [("t/1", "a", "u")]})


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (THEN, []),
        (with_train(*TRAIN[1:]), ["train: 1 gone (a/1)"]),
        (with_train(*TRAIN, ("b/3", "b", "x"), ("b/4", "b", "y")), ["train: 2 new (b/3, ...)"]),
        (with_train(("a/1", "a", "z"), *TRAIN[1:]), ["train: 1 with another content (a/1)"]),
        (with_train(("a/9", "a", "p"), *TRAIN[1:]), ["train: 1 under another name (a/1)"]),
        (with_train(("a/1", "b", "p"), *TRAIN[1:]), ["train: 1 of another class (a/1)"]),
        (with_train(*TRAIN[1:], ("b/9", "b", "p")), ["train: 1 of another class (a/1)"]),
        (
            with_train(("a/1", "a", "r"), ("a/2", "a", "s"), ("b/1", "b", "p"), ("b/2", "b", "q")),
            ["train: 4 of another class (a/1, ...)"],
        ),
        (with_train(*reversed(TRAIN)), ["train: in another order"]),
        (with_train(*TRAIN, classes=("b", "a")), ["the classes have another order"]),
        (
            with_train(*TRAIN[:2], ("c/1", "c", "r"), ("c/2", "c", "s"), classes=("a", "c")),
            ["the list of classes differs (gone: b, new: c)", "train: 2 of another class (b/1, ...)"],
        ),
        (
            with_train(TRAIN[1], ("a/1", "a", "z"), ("b/1", "b", "r"), ("c", "b", "w")),
            ["train: 1 with another content (a/1), 1 gone (b/2), 1 new (c)"],
        ),
        (Snapshot(("a", "b"), "rules 2", THEN.splits), ["they were decoded by rules 1, now by rules 2"]),
        (Snapshot(("a", "b"), None, THEN.splits), []),
        (Snapshot(("a", "b"), "rules 1", {"train": TRAIN}), []),
        (
            Snapshot(("a", "b"), "rules 1", {"train": TRAIN[:2], "val": TRAIN[2:]}),
            ["train: 2 gone (b/1, ...)", "val: 2 new (b/1, ...)"],
        ),
        (Snapshot(("a", "b"), "rules 1", {"test": [("t/1", "b", "u")]}), ["test: 1 of another class (t/1)"]),
    ],
)
def test_changes(now: Snapshot, said: list[str]) -> None:
    """Each kind of change by number and example, and a refusal exactly where there is one."""
    assert changes(THEN, now) == said
    assert Snapshot.unpacked(THEN.packed()).keys == THEN.keys


def test_changes_are_refused_and_recorded(tmp_path: Path) -> None:
    """Before the first trial the record is made anew; then changes are refused, or accepted and kept."""
    run, other = RunDir(tmp_path / "run"), with_train(*TRAIN[1:])
    assert settle_data(run, {"birds": other}, accept=False) == []
    assert settle_data(run, {"birds": THEN}, accept=False) == []
    run.studies_folder.mkdir()
    assert settle_data(run, {"birds": THEN}, accept=False) == []
    check(run, "birds", THEN)
    check(run, "unknown", other)
    with pytest.raises(DataChanged) as refused:
        settle_data(run, {"birds": other}, accept=False)
    assert str(refused.value) == (
        f"the data of birds are not those that {run.path} began with: train: 1 gone (a/1): put them back, start a new"
        " run (--name), or continue with --accept-data-change, which the report will say"
    )
    assert read_record(run)["tasks"]["birds"]["keys"] == THEN.keys
    said = settle_data(run, {"birds": other}, accept=True)
    assert said == ["the data of birds have changed, which was accepted: train: 1 gone (a/1)"]
    assert settle_data(run, {"birds": other}, accept=True) == []
    check(run, "birds", other)
    record = read_record(run)
    assert record["tasks"]["birds"] == {
        "classes": 2,
        "counts": {"train": 3, "val": 0, "test": 1},
        "keys": other.keys,
        "decoder": "rules 1",
    }
    assert [(one["task"], one["changes"]) for one in record["accepted"]] == [("birds", "train: 1 gone (a/1)")]


@pytest.mark.parametrize("content", [None, b"", b"x", THEN.packed()[:-20]])
def test_a_lost_list_of_images_still_refuses(tmp_path: Path, content: bytes | None) -> None:
    """The keys alone tell that data have changed; what has changed is not known then."""
    run = RunDir(tmp_path / "run")
    settle_data(run, {"birds": THEN}, accept=False)
    run.data_files("birds").unlink()
    if content is not None:
        run.data_files("birds").write_bytes(content)
    check(run, "birds", THEN)
    with pytest.raises(DataChanged, match=r"is lost or damaged.*\(train of 4, now 3"):
        check(run, "birds", with_train(*TRAIN[1:]))
