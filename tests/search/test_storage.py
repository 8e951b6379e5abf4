"""Half-written journals, lost folders, lost journals: told in one line and put right, never a silent fresh start."""

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from cotuning_tune.base import files
from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.base.files import write_json
from cotuning_tune.experiment import parse
from cotuning_tune.run.folder import RunDir
from cotuning_tune.search.repair import repair
from cotuning_tune.search.storage import WaitingJournal, mend_journal, open_storage, set_storage
from cotuning_tune.search.study import Studies

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
    study.report(first.number, [{"epoch": 1, "val_accuracy": 40.0}, {"epoch": 2, "val_accuracy": 60.0}])
    study.complete(first.number, 60.0, seconds=2.5)
    write_json(made.study(CELL).trial(0).result, {"state": "COMPLETE"})
    study.report(second.number, [{"epoch": 1, "val_accuracy": 30.0}])
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


def test_a_lost_journal_is_refused(run: RunDir) -> None:
    """Trials without a journal are never taken for a fresh start."""
    run.journal.unlink()
    with pytest.raises(UserError, match=r"optuna\.journal is gone, but there are trials"):
        open_storage(run)
    assert not run.journal.exists()


def test_a_lost_result_is_written_from_the_study(run: RunDir) -> None:
    """A finished trial whose folder has gone gets its result and its accuracies back."""
    folder = run.study(CELL).trial(0)
    folder.result.unlink()
    (notice,) = repair(run, studies_of(run))
    assert "result of trial 0 was missing" in notice
    result = json.loads(folder.result.read_text())
    assert (result["state"], result["value"], result["epochs"], result["seconds"]) == ("COMPLETE", 60.0, 2, 2.5)
    assert [json.loads(line)["val_accuracy"] for line in folder.metrics.read_text().splitlines()] == [40.0, 60.0]
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
    study.complete(study.issue().number, 50.0, seconds=1.0)
    assert studies_of(run).by_name[CELL].counts()[TrialState.COMPLETE] == 1
    assert not run.journal.exists()
    with pytest.raises(UserError, match="elsewhere already"):
        set_storage(run, "sqlite:///other.db")


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
    study.report(0, [{"epoch": 1, "val_accuracy": 40.0}])
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
