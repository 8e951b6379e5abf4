"""The examples of the API's guide, as they stand there, against a service."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.served import EXPERIMENT, Served, fill, listening

GUIDE = Path(__file__).parents[2] / "docs" / "service-api.md"


def blocks(kind: str) -> str:
    """All of the guide's code of a kind, in its order."""
    return "\n".join(re.findall(rf"^```{kind}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


@pytest.fixture
def reader(served: Served, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who reads the guide; the service's drivers leave folders behind."""
    ended = threading.Event()

    def work(identity: str, work=served.world.work) -> None:
        """Not before the guide has resumed what it paused."""
        ann = served.people["ann"]
        kinds = [event["kind"] for event in served.runs.events(ann, 0, run=identity)[0]]
        if "resume" in kinds or served.runs.get(ann, identity)["name"] != "mine":
            work(identity)

    served.world.work = work  # type: ignore[method-assign]

    def go() -> None:
        while not ended.wait(0.05):
            served.round()
            for run in served.runs.listed(served.people["ann"])["runs"]:
                if run["state"] == "running" and not Path(run["folder"]).exists():
                    Path(run["folder"]).mkdir(parents=True)
                    fill(Path(run["folder"]))

    (tmp_path / "mine.toml").write_text(EXPERIMENT)
    thread = threading.Thread(target=go)
    with listening(served) as url:
        thread.start()
        names = {"SERVER": url, "TOKEN": served.tokens["ann"], "COTUNING_TUNE_SERVER": url}
        yield {**os.environ, **names, "COTUNING_TUNE_TOKEN": served.tokens["ann"]}
        ended.set()
        thread.join()


def test_the_examples_for_curl(served: Served, reader: dict[str, str], tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + blocks("sh")
    done = subprocess.run(["bash", "-c", script], env=reader, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        '"name":"ann"',
        '\n1\n6\n"pause"\n"run"\n',
        '"best_val_score": 61.5',
        "first line",
        "event: submitted",
    ):
        assert said in done.stdout
    assert done.stdout.endswith("true\ntrue\n")
    [run] = served.runs.listed(served.people["ann"], archived=True)["runs"]
    assert not Path(run["folder"]).exists()


def test_the_example_for_python(served: Served, reader: dict[str, str], tmp_path: Path) -> None:
    words = [sys.executable, "-c", blocks("python")]
    done = subprocess.run(words, env=reader, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("submitted {")
    assert "\ndone | method" in done.stdout
