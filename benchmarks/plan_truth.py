"""The plan against what happened: wall-clock time, kept models, checkpoints at their most, memory of a worker.

python benchmarks/plan_truth.py [NAME ...]

Searches, each planned and then run on this machine: the smallest experiment, texts, 60 JPEG files with
EfficientNet-Lite0, one with methods that keep the features of all images, and the demo. Prints planned / measured of
each, to be within 1.5; what else the machine does meanwhile is measured too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from cotuning_tune.experiment import read_experiment
from cotuning_tune.plan import plan_of
from cotuning_tune.plan.write import plan_json

SPACES = Path(__file__).parents[1] / "search_spaces"
PHOTOS = """
[experiment]
tasks = ["photos"]
methods = ["fine_tune", "co_tuning"]
backbone = "efficientnet_lite0"
trials = 2
[task]
size = 64
resize = 72
[data.photos]
format = "image_folder"
root = "photos"
[train]
epochs = 4
batch_size = 12
"""
KEEPING = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "knn", "bss", "delta"]
backbone = "tiny_cnn"
trials = 4
[task]
size = 16
resize = 16
[data.synthetic]
images = 500
[train]
epochs = 3
"""
EXPERIMENTS = {"tiny": "", "tiny_ner": "", "photos": PHOTOS, "keeping": KEEPING, "demo": ""}  # "": of search_spaces


def draw_photos(root: Path) -> None:
    """Twenty JPEG files of each of three colours."""
    rng = np.random.default_rng(0)
    for number, colour in enumerate(("red", "green", "blue")):
        (root / colour).mkdir(parents=True, exist_ok=True)
        for image in range(20):
            pixels = rng.integers(0, 80, (150, 200, 3))
            pixels[:, :, number] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(root / colour / f"{image}.jpg")


def checkpoints(run: Path, *endings: str) -> int:
    """Bytes of the checkpoints below a folder; one that is being replaced counts as it is found."""
    found = 0
    for ending in endings:
        for path in run.rglob(f"*{ending}"):
            with suppress(FileNotFoundError):
                found += path.stat().st_size
    return found


def children(pid: int) -> Iterator[int]:
    """A process's descendants."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from children(int(child))


def worker_peak(pid: int) -> int:
    """Bytes that the largest process of Ray below this one has had at most."""
    most = 0
    for child in children(pid):
        with suppress(OSError):
            name, status = (Path(f"/proc/{child}/{part}").read_text() for part in ("cmdline", "status"))
            if name.startswith("ray::"):
                most = max(most, *(1024 * int(s.split()[1]) for s in status.splitlines() if s.startswith("VmHWM")))
    return most


def measured(path: Path, folder: Path) -> dict[str, float]:
    """Run an experiment and look at it all the while."""
    words = [sys.executable, "-m", "cotuning_tune.cli", "run", str(path), "--storage", str(folder / "runs")]
    start, most, memory = time.monotonic(), 0, 0
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log)
        while running.poll() is None:
            most = max(most, checkpoints(folder / "runs", ".pt", ".safetensors"))
            memory = max(memory, worker_peak(running.pid))
            time.sleep(0.2)
    if running.returncode:
        raise SystemExit((folder / "log").read_text())
    took, models = time.monotonic() - start, checkpoints(folder / "runs", ".safetensors")
    return {"time": took, "models": models, "checkpoints": most, "memory": memory}


def compared(name: str) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = SPACES / f"{name}.toml"
        if EXPERIMENTS[name]:
            path = folder / f"{name}.toml"
            path.write_text(EXPERIMENTS[name])
            draw_photos(folder / "photos")
        totals = plan_json(plan_of(read_experiment(path)))["totals"]
        found = measured(path, folder)
    most = totals["running_bytes"] + totals["model_bytes"]
    planned = {"time": totals["wall_s"], "models": totals["model_bytes"], "checkpoints": most}
    planned["memory"] = totals["memory_bytes"]
    shares = [f"{planned[key]:.3g} / {found[key]:.3g} = {planned[key] / found[key]:.2f}" for key in planned]
    return f"| {' | '.join([name, *shares])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; none: all")
    print("| experiment | wall-clock s | kept models, bytes | checkpoints at most | memory of a worker |")
    print("|---|---|---|---|---|")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = parser.parse_args().names or list(EXPERIMENTS)
    if unknown := set(names) - set(EXPERIMENTS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(EXPERIMENTS)}")
    for name in names:
        print(compared(name), flush=True)


if __name__ == "__main__":
    main()
