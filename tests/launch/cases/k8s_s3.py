"""A run on S3 with a database for the studies, in a queue of Kueue, without GPUs."""

from pathlib import Path

from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends.k8s import K8sProfile

BACKEND = "k8s"
REQUEST = Request(
    experiment=Path("search_spaces/tiny.toml"),
    name="Tiny_on_S3",
    storage="s3://bucket/runs",
    optuna_storage="postgresql://me:password@database/studies",
    profile=K8sProfile(
        image="example.org/cotuning-tune:1",
        pull_secret="registry",
        namespace="research",
        context="production",
        gpus=0,
        node_selector="pool=spot",
        s3_secret="s3-keys",
        s3_endpoint="https://s3.example.org",
        queue="nightly",
    ),
    folder=Path("/home/user/.cotuning_tune/launches/Tiny_on_S3"),
)
