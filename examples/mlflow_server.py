"""A server of MLflow on this machine, and a run that it shows, trial by trial.

make .venv-mlflow/.ready      the whole of MLflow in an environment of its own: it asks for other versions than the rest
python examples/mlflow_server.py .venv-mlflow search_spaces/tiny.toml
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.tracking import MlflowClient

STORE = "sqlite:///mlflow.db"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def server(environment: str) -> Iterator[str]:
    """Serve ``mlflow.db`` of the working folder to this machine alone; the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    words = [f"{environment}/bin/mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", STORE]
    small = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # it has thirty processes else
    with subprocess.Popen(words, env=os.environ | QUIET | small, start_new_session=True) as process:
        try:
            while not answers(f"http://{host}:{port}/health"):
                if process.poll() is not None:
                    raise SystemExit("MLflow has ended before it answered")
                time.sleep(0.2)
            yield f"http://{host}:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def answers(address: str) -> bool:
    """Whether it is up."""
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except OSError:
        return False


def main(environment: str, experiment: str) -> None:
    """Run an experiment under a server, and list what the server holds then."""
    with server(environment) as address:
        words = [sys.executable, "-m", "cotuning_tune.cli", "run", experiment, "--track", "mlflow"]
        subprocess.run(words, env=os.environ | QUIET | {"MLFLOW_TRACKING_URI": address}, check=True)
        client = MlflowClient(tracking_uri=address)
        known = client.get_experiment_by_name("cotuning_tune")
        for found in client.search_runs([known.experiment_id]):
            print(found.info.run_name, found.info.status, found.data.metrics.get("value", ""))
    print(f"to look at it: {environment}/bin/mlflow server --backend-store-uri {STORE}")


if __name__ == "__main__":
    main(*sys.argv[1:])
