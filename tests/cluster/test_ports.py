"""What listens on the head of a cluster started over ssh, and what answers without the token."""

import json
import sys
from pathlib import Path

from tests.cluster.ssh_bed import need_jobs_api, ssh_site, wait_until


def test_ports(tmp_path: Path) -> None:
    """x"""
    need_jobs_api()
    with ssh_site(tmp_path, 2) as site:
        site.launch(100)
        wait_until(lambda: site.ended_trials() >= 1)
        out = (
            site.hosts[0]
            .run([sys.executable, Path(__file__).with_name("ports_probe.py")], env=site.env, timeout=300)
            .stdout
        )
        for line in out.splitlines():
            print(json.loads(line))
        site.call("launch", "stop")
