"""A run on two hosts that share no folder: files in an S3 bucket, studies in PostgreSQL, both on a third host."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.ssh_bed import Site, raylet_of, ssh_site, wait_until
from tests.servers import S3_KEYS, postgresql_server

PORT, STORAGE, TRIALS = 9000, "s3://runs/here", 8
LOOK = """
import json, sys
from cotuning_tune.base.files import place, read_json
run = place(sys.argv[1])
if sys.argv[2:]:
    run.fs.mkdir("runs")
results = sorted(str(path).rpartition("studies/")[2] for path in run.glob("studies/*/*/*/result.json"))
trials = [path for path in run.glob("studies/*/trials/*/result.json")]
told = read_json(run / "summary.json") if (run / "summary.json").exists() else {}
states = [read_json(path)["state"] for path in trials] if told.get("state") == "done" else []
print(json.dumps({"results": results, "states": states, "summary": told, "lock": (run / "driver.lock").exists()}))
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """n1 and n2; S3 and PostgreSQL are on n0, from where the user launches."""
    with ssh_site(tmp_path, 2) as made, ExitStack() as stack:
        address = made.workstation.address
        server = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", address, "-p", PORT]
        with (tmp_path / "s3.log").open("wb") as log:
            process = stack.enter_context(made.workstation.popen(server, stdout=log, stderr=log))
        stack.callback(process.terminate)
        made.workstation.run(["bash", "-c", f"until exec 3<>/dev/tcp/{address}/{PORT}; do sleep 0.2; done"], timeout=60)
        there = replace(made, more={**S3_KEYS, "AWS_ENDPOINT_URL": f"http://{address}:{PORT}"})
        studies = stack.enter_context(postgresql_server(address, made.workstation.inside))
        _look(there, "new bucket")
        there.write_experiment(TRIALS)
        words = [there.experiment, "--storage", STORAGE, "--optuna-storage", studies, "--profile", there.profile()]
        there.call("launch", "ssh", *words)
        yield there


def _look(site: Site, *words: str) -> dict[str, Any]:
    """What the bucket holds of the run."""
    done = site.workstation.run([sys.executable, "-c", LOOK, f"{STORAGE}/tiny", *words], env=site.env)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _wait_for_trials(site: Site, count: int) -> None:
    """Until so many have ended."""
    wait_until(lambda: len(_look(site)["results"]) >= count)


def test_killed_stopped_and_resumed(site: Site) -> None:
    """The head's Ray is killed, the resumed run is stopped cleanly: every trial is there once, nothing is left."""
    _wait_for_trials(site, 2)
    os.kill(raylet_of(site.hosts[0]), signal.SIGKILL)
    site.call("launch", "logs", "-f")
    assert site.state() == "unfinished"
    wait_until(lambda: not site.left())
    kept = _look(site)["results"]

    site.call("launch", "resume")
    _wait_for_trials(site, len(kept) + 1)
    assert site.call("launch", "stop") == ["tiny: stopped cleanly; nothing is lost"]
    assert site.left() == []
    assert not _look(site)["lock"]

    site.call("launch", "resume")
    assert "Test accuracy" in "\n".join(site.call("launch", "logs", "-f"))
    assert site.state() == "done"
    found = _look(site)
    assert set(kept) < set(found["results"])
    assert found["states"] == ["COMPLETE"] * TRIALS
    assert len(found["results"]) == TRIALS + 1  # and one retrained model
    told = found["summary"]
    assert (told["state"], told["restarts"], told["retrained"], told["running"]) == ("done", 2, 1, 0)
    wait_until(lambda: not site.left())
    assert not site.run.path.exists()
    assert not list((site.folder / "on_hosts").glob("*/optuna_storage.url"))
