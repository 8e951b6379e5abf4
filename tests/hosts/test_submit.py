"""Submitting to a real Ray cluster that asks for a token: a head with its dashboard on a host of its own."""

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.bed import Host, bed
from tests.hosts.ssh_bed import Site, need_jobs_api, wait_until
from tests.launch.guides import commands_of


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A host with a Ray head on it, which is the workstation too."""
    need_jobs_api()
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    with bed(1) as (host,):
        site = Site(host, [host], tmp_path, tmp_path)
        env = {**site.env, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        start = ["start", "--head", "--dashboard-host=127.0.0.1", "--num-cpus=2", f"--node-ip-address={host.address}"]
        host.run([sys.executable, "-m", "ray.scripts.scripts", *start], env={**env, "TMPDIR": "/tmp"})
        site.write_experiment()
        yield site


def _words(site: Site, **changed: object) -> list[object]:
    given = {"python": sys.executable, "token_path": site.folder / "token", **changed}
    settings = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    return ["launch", "submit", site.experiment, "--storage", site.folder / "runs", *settings]


def _drivers(host: Host) -> list[str]:
    return [line for line in host.processes().values() if "cotuning_tune.cli.entry" in line]


def test_the_guide(site: Site) -> None:
    """Followed word by word: stopped, the driver ends in order and gives the lock back; resumed, it is done."""
    places = {"search_spaces/tiny.toml": str(site.experiment), "/shared/runs": str(site.folder / "runs")}
    places |= {"token_path=~/token": f"token_path={site.folder / 'token'}"}
    said = []
    for words in commands_of("launch-submit.md", places):
        more = ["--set", f"python={sys.executable}"] if words[1] == "submit" else []
        if words[1] == "stop":
            wait_until(lambda: site.ended_trials() >= 2)
        said.append((words[1], site.call(*words, *more)))
        if words[1] == "stop":
            assert said[-1][1] == ["tiny: stopped cleanly; nothing is lost"]
            assert _drivers(site.workstation) == []
            assert not site.run.lock.exists()
            assert "nothing is lost, 'resume' continues" in "\n".join(site.call("launch", "logs"))
    states = [lines[0].split(" (submit")[0] for verb, lines in said if verb == "status"]
    assert states[0] in ("tiny: queued", "tiny: running")
    assert states[1:] == ["tiny: unfinished", "tiny: done"]
    assert "Test accuracy" in "\n".join(next(lines for verb, lines in reversed(said) if verb == "logs"))
    site.check_complete()
    record = json.loads((site.folder / "launches/tiny/launch.json").read_text())
    assert (record["facts"], record["attempt"]) == ({"job": f"ct-{record['id']}-2"}, 2)


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
