"""Whoever reads a run makes, mends and changes nothing; who looks again reads only what is new."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotuning_tune import open_run
from cotuning_tune.experiment import parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.heads import kept_ledger_head
from cotuning_tune.search.reader import StudyReader
from cotuning_tune.search.storage import look_at, open_storage, open_url, set_storage
from cotuning_tune.search.study import Studies
from tests.search.ends import complete

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 3
sampler = "random"
"""
Call = Callable[..., tuple[int, list[str], list[str]]]


def content(folder: Path) -> dict[str, str]:
    """What lies in a folder: every name, of files a hash too, of links where they lead; without the report."""
    found = {}
    for path in folder.rglob("*"):
        kind = str(path.readlink()) if path.is_symlink() else "folder"
        kind = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else kind
        found[str(path.relative_to(folder))] = f"{kind} {path.lstat().st_mtime_ns if path.is_file() else ''}"
    return {name: kind for name, kind in found.items() if not name.startswith("report")}


@pytest.fixture(scope="module")
def copied(tiny_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A copy of a finished run; its journal lies beside it, and the run that it is compared with."""
    beside = tmp_path_factory.mktemp("copied")
    shutil.copy2(RunDir(tiny_run[0]).journal, beside / "journal")
    shutil.copytree(tiny_run[0], beside / "other")
    return RunDir(shutil.copytree(tiny_run[0], beside / "tiny"))


def read_everything(run: RunDir, call: Call) -> None:
    """All that reads a run: commands, Python, the service's reader."""
    for command in (["status"], ["status", "--json"], ["report"], ["report", "--json"]):
        assert call(command[0], run.path, *command[1:])[0] == 0
    assert call("compare", run.path, run.path.parent / "other")[0] == 0
    opened = open_run(run.path)
    opened.trials(), opened.seeds(), opened.epochs(), opened.table()
    repr(opened.status), opened.report(), opened.best()
    kept_ledger_head(run)
    reader = StudyReader(run)
    reader.trials()
    reader.trials()
    reader.close()


@settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cut=st.none() | st.floats(0, 1), more=st.sampled_from([b"", b'{"op_co', b"\0" * 40 + b"\n", b"{}"]))
def test_reading_changes_nothing(copied: RunDir, call: Call, cut: float | None, more: bytes) -> None:
    """Nothing is made or changed, whether the journal is whole, missing, cut anywhere, torn in its last line."""
    whole = (copied.path.parent / "journal").read_bytes()
    copied.journal.unlink(missing_ok=True)
    if cut is not None:
        copied.journal.write_bytes(whole[: int(cut * len(whole))] + more)
    before = content(copied.path)
    read_everything(copied, call)
    assert content(copied.path) == before


def test_a_dead_drivers_lock_stays(copied: RunDir, call: Call) -> None:
    """What a killed driver has left is for the next one to put right."""
    lock = copied.journal.with_name("optuna.journal.lock")
    lock.symlink_to(copied.journal)
    before = content(copied.path)
    read_everything(copied, call)
    assert content(copied.path) == before
    lock.unlink()


@pytest.fixture
def written(tmp_path: Path) -> tuple[RunDir, bytes]:
    """A run of two studies whose trials have begun, reported and ended; its journal."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    studies = Studies(parse(TEXT, "run"), open_storage(run), run)
    for study in studies.by_name.values():
        for value in (40.0, 60.0):
            number = study.issue().number
            study.report(number, [{"epoch": 1, "val_score": value}])
            complete(study, number, value)
        study.issue()
    return run, run.journal.read_bytes()


def test_what_is_new_is_read_once(written: tuple[RunDir, bytes]) -> None:
    """A journal that grows is seen as a fresh reader sees it, each of its lines is read once, half ones not yet."""
    run, whole = written
    reader = StudyReader(run)
    run.journal.write_bytes(b"")
    assert reader.trials() == {}
    for size in range(0, len(whole), 41):
        run.journal.write_bytes(whole[:size])
        assert reader.trials() == StudyReader(run).trials()
        assert reader.lines == whole[:size].count(b"\n")
    run.journal.write_bytes(whole)
    last = reader.trials()
    assert {study: [trial["state"] for trial in trials] for study, trials in last.items()} == {
        f"synthetic-1.00-{method}": ["COMPLETE", "COMPLETE", "RUNNING"] for method in ("fine_tune", "bss")
    }
    lines = reader.lines
    assert (reader.trials(), reader.lines) == (last, lines)


def test_one_more_trial_costs_its_own_lines(written: tuple[RunDir, bytes]) -> None:
    """Beside a driver that writes on, a look reads what has come since."""
    run, whole = written
    reader = StudyReader(run)
    reader.trials()
    studies = Studies(parse(TEXT, "run"), open_storage(run), run)
    study = next(iter(studies.by_name.values()))
    complete(study, study.issue().number, 50.0)
    new = run.journal.read_bytes()[len(whole) :].count(b"\n")
    before = reader.lines
    found = reader.trials()[study.key.name]
    assert (reader.lines - before, found[2]["state"]) == (new, "COMPLETE")


@pytest.mark.parametrize("harm", ["gone", "emptied", "older", "another"])
def test_another_journal_is_read_anew(written: tuple[RunDir, bytes], harm: str) -> None:
    """One that is not what was read any more: removed, emptied, restored from a copy, written again from folders."""
    run, whole = written
    reader = StudyReader(run)
    reader.trials()
    lines = whole.splitlines(keepends=True)
    other = [line.replace(b"60.0", b"61.0") for line in lines[:-1]]
    texts = {"emptied": b"", "older": b"".join(lines[:5]), "another": b"".join([*other, *lines[4:6], lines[-1]])}
    if harm == "gone":
        run.journal.unlink()
    else:
        run.journal.write_bytes(texts[harm])
    assert reader.trials() == StudyReader(run).trials()
    run.journal.write_bytes(whole)
    assert len(reader.trials()) == 2


def test_a_database_is_looked_at(tmp_path: Path) -> None:
    """Its trials are read at each look; one whose tables are not all made yet is none, and is not completed."""
    from sqlalchemy import create_engine, text

    run, url = RunDir(tmp_path / "run"), f"sqlite:///{tmp_path}/studies.db"
    reader = StudyReader(run)
    set_storage(run, url)
    assert reader.trials() == {}
    assert not (tmp_path / "studies.db").exists()
    studies = Studies(parse(TEXT, "run"), open_storage(run), run)
    study = next(iter(studies.by_name.values()))
    study.issue()
    assert [trial["state"] for trial in reader.trials()[study.key.name]] == ["RUNNING"]
    complete(study, 0, 50.0)
    assert [trial["state"] for trial in reader.trials()[study.key.name]] == ["COMPLETE"]
    reader.close()

    half = f"sqlite:///{tmp_path}/half.db"
    open_url(half).remove_session()
    engine = create_engine(half)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    engine.dispose()
    before = (tmp_path / "half.db").read_bytes()
    assert look_at(half) is None
    assert (tmp_path / "half.db").read_bytes() == before
