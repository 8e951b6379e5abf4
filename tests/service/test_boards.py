"""TensorBoards behind an address of their own."""

import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from torch.utils.tensorboard import SummaryWriter

from cotuning_tune.service.boards import IDLE_S, MOST, Boards, boards_app
from cotuning_tune.service.problems import TooMany


@pytest.fixture
def events(tmp_path: Path) -> Path:
    with SummaryWriter(str(tmp_path / "events" / "trial")) as writer:
        writer.add_scalar("val/score", 50.0, 1)
    return tmp_path / "events"


def test_a_board_shows_runs_to_who_knows_its_address(tmp_path: Path, events: Path) -> None:
    boards = Boards(tmp_path / "b")
    with TestClient(boards_app(boards)) as client:
        token = boards.begin({"first": events, "second": events})
        assert boards.begin({"first": events, "second": events}) == token
        assert client.get(f"/{token}/").status_code == 200
        deadline = time.monotonic() + 60
        while (found := client.get(f"/{token}/data/runs").json()) == []:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert found == ["first/trial", "second/trial"]
        assert (boards.open[token].socket.stat().st_mode & 0o777) == 0o600
        for address in ("", "/", f"/{token[:-1]}/", f"/{token}x/data/runs", "/../", f"/{'a' * 43}/data/runs"):
            assert client.get(address).status_code == 404
        assert client.post(f"/{token}/", content=b"x" * (2 << 20)).status_code == 413
        process = boards.open[token].process
    assert process.poll() is not None
    assert not list((tmp_path / "b").glob("*"))


def test_boards_end_when_nobody_asks_and_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        ended = False

        def __init__(self, *words: object, **options: object) -> None:
            self.words = words

        def poll(self) -> int | None:
            return 1 if self.ended else None

        def kill(self) -> None:
            self.ended = True

        def wait(self) -> int:
            return 1

    monkeypatch.setattr("cotuning_tune.service.boards.subprocess.Popen", Idle)
    clock = [0.0]
    boards = Boards(tmp_path / "b", lambda: clock[0])
    tokens = [boards.begin({str(n): tmp_path}) for n in range(MOST)]
    with pytest.raises(TooMany, match="8 TensorBoards are open"):
        boards.begin({"x": tmp_path})
    clock[0] = IDLE_S
    assert boards.find(tokens[0])
    clock[0] = IDLE_S + 1
    assert boards.begin({"x": tmp_path})
    assert [boards.find(token) is not None for token in tokens] == [True] + [False] * (MOST - 1)
    boards.open[tokens[0]].process.kill()
    assert boards.find(tokens[0]) is None
    boards.close()
