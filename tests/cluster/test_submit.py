"""Submitting to a real Ray cluster that asks for a token: a head with its dashboard on a host of its own."""

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.bed import Host, bed
from tests.cluster.ssh_bed import EXPERIMENT, Site, wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A host with a Ray head on it, which is the workstation too."""
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    with bed(1) as (host,):
        site = Site(host, [host], tmp_path, tmp_path)
        env = {**site.env, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        start = ["start", "--head", "--dashboard-host=127.0.0.1", "--num-cpus=2", f"--node-ip-address={host.address}"]
        host.run([sys.executable, "-m", "ray.scripts.scripts", *start], env={**env, "TMPDIR": "/tmp"})
        (tmp_path / "tiny.toml").write_text(EXPERIMENT.format(trials=8))
        yield site


def _words(site: Site, **changed: object) -> list[object]:
    given = {"python": sys.executable, "token_path": site.folder / "token", **changed}
    settings = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    return ["launch", "submit", site.folder / "tiny.toml", "--storage", site.folder / "runs", *settings]


def _drivers(host: Host) -> list[str]:
    return [line for line in host.processes().values() if "cotuning_tune.launch.entry" in line]


def test_stopped_and_resumed(site: Site) -> None:
    """Stopped the driver ends in order and gives the lock back; resumed as a new job every trial is there once."""
    site.call(*_words(site))
    wait_until(lambda: site.ended_trials() >= 2)
    assert site.call("launch", "stop") == ["tiny: stopped in order; nothing is lost"]
    assert _drivers(site.workstation) == []
    assert not site.run.lock.exists()
    assert "nothing is lost, 'resume' goes on" in "\n".join(site.call("launch", "logs"))
    assert "tiny: unfinished (submit" in site.call("launch", "status")[0]
    site.call("launch", "resume")
    assert "Test accuracy" in "\n".join(site.call("launch", "logs", "-f"))
    assert "tiny: done (submit" in site.call("launch", "status")[0]
    site.check_complete()
    record = json.loads((site.folder / "launches/tiny/launch.json").read_text())
    assert (record["facts"], record["times"]) == ({"job": "tiny-r2"}, 2)


def test_mistakes(site: Site) -> None:
    """No token, a wrong token, no cluster, no interpreter: each is one line that says so."""

    def refused(**changed: object) -> str:
        (line,) = site.call(*_words(site, **changed), code=2)
        return line

    wrong, none = site.folder / "wrong", site.folder / "none"
    wrong.write_text("0" * 64)
    none.write_text("")
    assert "asks for a token: name its file (token_path)" in refused(token_path=none)
    assert f"refuses the token in {wrong}" in refused(token_path=wrong)
    assert "no Ray cluster answers at http://127.0.0.1:9" in refused(address="http://127.0.0.1:9")
    site.call(*_words(site, python="/no/python"))
    log = "\n".join(site.call("launch", "logs", "-f"))
    assert "/no/python: not found" in log
    assert "tiny: failed (exit code 127) (submit" in site.call("launch", "status")[0]
