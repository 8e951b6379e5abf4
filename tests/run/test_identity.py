"""A run is known by its identity: renamed, moved and copied folders are recognised."""

import json
import shutil
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import make_identity, original_of, read_identity, settle, studies_prefix


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "mine")
    make_identity(made, "mine")
    return made


def test_made_once(run: RunDir) -> None:
    """Two runs of one name differ; of one run it never changes; its studies bear the run's name."""
    first = read_identity(run)
    make_identity(run, "other")
    assert read_identity(run) == first
    other = RunDir(run.path.parent / "again" / "mine")
    make_identity(other, "mine")
    assert studies_prefix(other) != studies_prefix(run)
    assert studies_prefix(run).startswith("mine-")


def test_before_it_is_made(tmp_path: Path) -> None:
    """A folder without one is no copy and no moved run."""
    run = RunDir(tmp_path)
    assert (read_identity(run), studies_prefix(run), original_of(run)) == (None, "", None)
    settle(run, pytest.fail)


def test_a_renamed_run_continues(run: RunDir) -> None:
    """Said once, and noted; its studies keep their names."""
    prefix, said = studies_prefix(run), list[str]()
    moved = RunDir(run.path.rename(run.path.with_name("kept")))
    assert original_of(moved) is None
    settle(moved, said.append)
    settle(moved, said.append)
    assert len(said) == 1
    assert "last driven as" in said[0]
    assert studies_prefix(moved) == prefix


def test_a_copy_is_refused_as_long_as_its_original_is_there(run: RunDir) -> None:
    """Both would write into the same studies: the line names both, and the way out."""
    copy = RunDir(Path(shutil.copytree(run.path, run.path.with_name("copy"))))
    assert original_of(copy) == run
    with pytest.raises(UserError, match=r"copy is a copy of .*mine: give it an identity of its own .*migrate"):
        settle(copy, pytest.fail)
    settle(run, pytest.fail)
    shutil.rmtree(run.path)
    settle(copy, lambda line: None)
    assert json.loads(copy.identity.read_text())["path"] == str(copy.path)


def test_the_same_folder_by_another_way_is_no_copy(run: RunDir) -> None:
    """A folder that is reached by another path is itself."""
    (run.path.parent / "link").symlink_to(run.path)
    assert original_of(RunDir(run.path.parent / "link")) is None


def test_another_run_where_it_lay(run: RunDir) -> None:
    """A new run of its name in its old place is not its original."""
    moved = RunDir(run.path.rename(run.path.with_name("kept")))
    make_identity(run, "mine")
    assert original_of(moved) is None
