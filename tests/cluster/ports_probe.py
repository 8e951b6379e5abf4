"""A program for a host: every listening port, and what it answers to somebody without a token; a line of JSON each."""

import http.client
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request

import grpc

PATHS = ("/", "/metrics", "/api/version", "/api/jobs/", "/api/packages/gcs/x.zip", "/get_or_create_runtime_env")
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/FreeObjects",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.RayletDriver/Init",
    "/ray.rpc.ReporterService/GetTraceback",
    "/opencensus.proto.agent.metrics.v1.MetricsService/Export",
)


def listening() -> list[tuple[str, int, str]]:
    """Address, port and process of everything that listens."""
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = set()
    for line in lines:
        address, _, port = line.split()[3].rpartition(":")
        process = re.search(r"pid=(\d+)", line)
        command = open(f"/proc/{process[1]}/cmdline").read().replace("\0", " ") if process else ""  # noqa: PTH123, SIM115
        found.add((address.strip("[]").removeprefix("::ffff:"), int(port), command.strip()))
    return sorted(found, key=lambda one: one[1])


def web(host: str, port: int) -> dict[str, int]:
    """The status of each path that answers over HTTP."""
    found = {}
    for path in PATHS:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
                found[path] = answer.status
        except urllib.error.HTTPError as problem:
            found[path] = problem.code
        except (OSError, http.client.HTTPException):  # it does not speak HTTP
            break
    return found


def rpc(host: str, port: int) -> dict[str, str]:
    """The status of each call that answers over gRPC."""
    found = {}
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(call)(b"", timeout=3)
                found[call] = "OK"
            except grpc.RpcError as problem:
                if problem.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    found[call] = problem.code().name
                    break
                found[call] = problem.code().name
    return found


if __name__ == "__main__":
    for address, port, process in listening():
        host = "127.0.0.1" if address in ("*", "0.0.0.0", "::") else address
        answer = {"address": address, "port": port, "process": process, "http": web(host, port)}
        sys.stdout.write(json.dumps({**answer, "rpc": {} if answer["http"] else rpc(host, port)}) + "\n")
