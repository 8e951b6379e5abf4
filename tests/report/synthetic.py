"""Whole runs made up in a second: every file that a report reads, with a search's realistic numbers."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit

from cotuning_tune.base.files import write_bytes, write_json, write_lines
from cotuning_tune.base.toml_text import inline
from cotuning_tune.run import ledger
from cotuning_tune.run.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.run.predictions import Predictions, file_hash, order_key

METHODS = ("fine_tune", "l2_sp", "delta", "bss", "co_tuning", "stochnorm", "bi_tuning", "lwf", "spd")
GAINS = (0.0, 0.6, 1.0, 0.8, 2.5, 0.4, 2.0, 1.2, 0.5)  # points over fine-tuning at the best weight
LR = {"low": 1e-4, "high": 3e-2, "log": True, "first": 1e-3}
WEIGHT = {"low": 1e-5, "high": 1e-1, "log": True, "first": 1e-3}
STARTED = 1_750_000_000.0
CLASSES = 20


@dataclass(frozen=True)
class Plan:
    """What every study of a made-up run shares."""

    run: RunDir
    methods: tuple[str, ...]
    seeds: int
    trials: int
    epochs: int
    pruned: float
    files: bool
    images: int


def _place(share: float, where: dict[str, Any]) -> float:
    return float(where["low"] * (where["high"] / where["low"]) ** share)


def _values(rng: random.Random, method: str, number: int) -> dict[str, Any]:
    """Trial 0 the defaults, trial 1 the neutral values, then draws."""
    values: dict[str, Any] = {
        "optim/lr": _place(rng.random(), LR) if number > 1 else LR["first"],
        "optim/head_lr_factor": rng.choice([1.0, 10.0, 30.0]) if number > 1 else 10.0,
    }
    if method != "fine_tune":
        drawn = [WEIGHT["first"], WEIGHT["low"]][number] if number < 2 else _place(rng.random(), WEIGHT)
        values[f"{method}/weight"] = drawn
    return values


def _accuracy(values: dict[str, Any], method: str, base: float, gain: float) -> float:
    """The expected validation accuracy (%): a hill over log lr, another one over log weight."""
    accuracy = base - 9 * math.log10(values["optim/lr"] / 4e-3) ** 2 - (values["optim/head_lr_factor"] == 1.0)
    if method != "fine_tune":
        accuracy += gain - 1.5 * math.log10(values[f"{method}/weight"] / 4e-3) ** 2
    return max(accuracy, 2.0)


def _curve(rng: random.Random, final: float, epochs: int, start: float) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl`` of a training that ends near ``final``."""
    rows, time = [], start
    for epoch in range(1, epochs + 1):
        reached = 1 - math.exp(-3.5 * epoch / epochs)
        seconds = 4 + rng.random()
        time += seconds
        accuracy = min(99.5, max(1.0, final * reached + rng.gauss(0, 0.4)))
        loss = 4 * (1 - accuracy / 100)
        row = {"epoch": epoch, "val_accuracy": round(accuracy, 4), "val_loss": loss, "train_loss": 0.8 * loss}
        rows.append(row | {"train_ce": 0.8 * loss, "lr": 1e-3, "seconds": seconds, "time": time})
    return rows


def _state(rng: random.Random, plan: Plan, number: int, values: dict[str, Any], final: float, base: float) -> str:
    """High learning rates often fail; of the poor ones some are stopped."""
    if values["optim/lr"] > 1.5e-2 and rng.random() < 0.6:
        return "FAIL"
    poor = number > 1 and final < base - 4 and rng.random() < plan.pruned
    return "PRUNED" if poor else "COMPLETE"


def _write_trial(
    folder: StudyDir, number: int, row: dict[str, Any], spec: dict[str, Any], history: list[dict[str, Any]]
) -> None:
    files = folder.trial(number)
    write_json(files.config, {"trial": number, "values": row["values"], "spec": spec}, durable=False)
    write_lines(files.metrics, history)
    kept = {key: row[key] for key in ("state", "epochs", "seconds", "reason")}
    write_json(files.result, {**kept, "value": row["accuracy"] if row["state"] != "FAIL" else None}, durable=False)


def _spec(study: dict[str, Any], values: dict[str, Any], seed: int) -> dict[str, Any]:
    prefix = f"{study['method']}/"
    return {
        **study,
        "backbone": "resnet50",
        "seed": seed,
        "format": study["task"],
        "weights": "",
        "task_config": {"val_share": 0.2, "decode": "once"},
        "data_options": {},
        "train": {"epochs": 10, **{k: v for k, v in values.items() if not k.startswith(prefix)}},
        "method_config": {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)},
    }


def _search(plan: Plan, folder: StudyDir, study: dict[str, Any], base: float, gain: float, rng: random.Random) -> None:
    """``study.json``, ``selection.json`` and the trials; a FAIL is followed by one more trial."""
    rows: list[dict[str, Any]] = []
    time = STARTED
    while sum(row["state"] != "FAIL" for row in rows) < plan.trials:
        number = len(rows)
        values = _values(rng, study["method"], number)
        final = _accuracy(values, study["method"], base, gain) + rng.gauss(0, 0.5)
        state = _state(rng, plan, number, values, final, base)
        epochs = plan.epochs if state == "COMPLETE" else rng.randint(1, max(1, plan.epochs // 2))
        history = _curve(rng, final, plan.epochs, time)[:epochs]
        best = max(row["val_accuracy"] for row in history)
        row = {
            "number": number,
            "state": state,
            "value": {"COMPLETE": best, "PRUNED": history[-1]["val_accuracy"], "FAIL": None}[state],
            "accuracy": best,
            "values": values,
            "epochs": epochs,
            "seconds": sum(r["seconds"] for r in history),
            "reason": "TrainingFailed: not finite in epoch 1: ce = nan" if state == "FAIL" else "",
            "reissued": 0,
        }
        rows.append(row)
        time = history[-1]["time"]
        if plan.files:
            _write_trial(folder, number, row, _spec(study, values, 100), history)
    summary = {**study, "budget": plan.trials, "trials": rows, "confirmations": []}
    write_json(folder.summary, summary, durable=False)
    write_json(folder.selection, _selection(study, rows) | {"study_hash": ledger.content_hash(summary)}, durable=False)


def _edge(values: dict[str, Any]) -> list[str]:
    """As the search marks them: within 5 % of an end of a logarithmic range."""
    found = []
    for key, value in values.items():
        where = LR if key == "optim/lr" else WEIGHT
        if key.endswith(("lr", "weight")):
            share = math.log(value / where["low"]) / math.log(where["high"] / where["low"])
            if not 0.05 <= share <= 0.95:
                found.append(key)
    return found


def _selection(study: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    done = [row for row in rows if row["state"] == "COMPLETE"]
    best = max(done, key=lambda row: (row["value"], -row["number"]))
    return {
        **study,
        "trial": best["number"],
        "val_accuracy": best["value"],
        "values": best["values"],
        "hparams": best["values"],
        "at_edge": _edge(best["values"]),
        "state": "COMPLETE",
        "rule": "best validation accuracy among trials of full length; the earliest of equals",
        "spec": _spec(study, best["values"], 100),
        "config": ledger.config_hash(_spec(study, best["values"], 100)),
    }


class _Book:
    """The test ledger, chained in memory: appending line by line would read the file each time."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, entry: dict[str, Any]) -> None:
        previous = ledger.line_hash(self.lines[-1]) if self.lines else ledger.START
        chained = {**entry, "time": STARTED + len(self.lines), "previous": previous}
        self.lines.append(ledger.chained_line(chained))


def _normal(count: int, *parts: object) -> np.ndarray:
    return np.random.default_rng(list(" ".join(map(str, parts)).encode())).normal(size=count)


def predictions_of(study: dict[str, Any], seed: int, accuracy: float, images: int) -> Predictions:
    """As many images of equally large classes right as the accuracy says: the easy ones of the task, mostly."""
    task, where = study["task"], (study["task"], study["rate"], study["method"])
    labels, hard = np.arange(images) % CLASSES, _normal(CLASSES, "classes", task)
    ease = _normal(images, "images", task) - 0.5 * hard[labels]
    ease += 0.5 * _normal(images, "model", *where) + 0.5 * _normal(images, "seed", *where, seed)
    rank = np.argsort(np.argsort(-ease, kind="stable"))
    right, confidence = rank < round(accuracy * images / 100), 0.97 - 0.6 * rank / images
    other = (labels + 1 + (labels + np.arange(images)) % (CLASSES - 1)) % CLASSES
    names = [f"{task} {position}" for position in range(images)]
    return Predictions(
        labels.astype(np.int32),
        np.where(right, labels, other).astype(np.int32),
        confidence.astype(np.float32),
        -np.log(np.where(right, confidence, 1 - confidence)).astype(np.float32),
        order_key(names),
        tuple(f"{task} {number}" for number in range(CLASSES)),
    )


def write_predictions(files: TrialDir, found: Predictions) -> dict[str, Any]:
    """The file of a seed, and what its result says of it."""
    data, right = found.packed(), found.predicted_N == found.labels_N
    write_bytes(files.predictions, data, durable=False)
    classes = [float(right[found.labels_N == label].mean()) for label in np.unique(found.labels_N)]
    accuracy, mean = 100 * float(right.mean()), 100 * sum(classes) / len(classes)
    kept = {"test_accuracy": accuracy, "test_mean_class_accuracy": mean, "test_images": len(right)}
    return {**kept, "predictions": file_hash(data)}


def _retrain(plan: Plan, folder: StudyDir, study: dict[str, Any], rng: random.Random, book: _Book) -> None:
    """Every seed's files, and its two ledger lines."""
    selection = json.loads(folder.selection.read_text(encoding="utf-8"))
    config = ledger.config_hash(selection["spec"])
    for seed in range(plan.seeds):
        files, entry = folder.retrain(seed), {**study, "study": folder.name, "seed": seed, "config": config}
        history = _curve(rng, selection["val_accuracy"] - 0.5 + rng.gauss(0, 0.5), plan.epochs, STARTED)
        best = max(history, key=lambda row: (row["val_accuracy"], -row["epoch"]))
        accuracy = round(selection["val_accuracy"] - 1.2 + rng.gauss(0, 0.6), 4)
        result = {
            "state": "COMPLETE",
            "seed": seed,
            "config": config,
            "val_accuracy": best["val_accuracy"],
            "best_epoch": best["epoch"],
            "epochs": len(history),
            "seconds": sum(row["seconds"] for row in history),
            "reason": "",
            "test_accuracy": accuracy,
            "test_mean_class_accuracy": accuracy,
            "test_loss": 4 * (1 - accuracy / 100),
            "test_images": 2000,
            "test_crops": "centre",
        }
        write_json(
            files.config,
            {"config": config, "seed": seed, "spec": selection["spec"] | {"seed": seed}},
            durable=False,
        )
        write_lines(files.metrics, history)
        if plan.images:
            result |= write_predictions(files, predictions_of(study, seed, accuracy, plan.images))
        write_json(files.result, result, durable=False)
        accuracy = result["test_accuracy"]
        book.add({"event": "test_evaluation", "purpose": "retrain", **entry})
        digest = ledger.content_hash(result)
        book.add({"event": "result", "purpose": "retrain", **entry, "test_accuracy": accuracy, "result": digest})


def _write_head(plan: Plan, tasks: Sequence[str], rates: Sequence[float], sampler: str) -> None:
    """``experiment.toml``, ``space.toml`` and ``env.json``."""
    experiment: dict[str, Any] = {
        "tasks": list(tasks),
        "rates": list(rates),
        "methods": list(plan.methods),
        "backbone": "resnet50",
        "trials": plan.trials,
        "seeds": list(range(plan.seeds)),
        "sampler": sampler,
        "pruner": "asha" if plan.pruned else "none",
    }
    spaces: dict[str, dict[str, Any]] = {
        "train": {
            "optim/lr": LR,
            "optim/head_lr_factor": {"options": [1.0, 10.0, 30.0], "first": 10.0},
            "epochs": plan.epochs,
        }
    }
    searching = [method for method in plan.methods if method != "fine_tune"]
    spaces["methods"] = {m: {"weight": WEIGHT} if m in searching else {} for m in plan.methods}
    train = {"epochs": plan.epochs, "optim": {"lr": inline(_asked(LR))}}
    asked = {method: {"weight": inline(_asked(WEIGHT))} for method in searching}
    tables = {"experiment": experiment, "train": train, "methods": asked}
    write_bytes(plan.run.experiment_file, tomlkit.dumps(tables).encode())
    write_bytes(plan.run.space_file, tomlkit.dumps(spaces).encode())
    environment = {
        "cotuning_tune": "0.0.0",
        "python": "3.11.0",
        "packages": {"torch": "2.11.0", "optuna": "5.0.0"},
        "gpus": [],
        "command": ["cotuning-tune", "run", "synthetic.toml"],
        "started": STARTED,
    }
    write_json(plan.run.environment, environment)


def _asked(where: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in where.items() if key != "first"}


def write_run(
    folder: Path,
    tasks: Sequence[str] = ("birds", "cars"),
    rates: Sequence[float] = (0.15, 1.0),
    methods: int = 9,
    seeds: int = 3,
    trials: int = 32,
    *,
    epochs: int = 10,
    sampler: str = "random",
    pruned: float = 0.3,
    files: bool = True,
    seed: int = 0,
    images: int = 1980,
) -> RunDir:
    """A finished run in ``folder`` (its last part is the name).

    ``pruned``: share of the poor trials that end PRUNED (0: no early stopping). ``files``: also every
    trial's own folder. ``images``: of the test split (0: no predictions, as earlier versions kept none). Co-tuning is
    best, fine-tuning last, as far as the noise lets them.
    """
    plan = Plan(RunDir(folder), METHODS[:methods], seeds, trials, epochs, pruned, files, images)
    _write_head(plan, tasks, rates, sampler)
    book = _Book()
    for position, task in enumerate(tasks):
        for rate in rates:
            base = 62 - 5 * position + 12 * math.log10(10 * rate)
            for method, gain in zip(plan.methods, GAINS, strict=False):
                rng = random.Random(f"{seed} {task} {rate} {method}")
                study = {"task": task, "rate": rate, "method": method}
                setting = plan.run.study(f"{task}-{rate:.2f}-{method}")
                _search(plan, setting, study, base, gain, rng)
                _retrain(plan, setting, study, rng, book)
    write_bytes(plan.run.ledger, ("\n".join(book.lines) + "\n").encode())
    return plan.run
