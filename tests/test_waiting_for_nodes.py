"""How long a driver waits for the nodes of its cluster."""

from pathlib import Path

import pytest

from cotuning_tune import preflight
from cotuning_tune.errors import UserError


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
