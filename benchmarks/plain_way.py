"""A whole search against the ways in which users script one: wall-clock, equal configurations, equal epochs.

python benchmarks/plain_way.py [--pairs 1]      two cores; about eight minutes a pair

Two methods, four learning rates each, eight epochs of EfficientNet-Lite0 on 200 embedded images at 64 px, two trainings
at a time; then the best rate of each method is trained once more and tested. Against

- a fresh process for each configuration (``plain_training.py``), two at a time;
- Optuna's own loop in one process, each training on both cores;
- Ray Tune as its guide has it: a function, OptunaSearch, two trials at a time.

Beside the times stand test accuracies of both sides, and our search's wall-clock over the seconds of its trainings.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pairs import Comparison, keep
from PIL import Image

HERE = Path(__file__).parent
METHODS, RATES, SLOTS = ("fine_tune", "co_tuning"), (4e-4, 7e-4, 1e-3, 1.4e-3), 2
EXPERIMENT = """
[experiment]
tasks = ["plain"]
methods = ["fine_tune", "co_tuning"]
backbone = "efficientnet_lite0"
trials = 4
sampler = "random"
selection = "max"
seeds = [1]
[task]
size = 64
resize = 72
[data.plain]
format = "image_folder"
root = "{root}"
[train]
epochs = 8
batch_size = 24
batch_norm = "train"
[train.optim]
lr = [4e-4, 7e-4, 1e-3, 1.4e-3]
head_lr_factor = 10
"""
Accuracies = dict[str, float]


def write_folders(root: Path) -> None:
    """200 images to train on, 200 to validate on, and the embedded test split, as PNG files by class."""
    from cotuning_tune.data import TaskConfig, open_task

    task = open_task("fashion_mnist", 0.4, TaskConfig(size=64, resize=72, val_fraction=0.5))
    for name, split in (("train", task.train), ("val", task.val), ("test", task.open_test())):
        for place, label in enumerate(split.labels_N.tolist()):
            folder = root / name / f"{label:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.stored([place])[0].permute(1, 2, 0).numpy()).save(folder / f"{place:05d}.png")


def in_processes(root: Path) -> Accuracies:
    """A fresh process for each configuration."""

    def train(method: str, lr: float, seed: int, *words: str) -> dict[str, float]:
        script = [sys.executable, HERE / "plain_training.py", method, str(lr), str(seed), root, *words]
        done = subprocess.run(script, capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found

    def again(method: str) -> float:
        best = max(RATES, key=lambda lr: found[method, lr]["val"])
        return train(method, best, 1, "--test")["test"]

    every = [(method, lr) for method in METHODS for lr in RATES]
    with ThreadPoolExecutor(SLOTS) as pool:
        found = dict(zip(every, pool.map(lambda one: train(*one, 0), every), strict=True))
        return dict(zip(METHODS, pool.map(again, METHODS), strict=True))


def by_optuna(root: Path) -> Accuracies:
    """Optuna's loop in this process."""
    import optuna
    import torch
    from plain_training import train

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(SLOTS)

    def search(method: str) -> float:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler({"lr": RATES}))

        def objective(trial: optuna.Trial) -> float:
            return train(method, trial.suggest_categorical("lr", RATES), 0, root)["val"]

        study.optimize(objective, n_trials=len(RATES))
        return train(method, study.best_params["lr"], 1, root, test=True)["test"]

    return {method: search(method) for method in METHODS}


def by_ray(root: Path) -> Accuracies:
    """Ray Tune with OptunaSearch, and remote functions for what is trained once more."""
    import ray
    import torch
    from plain_training import train
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, object]) -> None:
        torch.set_num_threads(1)
        tune.report(train(str(config["method"]), float(str(config["lr"])), 0, root))

    def again(method: str, lr: float) -> float:
        torch.set_num_threads(1)
        return train(method, lr, 1, root, test=True)["test"]

    def best(method: str) -> float:
        points = [{"lr": lr, "method": method} for lr in RATES]
        space = {"lr": tune.choice(RATES), "method": tune.choice([method])}
        search = OptunaSearch(metric="val", mode="max", points_to_evaluate=points)
        config = tune.TuneConfig(search_alg=search, num_samples=len(RATES), max_concurrent_trials=SLOTS)
        run = tune.RunConfig(storage_path=str(root.parent / "ray"), verbose=0)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}), param_space=space, tune_config=config, run_config=run
        )
        found = tuner.fit().get_best_result("val", "max").config
        assert found is not None
        return float(found["lr"])

    ray.init(
        address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1"
    )
    rates = {method: best(method) for method in METHODS}
    remote = ray.remote(num_cpus=1)(again)
    return dict(zip(METHODS, ray.get([remote.remote(*one) for one in rates.items()]), strict=True))


def ours(root: Path, notes: list[str]) -> Accuracies:
    """The product, as its users start it; what its search took beside its trainings is noted."""
    folder = Path(tempfile.mkdtemp(dir=root.parent))
    (folder / "search.toml").write_text(EXPERIMENT.format(root=root))
    words = [sys.executable, "-m", "cotuning_tune.cli", "run", folder / "search.toml", "--storage", folder / "runs"]
    subprocess.run(words, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    studies = folder / "runs" / "search" / "studies"
    rows = [json.loads(line) for path in studies.glob("*/trials/*/metrics.jsonl") for line in path.open()]
    first, last = min(row["time"] - row["seconds"] for row in rows), max(row["time"] for row in rows)
    share = (last - first) / (sum(row["seconds"] for row in rows) / SLOTS)
    notes.append(f"our search took {share:.3f} of its training seconds over its slots")
    tested = {method: next(studies.glob(f"*-{method}/retrain/*/result.json")) for method in METHODS}
    return {method: json.loads(path.read_text())["test_score"] for method, path in tested.items()}


PEERS: dict[str, Callable[[Path], Accuracies]] = {
    "a process a configuration": in_processes,
    "Optuna's loop": by_optuna,
    "Ray Tune with OptunaSearch": by_ray,
}


def timed(work: Callable[[], Accuracies]) -> tuple[float, Accuracies]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def apart(name: str, root: Path) -> Accuracies:
    """A peer in a process of its own: what it loads and sets stays there."""
    script = [sys.executable, __file__, "--peer", name, "--root", root]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(script, check=True, capture_output=True, text=True, env=env)
    found: Accuracies = json.loads(done.stdout.splitlines()[-1])
    return found


def told(found: Accuracies) -> str:
    return ", ".join(f"{method} {score:.1f} %" for method, score in found.items())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.peer:
        print(json.dumps(PEERS[options.peer](options.root)))
        return
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "images"
        write_folders(root)
        notes: list[str] = []
        rounds = [
            {"": timed(lambda: ours(root, notes))}
            | {peer: timed(lambda peer=peer: apart(peer, root)) for peer in PEERS}  # type: ignore[misc]
            for _ in range(options.pairs)
        ]
    comparisons = []
    for peer in PEERS:
        ratios = [one[""][0] / one[peer][0] for one in rounds]
        note = f"tested: {told(rounds[0][''][1])} against {told(rounds[0][peer][1])}; {notes[0]}"
        mine, theirs = (statistics.median(one[side][0] for one in rounds) for side in ("", peer))
        spread = statistics.median(ratios), min(ratios), max(ratios)
        comparisons.append(Comparison(f"a search / {peer}", mine, theirs, *spread, options.pairs, "at most 0.2", note))
    keep("plain-way", comparisons)


if __name__ == "__main__":
    main()
