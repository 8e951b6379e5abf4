"""A program for a host: every listening port, and what it answers to somebody without a token; a line of JSON each."""

import http.client
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc

PATHS = ("/metrics", "/api/version", "/api/jobs/", "/get_or_create_runtime_env")
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.RayletDriver/Init",
    "/ray.rpc.ReporterService/GetTraceback",
)


def listening() -> list[tuple[int, str, str]]:
    """Port, address and process of everything that listens."""
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = set()
    for line in lines:
        address, _, port = line.split()[3].rpartition(":")
        process = re.search(r"pid=(\d+)", line)
        assert process, line
        command = Path(f"/proc/{process[1]}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        found.add((int(port), address.strip("[]").removeprefix("::ffff:"), command))
    return sorted(found)


def web(host: str, port: int) -> dict[str, tuple[int, str]]:
    """The status of each path that answers over HTTP, and how its answer begins."""
    found = {}
    for path in PATHS:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as answer:
                found[path] = (answer.status, answer.read(7).decode(errors="replace"))
        except urllib.error.HTTPError as problem:
            found[path] = (problem.code, "")
        except (OSError, http.client.HTTPException):  # it does not speak HTTP
            break
    return found


def rpc(host: str, port: int) -> dict[str, str]:
    """The status of each call that answers over gRPC."""
    found = {}
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(call)(b"", timeout=10)
                found[call] = "OK"
            except grpc.RpcError as problem:
                found[call] = problem.code().name
    return found


if __name__ == "__main__":
    for port, address, process in listening():
        if "sshd" in process:
            continue
        host = "127.0.0.1" if address in ("*", "0.0.0.0", "::") else address
        pages = web(host, port)
        answer = {"port": port, "address": address, "process": process, "web": pages}
        sys.stdout.write(json.dumps({**answer, "rpc": {} if pages else rpc(host, port)}) + "\n")
