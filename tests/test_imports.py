"""The core trains on a machine that has torch and torchvision, and none of the searching packages."""

import os
import re
import subprocess
import sys
from pathlib import Path

BLOCKED = ("ray", "optuna", "tensorboard", "sklearn", "scipy", "pandas", "pyarrow", "safetensors", "timm")
CORE = (
    "cotuning_tune.base.cache",
    "cotuning_tune.inspection.build_coco70",
    "cotuning_tune.tensorboard.dashboard",
    "cotuning_tune.data",
    "cotuning_tune.tensorboard.events",
    "cotuning_tune.experiment",
    "cotuning_tune.export.predict",
    "cotuning_tune.export.write",
    "cotuning_tune.inspection.contact_sheet",
    "cotuning_tune.inspection.mistakes",
    "cotuning_tune.inspection.prepare",
    "cotuning_tune.inspection.verify",
    "cotuning_tune.runs.ledger",
    "cotuning_tune.methods",
    "cotuning_tune.models",
    "cotuning_tune.plan",
    "cotuning_tune.relationship",
    "cotuning_tune.report",
    "cotuning_tune.training",
)
TRAIN = f"""
import sys
from pathlib import Path
for name in {BLOCKED}:
    sys.modules[name] = None
import importlib
for name in {CORE}:
    importlib.import_module(name)
import torch
torch.set_num_threads(1)
from cotuning_tune import methods
from cotuning_tune.training import TrainingJob, TrainingSpec
small = {{"size": 8, "resize": 8}}
for name in methods.names():
    job = TrainingJob(TrainingSpec(
        task="synthetic", rate=1.0, method=name, backbone="tiny_cnn", seed=0, task_config=small,
        train={{"epochs": 1}}))
    print(name, job.advance()["epoch"], job.finished)
try:
    import cotuning_tune.search.space
except ImportError:
    print("the search cannot be imported")
"""


def test_the_core_trains_without_the_search() -> None:
    """Every method trains an epoch where ray, optuna and all but torch cannot be imported."""
    from cotuning_tune import methods

    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *trained, last = done.stdout.splitlines()
    assert trained == [f"{name} 1 True" for name in methods.names()]
    assert last == "the search cannot be imported"


ELSEWHERE = """
import importlib, pkgutil, sys
import matplotlib.pyplot, optuna, ray.tune, tensorboard.program, torchvision  # these know other systems themselves
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
import cotuning_tune
for module in pkgutil.walk_packages(cotuning_tune.__path__, "cotuning_tune."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from cotuning_tune.base.cache import cached_file
from cotuning_tune.plan.probe import _peak_bytes
import torch
print(cached_file("kind", "key", ".txt", lambda path: path.write_text("made")).read_text())
print(_peak_bytes(torch.device("cpu")))
"""


def test_every_module_is_imported_elsewhere(tmp_path: Path) -> None:
    """On macOS and Windows, which lack modules of Linux, every module is imported; memory there is not measured."""
    environment = os.environ | {"COTUNING_TUNE_CACHE": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["made", "0"]


def test_the_loop_knows_no_modality() -> None:
    """What an example is belongs to the data: training, search, retraining and the run's files name no kind of it.

    But for two hyper-parameters that are done to images alone, a key of the experiment file, and what looks at data
    before a run begins.
    """
    root = Path(__file__).parents[1] / "cotuning_tune"
    looking = {root / "pipeline" / name for name in ("check.py", "propose.py")}
    files = {file for room in ("training", "search", "runs", "pipeline") for file in (root / room).rglob("*.py")}
    assert looking < files
    assert root / "runs" / "folder.py" in files
    named = re.compile(r"image|pixel")
    allowed = re.compile(r"source_val_images|^ +(augment|random_erasing): ")
    for file in [*sorted(files - looking), root / "retrain.py"]:
        lines = file.read_text(encoding="utf-8").lower().splitlines()
        assert [line for line in lines if named.search(line) and not allowed.search(line)] == [], file
    for name in ("trainer", "optim", "order", "state"):
        assert "token" not in (root / "training" / f"{name}.py").read_text(encoding="utf-8"), name


def test_launching_needs_neither_torch_nor_the_search() -> None:
    """What a server imports to launch and to look, every backend among it."""
    code = f"""
import sys
for name in {("torch", "torchvision", *BLOCKED)}:
    sys.modules[name] = None
import cotuning_tune.launch.verbs
from cotuning_tune.launch import backend, backend_names
print(*[name for name in backend_names() if backend(name)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "cloud k8s local slurm ssh submit\n"), done.stderr
