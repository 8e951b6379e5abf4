"""State files that somebody else may have written."""

import os
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.training.state import packed, previous, read_state, unpacked, write_state


class Evil:
    """A pickle that runs a command when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch harmed",)


def test_code_in_a_state_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as a damaged one is, and the training goes on from the state before it."""
    monkeypatch.chdir(tmp_path)
    evil = packed({"spec": "mine", "epoch": Evil()})  # its checksum is right
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        unpacked(evil)
    path = tmp_path / "state.pt"
    write_state(path, packed({"spec": "mine", "epoch": 3}))
    write_state(path, evil)
    state, notices = read_state(path, lambda: "mine")
    assert state == {"spec": "mine", "epoch": 3}
    assert notices == [
        f"{path} is damaged (it holds more than tensors and plain values): continuing from the state before it"
    ]
    assert previous(path).exists()
    assert not (tmp_path / "harmed").exists()
