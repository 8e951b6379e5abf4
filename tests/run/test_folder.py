"""The run directory: names of its files, and that a reader never sees half a file."""

import errno
import json
import os
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from cotuning_tune.base import files
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import (
    append_line,
    open_new,
    read_json,
    read_lines,
    write_bytes,
    write_json,
    write_lines,
)
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.places import check_place


def test_write_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    """A written file stands alone in its new folder: no temporary name is left."""
    write_bytes(tmp_path / "a" / "b" / "file", b"new")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


def test_old_content_until_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While new content goes to the disk a reader still sees the old one, whole."""
    path, seen = tmp_path / "file", []
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.read_bytes()))
    write_bytes(path, b"new")
    assert seen[0] == b"old"
    assert path.read_bytes() == b"new"


def test_a_reader_keeps_what_it_opened(tmp_path: Path) -> None:
    """A reader that opened the file before new content came reads the old one to its end."""
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with path.open("rb") as reader:
        write_bytes(path, b"new")
        assert reader.read() == b"old"


def test_a_full_disk_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk refuses the new content the old one stays."""

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_json(tmp_path / "file", 1)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "file", 2)
    assert read_json(tmp_path / "file") == 1


@pytest.mark.parametrize(("durable", "syncs"), [(True, 2), (False, 0)])
def test_durable_waits_for_file_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, syncs: int
) -> None:
    """A durable write waits for the disk twice, once for the file and once for its folder."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    write_bytes(tmp_path / "file", b"", durable=durable)
    assert len(calls) == syncs


def test_json_refuses_nan(tmp_path: Path) -> None:
    """NaN is no JSON: writing it fails and leaves the old file as it was."""
    write_json(tmp_path / "file", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"a": float("nan")})
    assert read_json(tmp_path / "file") == {"a": 1}


def test_json_keeps_letters(tmp_path: Path) -> None:
    """Letters outside ASCII are readable in the file."""
    write_json(tmp_path / "file", {"Größe": "± 1"})
    assert '"Größe": "± 1"' in (tmp_path / "file").read_text(encoding="utf-8")
    assert read_json(tmp_path / "file") == {"Größe": "± 1"}


@pytest.mark.parametrize(("content", "words"), [(None, "is missing"), ('{"a": 1', "is damaged")])
def test_unreadable_json(tmp_path: Path, content: str | None, words: str) -> None:
    """A missing or damaged JSON file is a user's error with its path."""
    path = tmp_path / "file.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=rf"file\.json {words}"):
        read_json(path)


def test_lines_of_a_missing_file(tmp_path: Path) -> None:
    """A file of lines that is not there has no rows."""
    assert read_lines(tmp_path / "none") == []


def test_half_a_last_line_is_left_out(tmp_path: Path) -> None:
    """Of a file cut off in its last line all rows before are read."""
    write_lines(tmp_path / "rows", [{"epoch": 1}, {"epoch": 2}])
    text = (tmp_path / "rows").read_text()
    (tmp_path / "rows").write_text(text[:-4])
    assert read_lines(tmp_path / "rows") == [{"epoch": 1}]


@pytest.mark.parametrize("text", ["ä ± \n", "a\u2028b", "a\x85b"])
def test_lines_come_back(tmp_path: Path, text: str) -> None:
    """Rows come back as written, whatever line separators their texts hold."""
    rows = [{"reason": text}, {"epoch": 2}]
    write_lines(tmp_path / "rows", rows)
    assert read_lines(tmp_path / "rows") == rows


RUN_PATHS = {
    "experiment_file": "experiment.toml",
    "space_file": "space.toml",
    "environment": "env.json",
    "journal": "optuna.journal",
    "ledger": "test_ledger.jsonl",
    "tensorboard": "tensorboard",
    "report": "report",
    "ray": "ray",
}


@pytest.mark.parametrize(("attribute", "name"), RUN_PATHS.items())
def test_paths_of_a_run(attribute: str, name: str) -> None:
    """The files of a run have the names that the documentation gives them."""
    assert getattr(RunDir(Path("/runs/x")), attribute) == Path("/runs/x") / name


def test_paths_of_a_study() -> None:
    """Trials are numbered with four digits, retrainings by their seed."""
    study = RunDir(Path("r")).study("cub200-0.15-bss")
    assert study.name == "cub200-0.15-bss"
    assert study.selection == Path("r/studies/cub200-0.15-bss/selection.json")
    assert study.trial(7).path == Path("r/studies/cub200-0.15-bss/trials/0007")
    assert study.trial(12345).path.name == "12345"
    assert study.retrain(2).path == Path("r/studies/cub200-0.15-bss/retrain/seed2")


def test_paths_of_a_trial_differ() -> None:
    """Every file of a trial has a name of its own."""
    trial = TrialDir(Path("t"))
    files = [trial.config, trial.metrics, trial.result, trial.state, trial.predictions, trial.model]
    assert len({path.name for path in files}) == len(files)
    assert trial.result == Path("t/result.json")


def test_open_needs_a_run(tmp_path: Path) -> None:
    """A folder without experiment file is no run."""
    with pytest.raises(UserError, match=r"no run in .*experiment\.toml"):
        RunDir.open(tmp_path)


def test_open_gives_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run opened by a relative path still works from another working folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "experiment.toml").touch()
    monkeypatch.chdir(tmp_path)
    run = RunDir.open("mine")
    assert (run.path, run.name) == (tmp_path / "mine", "mine")


def test_studies_are_folders_in_order(tmp_path: Path) -> None:
    """The studies of a run are the folders there are, by name; other files do not count."""
    run = RunDir(tmp_path)
    assert list(run.study_folders()) == []
    for name in ("b", "a"):
        run.study(name).path.mkdir(parents=True)
    (tmp_path / "studies" / "note.txt").touch()
    assert list(run.study_folders()) == [StudyDir(tmp_path / "studies" / name) for name in "ab"]


def test_incarnation_counts_drivers(tmp_path: Path) -> None:
    """Each driver of a run gets the next number, from 1."""
    run = RunDir(tmp_path)
    assert run.read_incarnation() == 0
    assert [run.raise_incarnation(), run.raise_incarnation()] == [1, 2]
    assert RunDir(tmp_path).read_incarnation() == 2


def test_rows_are_plain_json(tmp_path: Path) -> None:
    """Every line of a file of rows is a JSON object by itself."""
    write_lines(tmp_path / "rows", [{"a": 1}, {"b": [2]}])
    lines = (tmp_path / "rows").read_text().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [{"a": 1}, {"b": [2]}]
    assert lines[-1] == ""


def test_a_place_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest folder that is there must be one that this user may write to; the line says why it is not."""
    check_place(tmp_path / "runs" / "tiny")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is not a folder \(--storage\)"):
        check_place(tmp_path / "file" / "tiny")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="link is not a folder"):
        check_place(tmp_path / "link" / "tiny")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=f"^{tmp_path} is closed to you, its owner"):
        check_place(tmp_path / "runs" / "tiny")
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UserError, match=f"^{tmp_path} belongs to another user .*--storage"):
        check_place(tmp_path / "runs" / "tiny")


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of files.py are short."""
    monkeypatch.setattr(files, "PAUSE_S", 0.001)
    monkeypatch.setattr(files, "STORAGE_POLL_S", 0.001)


def failing(monkeypatch: pytest.MonkeyPatch, times: int, number: int) -> list[int]:
    """The first writes of files fail with an error number; what was tried is kept."""
    tries, really = list[int](), files._write

    def write(path: Path, data: bytes, durable: bool) -> None:
        tries.append(number)
        if len(tries) <= times:
            raise OSError(number, "refused")
        really(path, data, durable)

    monkeypatch.setattr(files, "_write", write)
    return tries


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize(
    ("number", "times", "tried", "written"),
    [
        (errno.ENOSPC, 3, 4, True),
        (errno.EIO, 99, files.TRIES + 1, False),
        (errno.EACCES, 99, 1, False),
        (errno.ENOENT, 99, 1, False),
    ],
)
def test_a_write_that_the_storage_refuses_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, times: int, tried: int, written: bool
) -> None:
    """A disk that is full in the middle of a write: tried again when there is room; other faults pass at once."""
    run = RunDir(tmp_path)
    run.experiment_file.touch()
    tries = failing(monkeypatch, times, number)
    with nullcontext() if written else pytest.raises(OSError, match="refused"), files.guarded(run.experiment_file):
        write_json(run.clock, {})
    assert len(tries) == tried
    assert run.clock.exists() == written


@pytest.mark.usefixtures("swift")
def test_a_folder_that_vanishes_in_the_middle_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made where it has been, whatever is written; it comes back, and every write is there."""
    run, away = RunDir(tmp_path / "run"), tmp_path / "away"
    write_json(run.experiment_file, {})
    really, moments = os.fsync, list[int]()

    def vanishing(descriptor: int) -> None:
        really(descriptor)
        moments.append(descriptor)
        if len(moments) == 1:
            run.path.rename(away)

    monkeypatch.setattr(os, "fsync", vanishing)
    written = threading.Thread(target=write_json, args=(run.study("a").trial(0).result, {"value": 1}))
    appended = threading.Thread(target=append_line, args=(run.ledger, "{}"))
    opened = threading.Thread(target=lambda: open_new(run.tensorboard / "events").close())
    with files.guarded(run.experiment_file):
        written.start()
        while run.path.exists():
            time.sleep(0.001)
        appended.start()
        opened.start()
        time.sleep(0.05)
        assert not run.path.exists()
        away.rename(run.path)
        for thread in (written, appended, opened):
            thread.join()
    assert read_json(run.study("a").trial(0).result) == {"value": 1}
    assert run.ledger.read_text() == "{}\n"
    assert (run.tensorboard / "events").exists()
