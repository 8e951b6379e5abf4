"""The core trains on a machine that has torch and torchvision, and none of the searching packages."""

import subprocess
import sys

BLOCKED = ("ray", "optuna", "tensorboard", "sklearn", "scipy", "pandas", "safetensors", "timm")
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
    "cotuning_tune.run.ledger",
    "cotuning_tune.methods",
    "cotuning_tune.models",
    "cotuning_tune.plan",
    "cotuning_tune.relationship",
    "cotuning_tune.report",
    "cotuning_tune.training",
)
TRAIN = f"""
import sys
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
