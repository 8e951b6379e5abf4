"""Before the first trial on a cluster: is every node there, alike, and does it see the same storage?

Ray is imported inside. A Ray task on each node answers; what is wrong is one line that names the node.
"""

import os
import platform
import secrets
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from cotuning_tune import __version__
from cotuning_tune.base.errors import Unfinished, UserError, first_line
from cotuning_tune.base.files import place, write_bytes
from cotuning_tune.base.versions import installed

PACKAGES = ("ray", "torch", "torchvision", "optuna")
ANSWER_S = 120.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def versions(plugins: Collection[str] = ()) -> dict[str, str]:
    """What must be the same on every node, the packages of ``plugins`` too; '-' for a package that is missing."""
    packages = (*PACKAGES, *plugins)
    found = installed(packages)
    own = {"cotuning_tune": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    return own | {name: found.get(name, "-") for name in packages}


def look(marker: str, token: str, answer: str, plugins: Collection[str] = ()) -> dict[str, Any]:
    """What a node sees: its host, its versions, and whether it reads ``token`` and can write ``answer``."""
    host, storage = socket.gethostname(), ""
    try:
        if place(marker).read_text() != token:
            storage = "reads something else there"
        else:
            write_bytes(place(answer), token.encode(), durable=False)
    except (OSError, UserError) as problem:
        storage = first_line(problem)
    return {"host": host, "versions": versions(plugins), "storage": storage}


def wait_for_nodes(count: int, seconds: float, say: Callable[[str], None]) -> None:
    """Wait until so many nodes live. Raises Unfinished after ``seconds``: another start may find them."""
    import ray

    deadline, told = time.monotonic() + seconds, False
    while (alive := sum(node["Alive"] for node in ray.nodes())) < count:
        if time.monotonic() > deadline:
            raise Unfinished(f"{alive} of {count} nodes have joined within {seconds:.0f} s (see their logs)")
        if not told:
            say(f"waiting for {count} nodes, {alive} are there")
            told = True
        time.sleep(0.5)


def _ask_all(marker: Path, token: str, plugins: Collection[str]) -> dict[str, dict[str, Any]]:
    """What every living node sees, by its address. Raises UserError where one does not answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {}
    for node in (n for n in ray.nodes() if n["Alive"]):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answer = marker.with_name(f"{marker.name}-{node['NodeID'][:8]}")
        pending = task.options(scheduling_strategy=there).remote(str(marker), token, str(answer), plugins)
        asked[node["NodeManagerAddress"], node["NodeID"]] = (pending, answer)
    found: dict[str, dict[str, Any]] = {}
    for (address, _), (pending, answer) in asked.items():
        try:
            seen = ray.get(pending, timeout=ANSWER_S)
        except Exception as problem:
            reason = str(problem).strip().splitlines()[-1:] or [type(problem).__name__]
            raise UserError(f"the node {address} cannot run a task of cotuning_tune: {reason[0]}") from None
        if not seen["storage"] and not _same(answer, token):
            seen["storage"] = "writes to a folder of its own"
        answer.unlink(missing_ok=True)
        found[f"{seen['host']} ({address})"] = seen
    return found


def _same(answer: Path, token: str) -> bool:
    try:
        return answer.read_text() == token
    except OSError:
        return False


def _check_token(required: bool, say: Callable[[str], None]) -> None:
    """An open Ray cluster runs anybody's code: warn of one that other machines reach, or refuse it."""
    import ray

    reached = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} - set(LOOPBACK)
    if not reached or os.environ.get("RAY_AUTH_MODE") == "token":
        return
    problem = (
        f"the Ray cluster on {', '.join(sorted(reached))} asks for no token: whoever reaches it runs code there"
        " (start it with RAY_AUTH_MODE=token)"
    )
    if required:
        raise UserError(problem)
    say(f"WARNING: {problem}")


def _patience() -> float:
    given = os.environ.get("COTUNING_TUNE_NODES_S", "")
    try:
        return float(given or ANSWER_S)
    except ValueError:
        raise UserError(f"COTUNING_TUNE_NODES_S = {given}: a number of seconds is needed") from None


def preflight(
    folder: Path,
    nodes: int = 0,
    *,
    require_token: bool = False,
    plugins: Collection[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Check the connected cluster for a run in ``folder``; the number of its nodes. Raises UserError.

    ``nodes``: wait until so many live. The same Python (minor), Ray, torch, package and ``plugins`` everywhere; a file
    that this process writes beside the run is read on every node, and the other way round; authentication.
    Nodes may take longer where machines are made first: ``COTUNING_TUNE_NODES_S``, in seconds.
    """
    wait_for_nodes(nodes, _patience(), say)
    _check_token(require_token, say)
    token = secrets.token_hex(8)
    marker = folder / f".preflight-{token}"
    write_bytes(marker, token.encode())
    try:
        found = _ask_all(marker, token, plugins)
    finally:
        marker.unlink(missing_ok=True)
    mine = versions(plugins)
    for node, seen in found.items():
        for name, version in seen["versions"].items():
            if version != mine[name]:
                raise UserError(f"{node} has {name} {version}, the driver has {mine[name]}: they must be the same")
        if seen["storage"]:
            raise UserError(
                f"{node} does not share {folder} with the driver ({seen['storage']}): name a folder that all nodes"
                " see, or s3://BUCKET/PREFIX (--storage)"
            )
    return len(found)
