"""A Ray cluster to work on: this machine alone by default, or one that already runs.

Ray is imported inside: importing this module costs nothing. No stage knows another; this is shared.
"""

import gc
import logging
import os
import re
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from cotuning_tune.base.endings import one_line
from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.cluster.room import check_shared_memory, ray_folder
from cotuning_tune.cluster.signals import kept_handlers
from cotuning_tune.cluster.watchdog import answers
from cotuning_tune.experiment import Resources

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # of the workers: a tenth of a step on a CPU, by large pages
}
PATIENCE_S = 20.0
OBJECT_STORE_BYTES = 200_000_000


@dataclass(frozen=True)
class Concurrency:
    """What one trial takes, and how many run at the same time; ``state_every``: seconds that a kill may cost one."""

    cpus: int
    gpus: float
    trials: int
    state_every: float = 0.0


def _local(num_cpus: int | None, folder: str | None) -> dict[str, Any]:
    return {
        "address": "local",  # without it ray.init would join any cluster that runs on this machine
        "num_cpus": num_cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        **({"_temp_dir": folder} if folder else {}),
    }


def check_address(address: str | None) -> None:
    """Raises UserError for what is not an address of a cluster; None or empty: one of this machine's own."""
    if not address or address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not (re.fullmatch(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]", host) and re.fullmatch(r"[0-9]{1,5}", port, re.ASCII)):
        raise UserError(f"--address {address}: HOST:PORT of the cluster's head, or 'auto' for this machine's cluster")
    if not 0 < int(port) < 1 << 16:
        raise UserError(f"--address {address}: a port is a number from 1 to 65535")


def _wait_for(address: str) -> None:
    """Wait until something accepts connections at HOST:PORT; Ray itself tries for minutes, and prints its attempts.

    Raises UserError where nothing does. Of another address ('auto') nothing is known.
    """
    host, _, port = address.rpartition(":")
    if not host:
        return
    deadline = time.monotonic() + PATIENCE_S
    while not answers((host.strip("[]"), int(port))):
        if time.monotonic() > deadline:
            raise UserError(f"no Ray cluster answers at {address}: start its head first, or correct --address")
        time.sleep(0.5)


@contextmanager
def connected(address: str | None = None, num_cpus: int | None = None) -> Iterator[None]:
    """Connect to the cluster at ``address``, or start one on this machine (bound to 127.0.0.1).

    Raises UserError where no cluster that can be worked on answers there, or this machine lacks what Ray needs;
    Unfinished where Ray was not up in time.
    """
    check_address(address)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Else a driver whose parent has ended (launch local, nohup) is taken for a worker whose raylet has: it would end
    # with code 1 and without a word where a call to the raylet fails, as while it shuts down.
    os.environ["RAY_RAYLET_PID"] = str(os.getpid())
    if address:
        _wait_for(address)
    else:
        check_shared_memory()
    with nullcontext() if address else ray_folder() as folder:
        _init(address, {"address": address} if address else _local(num_cpus, folder))
        try:
            yield
        finally:
            _shut_down()


def _shut_down() -> None:
    """Leave the cluster, with no garbage that refers to its objects.

    Tune leaves such garbage in cycles. Where another thread collects it while Ray shuts down, Ray ends this process
    with code 1 and without a word.
    """
    import ray

    collects = gc.isenabled()
    gc.disable()
    try:
        cycle = _Cycle()
        gone = weakref.ref(cycle)
        del cycle
        while gone() is not None:  # while another thread collects, a call does nothing
            gc.collect()
            time.sleep(0.001)
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


class _Cycle:
    """Garbage that only a collection takes away."""

    def __init__(self) -> None:
        self.itself = self


def _init(address: str | None, arguments: dict[str, Any]) -> None:
    """Connect. Raises UserError, Unfinished and KeyboardInterrupt in place of what Ray raises."""
    with kept_handlers():  # Ray's would end the driver with the signal's number
        import ray

        warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **arguments)
        except SystemExit:  # Ray's handlers, which stand as long as it starts
            raise KeyboardInterrupt("SIGTERM") from None
        except Exception as problem:
            if address:
                raise UserError(f"no Ray cluster to work on at {address}: {one_line(problem)}") from None
            if "timed out" in str(problem) or isinstance(problem, ray.exceptions.RayError):
                raise Unfinished(f"Ray was not up in time on this machine ({one_line(problem)})") from None
            raise


def find_concurrency(resources: Resources, most: int | None = None) -> Concurrency:
    """How many trials fit into the whole of the connected cluster at a time, whoever else works there; at ``most``.

    Raises UserError where not even one fits on the largest node: Ray would wait for ever.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = resources.share
    if gpus < 0:
        gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    most_gpus = max(node.get("GPU", 0.0) for node in nodes)
    most_cpus = max(node.get("CPU", 0.0) for node in nodes)
    if gpus > most_gpus:
        raise UserError(
            f"resources.gpu_per_trial = {gpus:g}, but the largest node has {most_gpus:g} GPU(s):"
            " omit it to use what there is, or set 0"
        )
    if resources.cpu_per_trial > most_cpus:
        raise UserError(
            f"resources.cpu_per_trial = {resources.cpu_per_trial}: the largest node has {most_cpus:g} cores"
        )
    count = sum(_fit(node, resources.cpu_per_trial, gpus) for node in nodes)
    trials = min(max(count, 1), most or count or 1)
    return Concurrency(resources.cpu_per_trial, gpus, trials, resources.state_every)


def _fit(node: dict[str, float], cpus: int, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0.0) // cpus)
    if not gpus:
        return by_cpu
    share = node.get("GPU", 0.0) // gpus if gpus >= 1 else int(node.get("GPU", 0.0)) * int(1 / gpus + 1e-9)
    return min(by_cpu, int(share))
