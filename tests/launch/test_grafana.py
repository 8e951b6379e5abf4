"""The Grafana dashboard: valid, complete, and it asks for metrics that there are."""

import json
import re
import tomllib
from typing import Any

import pytest

from cotuning_tune.cluster.metrics import METRICS
from tests.launch.guides import ROOT


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    """The dashboard's file."""
    found: dict[str, Any] = json.loads((ROOT / "launch" / "grafana" / "cotuning_tune.json").read_text())
    return found


def _expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_every_metric_has_a_panel(board: dict[str, Any]) -> None:
    """The panels ask for the metrics of the code, all of them and no other."""
    asked = {name for text in _expressions(board) for name in re.findall(r"ray_(\w+)\{", text)}
    assert asked == set(METRICS)


def test_panels_ask_for_tags_that_there_are(board: dict[str, Any]) -> None:
    """Each filter and each grouping is a tag of the metric, or the run."""
    for text in _expressions(board):
        for name, filters in re.findall(r"ray_(\w+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)=~?\"", filters)) <= {"run", *METRICS[name][1]}
        groups = {tag for found in re.findall(r"by \(([^)]*)\)", text) for tag in re.split(r",\s*", found)}
        assert groups <= {"run", "study", "method", "state"}


def test_panels_stand_apart(board: dict[str, Any]) -> None:
    """Panels have numbers and places of their own, 24 columns wide at most."""
    places = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_run_can_be_chosen(board: dict[str, Any]) -> None:
    """The variable 'run' lists the runs, and every panel follows it."""
    names = {variable["name"]: variable.get("query") for variable in board["templating"]["list"]}
    assert names["run"] == "label_values(ray_cotuning_tune_restarts, run)"
    assert all('run=~"$run"' in text for text in _expressions(board))


def test_the_guide_names_the_metrics() -> None:
    """``docs/watching.md`` lists every metric with its tags, and its experiment key can be read."""
    text = (ROOT / "docs" / "watching.md").read_text()
    rows = re.findall(r"^\| (`ray_.*?) \| (.*?) ?\|$", text, flags=re.MULTILINE)
    listed = {name: re.findall(r"`(\w+)`", tags) for names, tags in rows for name in re.findall(r"`ray_(\w+)`", names)}
    assert listed == {name: list(tags) for name, (_, tags) in METRICS.items()}
    (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert "$COTUNING_TUNE_STATE" in tomllib.loads(block)["experiment"]["on_end"]
