"""A run on a claim that is made with it, on GPUs."""

from pathlib import Path

from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends.k8s import K8sProfile

REQUEST = Request(
    experiment=Path("search_spaces/tiny.toml"),
    name="tiny",
    storage="/mnt/runs",
    optuna_storage="",
    profile=K8sProfile(
        image="example.org/cotuning-tune:1",
        claim="runs",
        claim_size="100Gi",
        storage_class="shared-files",
    ),
    folder=Path("/home/user/.cotuning_tune/launches/tiny"),
)
