"""Half-written journals, lost folders, lost journals: told in one line and put right, never a silent fresh start."""

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.base import files
from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.base.files import write_bytes, write_json, write_lines
from cotuning_tune.experiment import parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.recorder import Recorder
from cotuning_tune.search.repair import adopt_lost, repair
from cotuning_tune.search.storage import (
    WaitingJournal,
    absolute,
    kept_url,
    mend_journal,
    open_storage,
    read_storage,
    set_storage,
)
from cotuning_tune.search.study import Studies
from tests.search.ends import complete

TEXT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 3
sampler = "random"
"""
CELL = "synthetic-1.00-fine_tune"


def studies_of(run: RunDir) -> Studies:
    return Studies(parse(TEXT, "broken"), open_storage(run), run)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with a COMPLETE trial, its folder, and a RUNNING one."""
    made = RunDir(tmp_path)
    study = studies_of(made).by_name[CELL]
    first, second = study.issue(), study.issue()
    study.report(first.number, [{"epoch": 1, "val_score": 40.0}, {"epoch": 2, "val_score": 60.0}])
    complete(study, first.number, 60.0, seconds=2.5)
    write_json(made.study(CELL).trial(0).result, {"state": "COMPLETE"})
    study.report(second.number, [{"epoch": 1, "val_score": 30.0}])
    write_json(made.study(CELL).trial(1).config, {})
    return made


@pytest.mark.parametrize("half", ['{"op_code": 4, "work', "}", '{"op_code": 4}{"op_code": 4'])
def test_a_half_written_last_line_is_cut_off(run: RunDir, half: str) -> None:
    """Whatever a kill left of the last line goes; all before it stays, and the journal is written on."""
    before = run.journal.read_bytes()
    with run.journal.open("a") as file:
        file.write(half)
    (notice,) = mend_journal(run.journal)
    assert "half-written last line" in notice
    assert run.journal.read_bytes() == before
    study = studies_of(run).by_name[CELL]
    assert [study.issue().number, study.issue().number] == [1, 2]
    assert len(studies_of(run).by_name[CELL].trials()) == 3


def test_every_truncation_of_the_journal_can_be_read(run: RunDir) -> None:
    """Cut anywhere, the mended journal opens and is a beginning of the whole one."""
    whole = run.journal.read_bytes()
    for size in range(0, len(whole), 37):
        run.journal.write_bytes(whole[:size])
        mend_journal(run.journal)
        assert whole.startswith(run.journal.read_bytes())
        assert size - len(run.journal.read_bytes()) < 1000
        open_storage(run).get_all_studies()


def test_a_whole_journal_is_left_alone(run: RunDir) -> None:
    """Nothing is said or written where nothing is wrong."""
    before = run.journal.stat().st_mtime_ns
    assert mend_journal(run.journal) == []
    assert run.journal.stat().st_mtime_ns == before


def test_a_dead_drivers_journal_lock_is_removed(run: RunDir) -> None:
    """The lock that a killed driver held does not make the next one wait."""
    lock = run.journal.with_name(run.journal.name + ".lock")
    lock.symlink_to(run.journal)
    assert mend_journal(run.journal) == ["optuna.journal.lock of a dead driver removed"]
    assert not lock.is_symlink()


def _emptied(journal: Path) -> None:
    journal.write_bytes(b"")


def _cut(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]))


def _damaged(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], b"\0" * 200 + b"\n", *lines[5:]]))


@pytest.mark.parametrize("harm", [Path.unlink, _emptied, _cut, _damaged])
def test_a_lost_journal_is_written_again_from_the_folders(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Gone, emptied, restored from an older copy, damaged in its middle: every trial is there again, trained or not.

    A reader sees the same and writes nothing; what was found is kept where it cannot be read.
    """
    run = RunDir(tmp_path)
    recorder = Recorder(run)
    studies = studies_of(run)
    study = studies.by_name[CELL]
    for accuracy in (40.0, 60.0, None):
        issue = study.issue()
        recorder.start(issue, [])
        history = [{"epoch": 1, "val_score": 30.0}]
        recorder.report(issue, history)
        study.report(issue.number, history)
        if accuracy:
            result = {"state": "COMPLETE", "value": accuracy, "epochs": 1, "seconds": 2.0, "reason": "", "loss": 1.5}
            recorder.finish(issue, result)  # type: ignore[arg-type]
            study.end_as(issue.number, result)  # type: ignore[arg-type]
    before = [told(trial) for trial in study.trials()]
    harm(run.journal)
    found = run.journal.read_bytes() if run.journal.exists() else None
    reader = Studies(parse(TEXT, "broken"), read_storage(run), run, reading=True)
    adopt_lost(run, reader)
    assert [told(trial) for trial in reader.by_name[CELL].trials()] == before
    assert (run.journal.read_bytes() if run.journal.exists() else None) == found
    notices = mend_journal(run.journal)
    assert bool(notices) == (harm is _damaged)
    if harm is _damaged:
        assert notices == [f"optuna.journal is damaged after {_whole(found)} bytes: kept as optuna.journal.damaged1"]
        assert run.journal.with_name("optuna.journal.damaged1").read_bytes() == found
    after = studies_of(run)
    assert any("written again from the folders" in line for line in repair(run, after))
    assert repair(run, after) == []
    assert [told(trial) for trial in studies_of(run).by_name[CELL].trials()] == before
    assert studies_of(run).by_name[CELL].issue().number == 2
    assert studies_of(run).by_name[CELL].open == 0


def _whole(found: bytes | None) -> int:
    return (found or b"").index(b"\0")


def told(trial: FrozenTrial) -> tuple[object, ...]:
    """What a search knows of a trial."""
    return trial.number, trial.state, trial.params, trial.value, trial.intermediate_values, trial.user_attrs


def test_a_long_last_line_stays(run: RunDir) -> None:
    """However long a whole line is, it is never cut."""
    note = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"note": "x" * 200_000}}
    with run.journal.open("a") as file:
        file.write(json.dumps(note) + "\n")
    before = run.journal.read_bytes()
    assert mend_journal(run.journal) == []
    assert run.journal.read_bytes() == before


def test_a_trial_that_had_ended_as_its_driver_died(run: RunDir) -> None:
    """Its result lies in its folder and its study has not been told: it is told, and no epoch is trained again."""
    files = run.study(CELL).trial(1)
    write_lines(files.metrics, [{"epoch": 1, "val_score": 30.0}, {"epoch": 2, "val_score": 35.0}])
    write_json(files.result, {"state": "COMPLETE", "value": 35.0, "epochs": 2, "seconds": 4.0, "reason": ""})
    write_bytes(files.state, b"state")
    studies = studies_of(run)
    assert repair(run, studies) == [f"{CELL}: trial 1 had ended as its driver died: its study is told now"]
    trial = studies.by_name[CELL].trials()[1]
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.COMPLETE, 35.0, {1: 30.0, 2: 35.0})
    assert not files.state.exists()
    assert studies.next().number == 2


def test_reading_writes_nothing(run: RunDir, tmp_path: Path) -> None:
    """Whoever only looks makes neither studies nor files, where there are none yet either."""
    before = run.journal.read_bytes()
    other = parse(TEXT.replace('"fine_tune"', '"bss"'), "broken")
    assert Studies(other, read_storage(run), run, reading=True).by_name["synthetic-1.00-bss"].trials() == []
    assert run.journal.read_bytes() == before
    empty = RunDir(tmp_path / "empty")
    assert read_storage(empty) is None
    assert Studies(other, None, empty, reading=True).by_name["synthetic-1.00-bss"].open == 3
    set_storage(empty, f"sqlite:///{tmp_path}/none.db")
    assert read_storage(empty) is None
    assert sorted(path.name for path in empty.path.iterdir()) == ["optuna_storage.url"]
    assert not (tmp_path / "none.db").exists()


def test_a_lost_result_is_written_from_the_study(run: RunDir) -> None:
    """A finished trial whose folder has gone gets its result and its accuracies back."""
    folder = run.study(CELL).trial(0)
    folder.result.unlink()
    (notice,) = repair(run, studies_of(run))
    assert "result of trial 0 was missing" in notice
    result = json.loads(folder.result.read_text())
    assert (result["state"], result["value"], result["epochs"], result["seconds"]) == ("COMPLETE", 60.0, 2, 2.5)
    assert [json.loads(line)["val_score"] for line in folder.metrics.read_text().splitlines()] == [40.0, 60.0]
    assert repair(run, studies_of(run)) == []


def test_a_lost_folder_of_a_running_trial_is_told(run: RunDir) -> None:
    """The trial is handed out again and trained from its start, and that is said."""
    run.study(CELL).trial(1).config.unlink()
    run.study(CELL).trial(1).path.rmdir()
    (notice,) = repair(run, studies_of(run))
    assert "trained again from its start" in notice
    assert studies_of(run).next().number == 1


def test_a_folder_without_a_trial_is_set_aside(run: RunDir) -> None:
    """A stranger's folder does not lend its state to the trial that gets its number."""
    write_json(run.study(CELL).trial(2).config, {"mine": True})
    (notice,) = repair(run, studies_of(run))
    assert "the study knows no trial 2" in notice
    assert not run.study(CELL).trial(2).path.exists()
    assert (run.study(CELL).path / "trials" / "0002.unknown" / "config.json").exists()


def test_any_optuna_storage_serves(tmp_path: Path) -> None:
    """Studies in a database: the URL is kept in a private file, and found again by everything."""
    run, url = RunDir(tmp_path), f"sqlite:///{tmp_path}/studies.db"
    set_storage(run, url)
    assert stat.S_IMODE(run.optuna_storage_file.stat().st_mode) == 0o600
    study = studies_of(run).by_name[CELL]
    complete(study, study.issue().number, 50.0, seconds=1.0)
    assert studies_of(run).by_name[CELL].counts()[TrialState.COMPLETE] == 1
    assert not run.journal.exists()
    assert read_storage(run) is not None


def test_a_mistyped_storage_is_corrected(tmp_path: Path) -> None:
    """As long as no trial has been handed out; afterwards another one is refused, and the way to move is named."""
    run = RunDir(tmp_path)
    set_storage(run, "sqlite:////nowhere/at/all.db")
    set_storage(run, f"sqlite:///{tmp_path}/right.db")
    run.studies_folder.mkdir()
    set_storage(run, f"sqlite:///{tmp_path}/right.db")
    with pytest.raises(UserError, match=r"elsewhere already: .* migrate"):
        set_storage(run, "sqlite:///other.db")


def test_a_database_file_is_found_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is kept as it is meant where it was typed."""
    monkeypatch.chdir(tmp_path)
    set_storage(RunDir(tmp_path), "sqlite:///studies.db")
    assert kept_url(RunDir(tmp_path)) == f"sqlite:///{tmp_path}/studies.db"
    server = "postgresql://u@h/db"
    assert [absolute(url) for url in (server, "sqlite:///:memory:", "sqlite:////a/b.db")] == [
        server,
        "sqlite:///:memory:",
        "sqlite:////a/b.db",
    ]


def test_an_unreachable_storage_is_one_line(tmp_path: Path) -> None:
    """A storage that cannot be opened is a user's mistake with its reason."""
    set_storage(RunDir(tmp_path), "nonsense://nowhere")
    with pytest.raises(UserError, match="storage of the studies cannot be opened"):
        open_storage(RunDir(tmp_path))


@pytest.mark.parametrize("moment", ["symlink", "fsync"])
def test_a_storage_that_goes_away_in_the_middle_of_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The folder vanishes before an entry is written, or after: when it is back the entry stands there once."""
    monkeypatch.setattr(files, "STORAGE_POLL_S", 0.05)
    run, away = RunDir(tmp_path / "run"), tmp_path / "away"
    write_json(run.experiment_file, {})
    studies = studies_of(run)
    study = studies.by_name[CELL]
    study.issue()
    before, real = run.journal.read_bytes(), getattr(os, moment)

    def vanishing(*arguments: Any) -> None:
        monkeypatch.setattr(os, moment, real)
        run.path.rename(away)
        threading.Timer(0.3, lambda: away.rename(run.path)).start()
        real(*arguments)

    monkeypatch.setattr(os, moment, vanishing)
    study.report(0, [{"epoch": 1, "val_score": 40.0}])
    assert run.journal.read_bytes().removeprefix(before).count(b"\n") == 1
    assert not run.journal.with_name("optuna.journal.lock").is_symlink()
    assert studies_of(run).by_name[CELL].trials()[0].intermediate_values == {1: 40.0}


def test_a_storage_that_refuses_ends_the_driver(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is there and every try fails, the driver ends with code 85 and the reason; others' errors pass."""
    monkeypatch.setattr("cotuning_tune.search.storage.PAUSE_S", 0.01)
    write_json(run.experiment_file, {})
    journal = WaitingJournal(run)

    def refused(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "symlink", refused)
    with pytest.raises(Unfinished) as ended:
        journal.append_logs([{"op_code": 0}])
    assert ended.value.reason == "the journal of the studies cannot be written: [Errno 13] Permission denied"


@pytest.mark.parametrize(
    ("problem", "ends"),
    [
        (lambda run: OSError(28, "No space left on device"), Unfinished),
        (lambda run: FileNotFoundError(2, "No such file", str(run.studies_folder / "x")), Unfinished),
        (lambda run: FileNotFoundError(2, "No such file", "elsewhere"), FileNotFoundError),
    ],
)
def test_a_write_that_the_storage_fails(
    run: RunDir, problem: Callable[[RunDir], OSError], ends: type[BaseException]
) -> None:
    """An error of the run's storage ends the driver with code 85; one of something else is none of its business."""
    with pytest.raises(ends), run.watched_storage(0, lambda line: None):
        raise problem(run)
