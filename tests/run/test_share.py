"""``share.json``: how many trainings may run at the same time, set by others, followed while a driver works."""

from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.runs import share as module
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.share import Share, write_share


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def share(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Share:
    """The share of a run, looked at each time that it is asked for."""
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    return Share(RunDir(tmp_path), said.append)


def test_what_is_written_is_followed(share: Share) -> None:
    """Any number from 0, and none where the file is gone again."""
    assert share.trials is None
    for trials in (3, 0, 1):
        write_share(share.run, trials)
        assert share.trials == trials
    write_share(share.run, None)
    write_share(share.run, None)
    assert share.trials is None
    with pytest.raises(UserError, match="a share of -1 trials"):
        write_share(share.run, -1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "7",
        "null",
        "{}",
        '{"trials": -1}',
        '{"trials": 2.0}',
        '{"trials": true}',
        '{"trials": "2"}',
        "[" * 100_000,
    ],
)
def test_garbage_changes_nothing(share: Share, said: list[str], text: str) -> None:
    """The last good value holds, which is said once; what is good again is followed."""
    write_share(share.run, 2)
    assert share.trials == 2
    for _ in range(3):
        share.run.share.write_text(text)
        assert share.trials == 2
    (line,) = said
    assert line.endswith("2 at a time still holds")
    share.run.share.write_text('{"trials": 5, "by": "somebody"}')
    assert share.trials == 5


def test_what_cannot_be_read_changes_nothing(share: Share, said: list[str]) -> None:
    """Neither a folder of that name nor bytes that are not UTF-8."""
    write_share(share.run, 2)
    assert share.trials == 2
    share.run.share.write_bytes(b"\xff{")
    assert share.trials == 2
    share.run.share.unlink()
    share.run.share.mkdir()
    assert share.trials == 2
    assert said == []


def test_it_is_read_now_and_then(tmp_path: Path) -> None:
    """Within ``every`` seconds a share that is asked for again and again is not read anew."""
    share = Share(RunDir(tmp_path))
    share.every = 1e9
    assert share.trials is None
    write_share(share.run, 1)
    assert share.trials is None
    share.every = 0.0
    assert share.trials == 1
