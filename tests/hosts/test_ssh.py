"""Launching over ssh on three hosts with a real sshd each."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.ssh_bed import Site, raylet_of, ssh_site, wait_until
from tests.launch.guides import commands_of

OCCUPY = "import socket, time; s = socket.create_server(('', 6385)); print('up', flush=True); time.sleep(999)"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Three hosts, n1 (the head), n2 and n3."""
    with ssh_site(tmp_path, 3) as made:
        yield made


def _check_token(site: Site) -> None:
    """The token lies on each host in a file of mode 0600, and stands in no command line."""
    token = (site.folder / "launches/tiny/token").read_text()
    for number in range(3):
        path = site.folder / f"on_hosts/tiny-{number}/token"
        assert path.read_text() == token
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not [line for line in site.left() if token in line]


def test_a_run_to_its_end(site: Site) -> None:
    """Launched, followed to the end, every trial once, on all hosts; then nothing is left on any of them."""
    site.launch()
    assert site.state() == "running, 3 of 3 nodes"
    _check_token(site)
    log = "\n".join(site.call("launch", "logs", "-f", "tiny"))
    assert "3 node(s) checked: the same versions, the same storage" in log
    assert "Test accuracy" in log
    site.check_complete()
    assert site.state() == "done"
    wait_until(lambda: not site.left())
    assert not list((site.folder / "on_hosts").glob("*/token"))


def test_the_guide(site: Site) -> None:
    """Followed word by word: stopped, nothing runs on any host; resumed, every trial is there once."""
    site.write_experiment()
    profile, storage = site.profile(), site.folder / "runs"
    places = {"search_spaces/tiny.toml": str(site.experiment), "/shared/runs": str(storage), "site.toml": str(profile)}
    said = []
    for words in commands_of("launch-ssh.md", places):
        if words[1] == "stop":
            wait_until(lambda: site.ended_trials() >= 2)
        said.append((words[1], site.call(*words)))
        if words[1] == "stop":
            assert said[-1][1] == ["tiny: stopped cleanly; nothing is lost"]
            assert site.left() == []
            assert not site.run.lock.exists()
            assert not list((site.folder / "on_hosts").glob("*/token"))
            assert not list((site.folder / "on_hosts").glob("*/node.folder"))
            assert site.call("launch", "stop") == ["tiny: the driver had ended; its nodes are stopped"]
    states = [lines[0].split(" (ssh")[0] for verb, lines in said if verb == "status"]
    assert states == ["tiny: running, 3 of 3 nodes", "tiny: unfinished", "tiny: done"]
    site.check_complete()


def test_a_cut_link(site: Site) -> None:
    """A worker that is cut off is given up, its trials go on elsewhere; it ends its own work."""
    site.launch()
    wait_until(lambda: site.ended_trials() >= 2)
    site.hosts[2].cut()
    wait_until(lambda: not [line for line in site.hosts[2].processes().values() if "raylet" in line])
    site.hosts[2].mend()
    site.call("launch", "logs", "-f")
    if site.state() != "done":  # the driver may give up: nothing is lost
        assert site.state() == "unfinished"
        site.call("launch", "resume")
        site.call("launch", "logs", "-f")
    site.check_complete()
    wait_until(lambda: not site.left())


def test_killed_raylets(site: Site) -> None:
    """Without a worker's raylet the run goes on; without the head's it ends with 85 and is resumed."""
    site.launch()
    wait_until(lambda: site.ended_trials() >= 2)
    os.kill(raylet_of(site.hosts[1]), signal.SIGKILL)
    wait_until(lambda: site.state() == "running, 2 of 3 nodes")
    ended = site.ended_trials()
    wait_until(lambda: site.ended_trials() > ended)
    os.kill(raylet_of(site.hosts[0]), signal.SIGKILL)
    site.call("launch", "logs", "-f")
    assert site.state() == "unfinished"
    wait_until(lambda: not site.left())
    site.call("launch", "resume")
    site.call("launch", "logs", "-f")
    site.check_complete()


def test_mistakes(site: Site) -> None:
    """A mistake on one host is one line that names it, exit code 2; nothing is left running on the others."""
    site.write_experiment()

    def start(**changed: object) -> list[str]:
        words = [site.experiment, "--storage", site.folder / "runs", "--profile", site.profile(**changed)]
        return site.call("launch", "ssh", *words, code=2)

    def refused(**changed: object) -> str:
        (line,) = start(**changed)
        assert site.left() == []
        return line

    assert "n9 is not reached by ssh: " in refused(hosts=["n1", "n2", "n9"])
    path_of_n3 = [f"PATH={Path(sys.executable).parent}:$PATH", '[ "$(hostname)" != n3 ] || PATH=/nowhere']
    assert refused(python="python", setup=path_of_n3) == "cotuning-tune: n3: there is no python"
    with site.hosts[0].popen([sys.executable, "-c", OCCUPY], stdout=subprocess.PIPE) as taken:
        assert taken.stdout.readline() == b"up\n"
        (line,) = start()
        taken.terminate()
    assert "n1: " in line
    assert "6385" in line
    (site.folder / "key").unlink()
    assert "n1 is not reached by ssh: " in refused()
    assert "Permission denied" in refused()
