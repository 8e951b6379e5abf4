"""What listens on the head of a cluster started over ssh, and what answers without the token."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.hosts.ssh_bed import Site, need_jobs_api, ssh_site, wait_until
from tests.launch.guides import ROOT

ROLES = {
    "gcs_server": "GCS",
    "raylet/raylet": "raylet",
    "dashboard.py": "dashboard",
    "monitor.py": "monitor",
    "ray.util.client.server": "Ray client",
    "cli.entry": "driver",
    "ray::RuntimeEnv": "runtime environments",
    "ray::DashboardAgent": "agent",
    "ray::": "trials",
}


def _role(port: dict[str, Any]) -> str:
    name = port["process"].split(" --")[0]
    return next(role for part, role in ROLES.items() if part in name)


def _verdict(port: dict[str, Any]) -> str:
    """``token``: it refuses; ``metrics``: it gives those to everybody, whatever is asked. Nothing else is allowed."""
    if port["web"]:
        statuses = {status for status, _ in port["web"].values()}
        if statuses == {401}:
            return "token"
        assert statuses == {200}, port
        assert {begin for _, begin in port["web"].values()} == {"# HELP "}, port
        return "metrics"
    assert set(port["rpc"].values()) == {"UNIMPLEMENTED", "UNAUTHENTICATED"}, port
    return "token"


def _told() -> set[tuple[str, str, str]]:
    """The table of the guide: process, where it listens, what it answers."""
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| .+? \| (token|metrics) \|$", _guide(), flags=re.MULTILINE)
    return {(process, address, verdict) for process, address, verdict in rows}


def _guide() -> str:
    return (ROOT / "docs" / "launch-ssh.md").read_text()


def _where(site: Site, port: dict[str, Any]) -> str:
    address = port["address"]
    return {"*": "all", "0.0.0.0": "all", site.hosts[0].address: "own"}.get(address, address)


def _jobs(site: Site, token: str) -> str:
    """The status of the Jobs API on the head for somebody with a token."""
    request = (
        f"r = urllib.request.Request('http://127.0.0.1:8265/api/jobs/', headers={{'Authorization': 'Bearer {token}'}})"
    )
    lines = f"import urllib.request, urllib.error\n{request}\ntry: print(urllib.request.urlopen(r).status)\n"
    lines += "except urllib.error.HTTPError as problem: print(problem.code)"
    return site.hosts[0].run([sys.executable, "-c", lines]).stdout.strip()


def test_ports(tmp_path: Path) -> None:
    """Every port refuses without the token, or serves metrics alone; the guide's table names them all."""
    need_jobs_api()
    with ssh_site(tmp_path, 2) as site:
        site.launch(100)
        wait_until(lambda: site.ended_trials() >= 1)
        probe = Path(__file__).with_name("ports_probe.py")
        lines = site.hosts[0].run([sys.executable, probe], env=site.env, timeout=400).stdout.splitlines()
        ports = [json.loads(line) for line in lines]
        assert {(_role(port), _where(site, port), _verdict(port)) for port in ports} == _told()
        assert [port["address"] for port in ports if port["port"] == 8265] == ["127.0.0.1"]
        assert _jobs(site, "0" * 64) == "403"
        assert _jobs(site, (tmp_path / "launches/tiny/token").read_text()) == "200"
        knock = ["bash", "-c", f"exec 3<>/dev/tcp/{site.hosts[0].address}/8265"]
        assert "refused" in site.hosts[1].run(knock, check=False).stderr
        site.call("launch", "stop")
