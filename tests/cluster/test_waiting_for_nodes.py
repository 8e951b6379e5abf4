"""How long a driver waits for the nodes of its cluster."""

from pathlib import Path

import pytest

from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.cluster import preflight


@pytest.mark.parametrize(("set_to", "seconds"), [("", preflight.ANSWER_S), ("1800", 1800.0)])
def test_machines_that_are_made_first_may_take_longer(
    set_to: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``COTUNING_TUNE_NODES_S`` says how long; without it two minutes."""

    def wait(count: int, waited: float, say: object) -> None:
        raise UserError(f"{count} in {waited}")

    monkeypatch.setattr(preflight, "wait_for_nodes", wait)
    monkeypatch.setenv("COTUNING_TUNE_NODES_S", set_to)
    with pytest.raises(UserError, match=f"^3 in {seconds}$"):
        preflight.preflight(tmp_path, 3)


def test_nodes_that_do_not_come_can_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code 85 with both numbers: a scheduler starts the same command again; told once that it waits."""
    pytest.importorskip("ray")
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}, {"Alive": False}])
    said: list[str] = []
    with pytest.raises(Unfinished) as ended:
        preflight.wait_for_nodes(2, 0.6, said.append)
    assert ended.value.code == 85
    assert ended.value.reason == "1 of 2 nodes have joined within 1 s (see their logs)"
    assert said == ["waiting for 2 nodes, 1 are there"]
    preflight.wait_for_nodes(1, 0, said.append)
