"""What a run's data were: classes in order, the decoder, and of each split every example by name, class and content.

``data.json`` of a run holds, by task, a key of each split, and which changes were accepted since;
``data/TASK.json.gz`` the examples, for the numbers of a refusal. The first driver writes them, all others compare.
"""

import gzip
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_bytes, write_json
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import present

SHORT = 16
Example = tuple[str, str, str]  # name, class, content


class DataChanged(UserError):  # noqa: N818 - what happened
    """The data are no longer those that the run began with. Ends the driver; nothing is lost."""


class TaskRecord(TypedDict):
    """A task in ``data.json``. ``keys`` and ``counts`` of examples by split; ``classes``: how many.

    ``notes``: lines that the report repeats.
    """

    classes: int
    counts: dict[str, int]
    keys: dict[str, str]
    decoder: str | None
    notes: NotRequired[list[str]]


class Acceptance(TypedDict):
    """A change that a user has accepted: ``since`` in seconds of the epoch."""

    task: str
    changes: str
    since: float


class DataRecord(TypedDict):
    """``data.json``."""

    tasks: dict[str, TaskRecord]
    accepted: list[Acceptance]


@dataclass(frozen=True)
class Snapshot:
    """What data are now. ``decoder``: what examples depend on besides the bytes of files, '' where there are none; None
    where that does not matter.

    A split that a task has no examples of is empty; one that was not looked at is not there. ``notes``: what the report
    is to say of the data; they are not compared.
    """

    classes: tuple[str, ...]
    decoder: str | None
    splits: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> dict[str, str]:
        """A key of each split: of its examples in their order, and of the classes in theirs."""
        return {split: _key([self.classes, examples]) for split, examples in self.splits.items()}

    def record(self) -> TaskRecord:
        """What ``data.json`` holds of it."""
        counts = {split: len(examples) for split, examples in self.splits.items()}
        known: TaskRecord = {
            "classes": len(self.classes),
            "counts": counts,
            "keys": self.keys,
            "decoder": self.decoder,
        }
        if self.notes:
            known["notes"] = list(self.notes)
        return known

    def packed(self) -> bytes:
        """The file's bytes; equal contents are equal bytes."""
        content = {"classes": self.classes, "decoder": self.decoder, "splits": dict(self.splits)}
        return gzip.compress(json.dumps(content).encode(), mtime=0)

    @classmethod
    def unpacked(cls, data: bytes) -> "Snapshot":
        """The content of such a file's bytes; ValueError, KeyError or OSError for others."""
        content = json.loads(gzip.decompress(data))
        splits = {
            split: [(str(name), str(label), str(digest)) for name, label, digest in examples]
            for split, examples in content["splits"].items()
        }
        return cls(tuple(content["classes"]), content["decoder"], splits)


def _key(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:SHORT]


def changes(then: Snapshot, now: Snapshot) -> list[str]:
    """What differs, in numbers and with an example each; of the splits that ``now`` has looked at."""
    said = []
    gone, new = (sorted(set(a) - set(b)) for a, b in ((then.classes, now.classes), (now.classes, then.classes)))
    if gone or new:
        words = [f"{word} {_some(names)}" for word, names in (("gone:", gone), ("new:", new)) if names]
        said.append(f"the list of classes differs ({', '.join(words)})")
    elif then.classes != now.classes:
        said.append("the classes have another order")
    for split, examples in now.splits.items():
        if words := _split_changes(then.splits.get(split, ()), examples):
            said.append(f"{split}: {', '.join(words)}")
    if now.decoder not in (then.decoder, None):
        said.append(f"they were decoded by {then.decoder or 'nothing'}, now by {now.decoder or 'nothing'}")
    return said


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _split_changes(then: Sequence[Example], now: Sequence[Example]) -> list[str]:
    """What became of a split's examples. One that is there under another name is known by its content."""
    old, new = ({name: (label, digest) for name, label, digest in listed} for listed in (then, now))
    left = {name: rest for name, rest in old.items() if new.get(name) != rest}
    come = {name: rest for name, rest in new.items() if old.get(name) != rest}
    by_content: dict[str, list[str]] = {}
    for name, (_, digest) in sorted(come.items(), reverse=True):
        by_content.setdefault(digest, []).append(name)
    found: dict[str, list[str]] = {}
    for name in sorted(left, key=lambda name: come.get(name, ("", ""))[1] != left[name][1]):
        label, digest = left[name]
        same = by_content.get(digest, [])
        if same:
            other = name if name in same else same[-1]
            same.remove(other)
            what = "under another name" if come.pop(other)[0] == label else "of another class"
        else:
            what = "with another content" if name in come else "gone"
        found.setdefault(what, []).append(name)
    if fresh := sorted(set(come) - set(found.get("with another content", ()))):
        found["new"] = fresh
    if not found and list(old) != list(new):
        return ["in another order"]
    return [f"{len(names)} {what} ({min(names)}{', ...' if len(names) > 1 else ''})" for what, names in found.items()]


def read_record(run: RunDir) -> DataRecord:
    """What the run has recorded of its data; empty before the first driver."""
    if not run.data_record.exists():
        return {"tasks": {}, "accepted": []}
    found: DataRecord = read_json(run.data_record)
    return {**found, "tasks": {task: present(known) for task, known in found["tasks"].items()}}


def check(run: RunDir, task: str, now: Snapshot) -> None:
    """Raises DataChanged with numbers where the data are not those recorded, if any are."""
    if said := _differences(run, read_record(run), task, now):
        raise _changed(run, task, said)


def _changed(run: RunDir, task: str, differences: Sequence[str]) -> DataChanged:
    return DataChanged(
        f"the data of {task} are not those that {run.path} began with: {'; '.join(differences)}: put them back, start a"
        " new run (--name), or continue with --accept-data-change, which the report will say"
    )


def _differences(run: RunDir, record: DataRecord, task: str, now: Snapshot) -> list[str]:
    known = record["tasks"].get(task)
    if known is None:
        return []
    keys = now.keys
    if now.decoder in (known["decoder"], None) and all(known["keys"].get(split) == key for split, key in keys.items()):
        return []
    try:
        then = Snapshot.unpacked(run.data_files(task).read_bytes())
    except (OSError, ValueError, KeyError, EOFError):
        counts = known["counts"]
        counted = [f"{split} of {counts.get(split, 0)}, now {len(now.splits[split])}" for split in keys]
        return [f"{run.data_files(task)} is lost or damaged, which would say what changed ({', '.join(counted)})"]
    return changes(then, now)


def settle_data(run: RunDir, now: Mapping[str, Snapshot], *, accept: bool) -> list[str]:
    """Before a driver works: record the data where nothing was trained yet, else compare them.

    ``accept``: changed data are recorded as such, instead of DataChanged; the lines to be said of it.
    """
    began, record, said = run.studies_folder.exists(), read_record(run), []
    for task, snapshot in now.items():
        if began and task in record["tasks"]:
            differences = _differences(run, record, task, snapshot)
            if not differences:
                continue
            if not accept:
                raise _changed(run, task, differences)
            record["accepted"].append({"task": task, "changes": "; ".join(differences), "since": time.time()})
            said.append(f"the data of {task} have changed, which was accepted: {'; '.join(differences)}")
        write_bytes(run.data_files(task), snapshot.packed())
        record["tasks"][task] = snapshot.record()
        write_json(run.data_record, record)
    return said
