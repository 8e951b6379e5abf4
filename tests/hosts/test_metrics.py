"""A run's own figures among the metrics of a Ray cluster, as Prometheus reads them."""

import importlib.util
import json
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cotuning_tune.cluster.metrics import METRICS
from cotuning_tune.launch.record import write_private
from tests.hosts.bed import Host, bed
from tests.launch.test_local import EXPERIMENT

PORT = 8099
DISCOVERY = "/tmp/ray/prom_metrics_service_discovery.json"
READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


def _needs_agent() -> None:
    for name in ("opentelemetry.exporter.prometheus", "opencensus"):
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if not found:
            pytest.skip(f"NOT TESTED with Ray's metrics agent: no {name} (pip install 'ray[default]')")


def _scraped(host: Host) -> str:
    """What a scrape of the host's metrics gives, '' where nothing answers yet."""
    done = host.run([sys.executable, "-c", READ, f"http://{host.address}:{PORT}/metrics"], check=False)
    return done.stdout if done.returncode == 0 else ""


def _read_while_it_runs(host: Host, driver: subprocess.Popen[bytes], log: Path) -> str:
    """The first scrape that holds every metric of the run."""
    while True:
        page = _scraped(host)
        if all(f"ray_{name}{{" in page for name in METRICS):
            return page
        assert driver.poll() is None, log.read_text()
        time.sleep(0.5)


def test_a_run_is_among_the_metrics(tmp_path: Path) -> None:
    """Every metric is served with run, study, method and state, and a short run stands in it with its numbers."""
    _needs_agent()
    token = write_private(tmp_path / "token", secrets.token_hex(32))
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
        "OMP_NUM_THREADS": "1",
    }
    path, log = tmp_path / "seen.toml", tmp_path / "log"
    path.write_text(EXPERIMENT.replace("trials = 6", "trials = 30"))
    with bed(1) as (host,):
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus", "2"]
        where = ["--node-ip-address", host.address, "--port", "6379", "--metrics-export-port", str(PORT)]
        host.run([*ray, *where, "--object-store-memory", "100000000"], env=env, timeout=240)
        run = [sys.executable, "-m", "cotuning_tune.cli", "run", path, "--storage", tmp_path / "runs"]
        with log.open("wb") as output:
            driver = host.popen([*run, "--address", f"{host.address}:6379"], env=env, stdout=output, stderr=output)
            with driver:
                page = _read_while_it_runs(host, driver, log)
                driver.kill()
        found = host.run(["cat", DISCOVERY]).stdout
    (nodes,) = json.loads(found)
    assert f"{host.address}:{PORT}" in nodes["targets"]
    lines = [line for line in page.splitlines() if line.startswith("ray_cotuning_tune_trials{")]
    tags = ('run="seen"', 'study="synthetic-1.00-fine_tune"', 'method="fine_tune"')
    assert all(tag in line for line in lines for tag in tags)
    states = {line.split('state="')[1].split('"')[0] for line in lines}
    assert states == {"complete", "pruned", "running", "failed"}
    (asked,) = [line for line in page.splitlines() if line.startswith("ray_cotuning_tune_trial_budget{")]
    assert float(asked.split()[-1]) == 30
