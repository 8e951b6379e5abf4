"""What trackers have of a run, and what its own files say, in one form: trainings by name, with all their numbers."""

import json
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = {"val_score": "val/accuracy", "lr": "optim/lr"}  # of a row's numbers where they differ in more than the split
MARKS = ("seconds", "time", "epoch")


@dataclass
class Kept:
    """A training: its parameters as text, ``numbers`` by name and step, ``ends`` by name; nothing may stand twice."""

    state: str = ""
    params: dict[str, str] = field(default_factory=dict)
    numbers: dict[tuple[str, int], float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, step: int, value: float) -> None:
        """One more number. Fails where it was there already."""
        assert (name, step) not in self.numbers, f"{name} stands twice at step {step}"
        self.numbers[name, step] = value

    def split(self, names: set[str]) -> "Kept":
        """The same with these numbers at the end."""
        self.ends = {name: value for (name, _), value in self.numbers.items() if name in names}
        self.numbers = {key: value for key, value in self.numbers.items() if key[0] not in names}
        return self


def of_run(run: Path) -> dict[str, Kept]:
    """What the files of the study say, read without the code that tells trackers."""
    found = {}
    for study in sorted((run / "studies").iterdir()):
        kept = json.loads((study / "study.json").read_text())
        for trial in kept["trials"]:
            values = {key: str(value) for key, value in trial["values"].items()}
            ends = {} if trial["score"] is None else {"value": trial["score"]}
            found[f"{study.name}/{trial['number']:04d}"] = Kept(
                trial["state"], values, _rows(study / "trials" / f"{trial['number']:04d}"), ends
            )
        chosen = json.loads((study / "selection.json").read_text())
        for folder in sorted((study / "retrain").glob("seed*")):
            result = json.loads((folder / "result.json").read_text())
            values = {key: str(value) for key, value in chosen["values"].items()} | {"seed": str(result["seed"])}
            ends = {"value": result["val_score"], "test/accuracy": result["test_score"]}
            name = f"{study.name}/{folder.name}-{chosen['config'][:8]}"
            found[name] = Kept(result["state"], values, _rows(folder), ends)
    return found


def _rows(folder: Path) -> dict[tuple[str, int], float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
    return {
        (NAMES.get(name, name.replace("_", "/", 1)), epoch): value
        for epoch, line in enumerate(lines, 1)
        for name, value in json.loads(line).items()
        if name not in MARKS
    }


def of_mlflow(run: Path, store: Path | None = None) -> dict[str, Kept]:
    """The runs of MLflow's database (``store``: another than the run's) but for those that only hold others.

    Fails where a name stands twice.
    """
    found: dict[str, Kept] = {}
    with closing(sqlite3.connect(store or run / "trackers" / "mlflow.db")) as database:
        for number, name in database.execute("SELECT run_uuid, name FROM runs").fetchall():
            tags = dict(database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", [number]))
            if "cotuning_tune.stage" not in tags:
                continue
            assert name not in found, f"{name} stands twice"
            kept = found[name] = Kept(tags.get("cotuning_tune.state", "RUNNING"))
            kept.params = dict(database.execute("SELECT key, value FROM params WHERE run_uuid = ?", [number]))
            for key, value, step in database.execute(
                "SELECT key, value, step FROM metrics WHERE run_uuid = ?", [number]
            ).fetchall():
                kept.add(key, step, value)
            kept.split(_ends(kept))
    return found


def parents(run: Path) -> dict[str, tuple[str, str]]:
    """MLflow's runs: the name of each one's parent, '' of the uppermost, and its status; no name stands twice."""
    with closing(sqlite3.connect(run / "trackers" / "mlflow.db")) as store:
        names = dict(store.execute("SELECT run_uuid, name FROM runs").fetchall())
        above = dict(store.execute("SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'").fetchall())
        status = dict(store.execute("SELECT run_uuid, status FROM runs").fetchall())
    assert len(set(names.values())) == len(names)
    return {name: (names.get(above.get(number, ""), ""), status[number]) for number, name in names.items()}


def of_trackio(run: Path) -> dict[str, Kept]:
    """The runs of Trackio's database; a run of one name has one number."""
    numbers = defaultdict[str, set[str]](set)
    found: dict[str, Kept] = defaultdict(Kept)
    with closing(sqlite3.connect(run / "trackers" / "trackio" / "cotuning_tune.db")) as store:
        for number, name, step, text in store.execute("SELECT run_id, run_name, step, metrics FROM metrics").fetchall():
            kept, values = found[short := name.split("/", 1)[1]], json.loads(text)
            numbers[short].add(number)
            kept.state = values.pop("state", kept.state)
            values.pop("reason", None)
            for key, value in values.items():
                kept.add(key, step, value)
        for name, text in store.execute("SELECT run_name, config FROM configs").fetchall():
            found[name.split("/", 1)[1]].params = {key: str(value) for key, value in json.loads(text).items()}
    assert all(len(found) == 1 for found in numbers.values())
    return {name: kept.split(_ends(kept)) for name, kept in found.items()}


def of_wandb(run: Path) -> dict[str, Kept]:
    """What W&B's files hold that `wandb sync` would upload; fails where two are of one training."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Kept] = {}
    for file in (run / "trackers" / "wandb").glob("offline-run-*/run-*.wandb"):
        kept, name, config, summary = Kept("RUNNING"), "", dict[str, Any](), dict[str, Any]()
        for data in _records(file.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.HasField("run"):
                name = record.run.display_name
                config |= _items(record.run.config.update)
            for key, value in _items(record.history.item).items():
                if not key.startswith("_"):
                    kept.add(key, record.history.step.num, value)
            summary |= _items(record.summary.update)
        assert name not in found, f"{name} stands twice"
        kept.state = summary.get("state", "RUNNING")
        kept.params = {key: str(value) for key, value in config.items()}
        kept.ends = {key: value for key, value in summary.items() if key == "value" or key.startswith("test/")}
        found[name] = kept
    return found


def _items(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB; a record may be cut into parts."""
    block, at, whole = 32768, 7, b""  # after W&B's own header
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part, at = data[at + 7 : at + 7 + length], at + 7 + length
        whole += part
        if kind in (1, 4):  # FULL, LAST
            yield whole
            whole = b""


def _ends(kept: Kept) -> set[str]:
    return {name for name, _ in kept.numbers if name in ("value", "seconds") or name.startswith("test/")}


def assert_same(kept: dict[str, Kept], run: dict[str, Kept]) -> None:
    """A tracker has each training of the run, and all its numbers; fails otherwise."""
    assert sorted(kept) == sorted(run)
    for name, wanted in run.items():
        found = kept[name]
        assert found.state == wanted.state, name
        assert wanted.params.items() <= found.params.items(), (name, wanted.params, found.params)
        assert {key: found.numbers.get(key) for key in wanted.numbers} == wanted.numbers, name
        assert max((step for _, step in found.numbers), default=0) == max((s for _, s in wanted.numbers), default=0)
        assert {key: found.ends.get(key) for key in wanted.ends} == wanted.ends, name


READERS: dict[str, Callable[[Path], dict[str, Kept]]] = {"mlflow": of_mlflow, "wandb": of_wandb, "trackio": of_trackio}
