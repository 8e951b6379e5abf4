"""Stands in for the program ``ray``: records its arguments; ``exec`` runs the command on a made-up head.

The folder ``FAKE_RAY`` holds what was asked (``asked``), the head's home (``head``, while the cluster is up), and
``fail`` with the verb that shall fail.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


def _up(folder: Path, cluster: Path, head: Path) -> None:
    """Copy the mounted files with their modes, and put programs there that say what they were asked."""
    (line,) = [line for line in cluster.read_text().splitlines() if line.startswith("file_mounts: ")]
    (head / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    for there, here in json.loads(line.removeprefix("file_mounts: ")).items():
        target = head / there.removeprefix("~/")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(here, target)
    for name in ("python", "ray", "sudo"):
        program = head / "venv" / "bin" / name
        program.write_text((folder / name).read_text() if (folder / name).exists() else 'echo "$0 $*" >> ~/called\n')
        program.chmod(0o755)


def main(folder: Path, arguments: list[str]) -> int:
    """Do what is asked; the exit code."""
    with (folder / "asked").open("a") as asked:
        asked.write(json.dumps(arguments) + "\n")
    verb, *words = [word for word in arguments if not word.startswith("-")]
    head = folder / "head"
    if (folder / "fail").exists() and (folder / "fail").read_text() == verb:
        sys.stdout.write("working on it\nbotocore.exceptions.ClientError: not authorized\n\n")
        return 1
    if verb == "up":
        _up(folder, Path(words[0]), head)
    elif not head.exists():
        sys.stdout.write("RuntimeError: Head node of cluster (tiny) not found!\n")
        return 1
    elif verb == "rsync-up":
        shutil.copy(words[1], head / words[2].removeprefix("~/"))
    elif verb == "down":
        shutil.rmtree(head)
    elif verb == "exec":
        path = f"{head}/venv/bin:{os.environ['PATH']}"
        sys.stdout.write("Fetched IP: 192.0.2.1\n")
        sys.stdout.flush()
        environment = {**os.environ, "HOME": str(head), "PATH": path}
        return subprocess.run(["bash", "-c", words[1]], env=environment, check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(os.environ["FAKE_RAY"]), sys.argv[1:]))
