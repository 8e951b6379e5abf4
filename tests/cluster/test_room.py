"""What Ray needs of this machine."""

import os
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.cluster import room
from cotuning_tune.cluster.room import check_shared_memory, ray_folder

SESSION = "/ray/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Neither variable is set."""
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_short_folder_is_left_to_ray(temporary: pytest.MonkeyPatch) -> None:
    """No folder is made where the sockets of a session have room below TMPDIR."""
    with ray_folder() as folder:
        assert folder is None
    longest = "/" + "x" * (107 - len(SESSION) - 5)
    temporary.setenv("TMPDIR", longest)
    assert len(longest + SESSION) < 107
    with ray_folder() as folder:
        assert folder is None


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_one(temporary: pytest.MonkeyPatch, name: str) -> None:
    """A short folder for this user alone, which is gone afterwards; so is what Ray left in it."""
    temporary.setenv(name, "/" + "x" * (107 - len(SESSION)))
    with ray_folder() as folder:
        assert folder is not None
        made = Path(folder)
        assert made.parent == Path("/tmp")
        assert made.stat().st_mode & 0o777 == 0o700
        assert len(folder + SESSION) < 107
        (made / "session").mkdir()
    assert not made.exists()


def test_nowhere(temporary: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line names the variable, and what is possible."""
    temporary.setenv("TMPDIR", "/" + "x" * 100)
    temporary.setattr(room, "SHORT", tmp_path / "none")
    with pytest.raises(UserError, match=r"TMPDIR = /x+ is too long .*: set RAY_TMPDIR to a folder"), ray_folder():
        pytest.fail("it begins")


def test_no_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without /dev/shm is one line; one that has it is not asked more."""
    check_shared_memory()
    monkeypatch.setattr(room, "SHARED_MEMORY", tmp_path / "shm")
    with pytest.raises(UserError, match=r"Ray needs shared memory, and .*shm is not there or cannot be written"):
        check_shared_memory()
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="cannot be written"):
        check_shared_memory()
