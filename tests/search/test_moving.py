"""Studies that are moved to another storage, and copies that become runs of their own."""

import shutil
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_bytes
from cotuning_tune.experiment import parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import make_identity, original_of, settle, studies_prefix
from cotuning_tune.search.heads import kept_ledger_head
from cotuning_tune.search.moving import JOURNAL, migrate
from cotuning_tune.search.storage import kept_url, open_storage, read_storage, set_storage
from cotuning_tune.search.study import Studies
from tests.search.ends import complete
from tests.search.test_storage import CELL, TEXT, told


def studies_of(run: RunDir) -> Studies:
    return Studies(parse(TEXT, "broken"), open_storage(run), run)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with an ended trial, a running one, and a head of its ledger."""
    made = RunDir(tmp_path / "mine")
    make_identity(made, "mine")
    write_bytes(made.experiment_file, b"")
    studies = studies_of(made)
    study = studies.by_name[CELL]
    first, second = study.issue(), study.issue()
    study.report(first.number, [{"epoch": 1, "val_score": 40.0}])
    complete(study, first.number, 40.0, seconds=1.0)
    study.report(second.number, [{"epoch": 1, "val_score": 30.0}])
    studies.keep_ledger_head({"lines": 3, "hash": "h"})
    made.studies_folder.mkdir()
    return made


def _state(run: RunDir) -> object:
    return [told(trial) for trial in studies_of(run).by_name[CELL].trials()], kept_ledger_head(run)


def test_moved_to_a_database_and_back(run: RunDir, tmp_path: Path) -> None:
    """Every trial, the running one too, and what the studies know of the ledger; the search continues there."""
    before = _state(run)
    for url in (f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db", JOURNAL):
        if url == JOURNAL:
            run.journal.unlink()
        (line,) = migrate(run, url)
        assert "1 studies are in" in line
        assert kept_url(run) == ("" if url == JOURNAL else url)
        assert _state(run) == before
    issue = studies_of(run).next()
    assert issue is not None
    assert issue.number == 1


def test_moved_again_over_an_interrupted_attempt(run: RunDir, tmp_path: Path) -> None:
    """What a killed attempt has left in the new storage is replaced."""
    before, url = _state(run), f"sqlite:///{tmp_path}/a.db"
    migrate(run, url)
    run.optuna_storage_file.unlink()
    migrate(run, url)
    assert _state(run) == before


@pytest.mark.parametrize("database", [False, True])
def test_a_copy_becomes_a_run_of_its_own(run: RunDir, tmp_path: Path, database: bool) -> None:
    """Its trials are its own from then on, in a shared database as well; the original's stay as they are."""
    if database:
        migrate(run, f"sqlite:///{tmp_path}/s.db")
    before = _state(run)
    copy = RunDir(Path(shutil.copytree(run.path, tmp_path / "copy")))
    migrate(copy, renew=True)
    assert original_of(copy) is None
    settle(copy, pytest.fail)
    assert studies_prefix(copy) != studies_prefix(run)
    assert _state(copy) == before
    complete(studies_of(copy).by_name[CELL], 1, 30.0)
    assert _state(run) == before


def test_two_runs_of_one_name_in_one_database(tmp_path: Path) -> None:
    """Each searches for itself."""
    for folder in "ab":
        run = RunDir(tmp_path / folder / "mine")
        make_identity(run, "mine")
        set_storage(run, f"sqlite:///{tmp_path}/s.db")
        study = studies_of(run).by_name[CELL]
        assert study.trials() == []
        complete(study, study.issue().number, 50.0)


def test_a_renamed_run_keeps_its_studies(run: RunDir) -> None:
    """Whoever looks at it sees its trials, and writes nothing."""
    moved = RunDir(run.path.rename(run.path.with_name("kept")))
    before = moved.journal.read_bytes()
    seen = Studies(parse(TEXT, "kept"), read_storage(moved), moved, reading=True)
    assert [trial.state.name for trial in seen.by_name[CELL].trials()] == ["COMPLETE", "RUNNING"]
    assert moved.journal.read_bytes() == before


def test_what_migrate_needs(run: RunDir) -> None:
    """Nothing asked, a database that cannot be opened: a line each, and nothing has changed."""
    before = _state(run)
    with pytest.raises(UserError, match="needs --optuna-storage URL"):
        migrate(run)
    with pytest.raises(UserError, match="cannot be opened"):
        migrate(run, "sqlite:////nowhere/at/all.db")
    assert kept_url(run) == ""
    assert _state(run) == before
