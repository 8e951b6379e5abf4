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
from cotuning_tune.runs import ledger
from cotuning_tune.runs.choice import choose, confirmed, judged, rule_text, to_confirm
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.predictions import Predictions, file_hash, order_key
from cotuning_tune.runs.records import Confirmation, TrialRow
from cotuning_tune.scores import ACCURACY

METHODS = ("fine_tune", "l2_sp", "delta", "bss", "co_tuning", "stochnorm", "bi_tuning", "lwf", "spd")
GAINS = (0.0, 0.6, 1.0, 0.8, 2.5, 0.4, 2.0, 1.2, 0.5)  # points over fine-tuning at the best weight
LR = {"low": 1e-4, "high": 3e-2, "log": True, "first": 1e-3}
WEIGHT = {"low": 1e-5, "high": 1e-1, "log": True, "first": 1e-3}
STARTED = 1_750_000_000.0
CLASSES, VAL_IMAGES = 20, 400
SEARCH_SEED, SEARCHES = 100, 8


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
    aim: str
    rule: str
    search: int

    @property
    def first_seed(self) -> int:
        """Small searches are retrained with a seed of their own each."""
        return self.search - 1 if self.aim == "methods" else 0


def _place(share: float, where: dict[str, Any]) -> float:
    return float(where["low"] * (where["high"] / where["low"]) ** share)


def _fixed(plan: Plan, method: str, number: int) -> str:
    """Trial 0 the published defaults, trial 1 the method at its weakest; small searches have drawn trials alone."""
    names = ["published", *(["weakest"] if method != "fine_tune" else [])] if plan.aim == "model" else []
    return names[number] if number < len(names) else ""


def _values(rng: random.Random, method: str, fixed: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "optim/lr": LR["first"] if fixed else _place(rng.random(), LR),
        "optim/head_lr_factor": 10.0 if fixed else rng.choice([1.0, 10.0, 30.0]),
    }
    if method != "fine_tune":
        known = {"published": WEIGHT["first"], "weakest": WEIGHT["low"]}
        values[f"{method}/weight"] = known[fixed] if fixed else _place(rng.random(), WEIGHT)
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
        row = {"epoch": epoch, "val_score": round(accuracy, 4), "val_loss": loss, "train_loss": 0.8 * loss}
        rows.append(row | {"train_ce": 0.8 * loss, "lr": 1e-3, "seconds": seconds, "time": time})
    return rows


def _state(rng: random.Random, plan: Plan, fixed: str, values: dict[str, Any], final: float, base: float) -> str:
    """High learning rates often fail; of the poor ones some are stopped."""
    if values["optim/lr"] > 1.5e-2 and rng.random() < 0.6:
        return "FAIL"
    poor = not fixed and final < base - 4 and rng.random() < plan.pruned
    return "PRUNED" if poor else "COMPLETE"


def _write_trial(folder: StudyDir, row: TrialRow, spec: dict[str, Any], history: list[dict[str, Any]]) -> None:
    files = folder.trial(row["number"])
    write_json(files.config, {"trial": row["number"], "values": row["values"], "spec": spec}, durable=False)
    write_lines(files.metrics, history)
    result = {"state": row["state"], "epochs": row["epochs"], "seconds": row["seconds"], "reason": row["reason"]}
    write_json(files.result, {**result, "value": row["score"]}, durable=False)


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


def _row(
    number: int, state: str, fixed: str, values: dict[str, Any], method: str, history: list[dict[str, Any]]
) -> TrialRow:
    failed, weight = state == "FAIL", values.get(f"{method}/weight")
    return {
        "number": number,
        "state": state,
        "value": None if failed else history[-1]["val_score"],
        "score": None if failed else history[-1]["val_score"],
        "loss": None if failed else history[-1]["val_loss"],
        "share": 0.0 if weight is None else 10 * weight,
        "fixed": fixed,
        "values": values,
        "epochs": len(history),
        "seconds": sum(row["seconds"] for row in history),
        "reason": "TrainingFailed: not finite in epoch 1: ce = nan" if failed else "",
        "reissued": 0,
    }


def _confirmations(plan: Plan, rows: list[TrialRow], rng: random.Random) -> list[Confirmation]:
    """The three best once more, on another validation split: there the luck of being chosen is gone."""
    again: list[Confirmation] = []
    for number in to_confirm(rows, ACCURACY) if plan.rule == "confirm" else []:
        found = round((rows[number]["score"] or 0.0) - 0.5 + rng.gauss(0, 0.7), 4)
        ended = {"score": found, "epochs": plan.epochs, "seconds": rows[number]["seconds"], "reason": ""}
        again.append({"confirms": number, "state": "COMPLETE", **ended})  # type: ignore[typeddict-item]
    return again


def _search(plan: Plan, folder: StudyDir, study: dict[str, Any], base: float, gain: float, rng: random.Random) -> None:
    """``study.json``, ``selection.json`` and the trials; a FAIL uses up its draw."""
    rows: list[TrialRow] = []
    time, method = STARTED, study["method"]
    for number in range(plan.trials):
        fixed = _fixed(plan, method, number)
        values = _values(rng, method, fixed)
        final = _accuracy(values, method, base, gain) + rng.gauss(0, 0.5)
        state = _state(rng, plan, fixed, values, final, base)
        epochs = plan.epochs if state == "COMPLETE" else rng.randint(1, max(1, plan.epochs // 2))
        history = _curve(rng, final, plan.epochs, time)[:epochs]
        rows.append(_row(number, state, fixed, values, method, history))
        time = history[-1]["time"]
        if plan.files:
            _write_trial(folder, rows[-1], _spec(study, values, SEARCH_SEED), history)
    facts = {"budget": plan.trials, "val_count": VAL_IMAGES, "chance": 100 / CLASSES, "importance": {}}
    again = _confirmations(plan, rows, rng)
    summary = {**study, **facts, "trials": rows, "confirmations": again}
    write_json(folder.summary, summary, durable=False)
    choice = choice_of(study, rows, again, plan.rule)
    if choice is not None:
        write_json(folder.selection, choice | {"study_hash": ledger.content_hash(summary)}, durable=False)


def choice_of(
    study: dict[str, Any], rows: list[TrialRow], again: list[Confirmation], rule: str
) -> dict[str, Any] | None:
    """The selection of a study but for the hash of its file; None where no trial can be chosen."""
    best = choose(rows, again, rule, ACCURACY)
    if best is None:
        return None
    spec = _spec(study, dict(best["values"]), SEARCH_SEED)
    return {
        **study,
        "trial": best["number"],
        "val_score": judged(best, again, rows, rule, ACCURACY),
        "val_scores": confirmed(rows, again, ACCURACY).get(best["number"], [best["score"]]),
        "values": best["values"],
        "hparams": best["values"],
        "state": best["state"],
        "rule": rule_text(best, rule, ACCURACY),
        "spec": spec,
        "config": ledger.config_hash(spec),
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
    kept = {"test_score": accuracy, "test_mean_class_accuracy": mean, "test_count": len(right)}
    return {**kept, "predictions": file_hash(data)}


def _retrain(plan: Plan, folder: StudyDir, study: dict[str, Any], rng: random.Random, book: _Book) -> None:
    """Every seed's files, and its two ledger lines."""
    if not folder.selection.exists():
        return
    selection = json.loads(folder.selection.read_text(encoding="utf-8"))
    config = ledger.config_hash(selection["spec"])
    for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
        files, entry = folder.retrain(seed), {**study, "study": folder.name, "seed": seed, "config": config}
        history = _curve(rng, selection["val_score"] - 0.5 + rng.gauss(0, 0.5), plan.epochs, STARTED)
        accuracy = round(selection["val_score"] - 1.2 + rng.gauss(0, 0.6), 4)
        result = {
            "state": "COMPLETE",
            "seed": seed,
            "config": config,
            "val_score": history[-1]["val_score"],
            "kept_epoch": history[-1]["epoch"],
            "epochs": len(history),
            "seconds": sum(row["seconds"] for row in history),
            "reason": "",
            "test_score": accuracy,
            "test_mean_class_accuracy": accuracy,
            "test_loss": 4 * (1 - accuracy / 100),
            "test_count": 2000,
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
        accuracy = result["test_score"]
        book.add({"event": "test_evaluation", "purpose": "retrain", **entry})
        digest = ledger.content_hash(result)
        book.add({"event": "result", "purpose": "retrain", **entry, "test_score": accuracy, "result": digest})


def _write_head(plan: Plan, tasks: Sequence[str], rates: Sequence[float], sampler: str) -> None:
    """``experiment.toml``, ``space.toml`` and ``env.json``."""
    experiment: dict[str, Any] = {
        "tasks": list(tasks),
        "rates": list(rates),
        "methods": list(plan.methods),
        "backbone": "resnet50",
        "trials": plan.trials * (SEARCHES if plan.aim == "methods" else 1),
        "seeds": list(range(plan.first_seed, plan.first_seed + plan.seeds)),
        "sampler": sampler,
        "pruner": "asha" if plan.pruned else "none",
        "selection": plan.rule,
    }
    experiment |= {"aim": plan.aim, "search_seed": SEARCH_SEED + plan.search - 1}
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
    tables = {"experiment": experiment, "task": {"val_seed": plan.search - 1}, "train": train, "methods": asked}
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
    aim: str = "model",
    selection: str = "confirm",
    search: int = 1,
) -> RunDir:
    """A finished run in ``folder`` (its last part is the name).

    ``pruned``: share of the poor trials that end PRUNED (0: no early stopping). ``files``: also every
    trial's own folder. ``images``: of the test split (0: no predictions, as earlier versions kept none). Co-tuning is
    best, fine-tuning last, as far as the noise lets them. ``search``: its number, where it is one of several.
    ``aim`` 'methods': one of eight small searches, each with ``trials`` trials.
    """
    rule = "max" if aim == "methods" and selection == "confirm" else selection
    plan = Plan(RunDir(folder), METHODS[:methods], seeds, trials, epochs, pruned, files, images, aim, rule, search)
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


def write_searches(folder: Path, small: int = 0, repeats: int = 0, **shape: Any) -> RunDir:
    """A run with further searches of it in ``repeats/``, each with search seed, split and noise of its own.

    ``small``: searches of four trials that compare methods: all of the run's (``aim`` 'methods'), or beside its own
    search. ``repeats``: further whole ones.
    """
    alone = shape.get("aim") == "methods"
    own = shape | ({"trials": 4, "seeds": 1} if alone else {})
    run = write_run(folder, **own)
    count = repeats or (small - 1 if alone else small)
    for number in range(2, 2 + count):
        again = shape | ({"trials": 4, "seeds": 1, "aim": "methods"} if small else {})
        name = folder / "repeats" / f"{folder.name}-repeat{number}"
        write_run(name, **again | {"seed": shape.get("seed", 0) + number - 1, "search": number})
    kept: dict[str, Any] = {"searches": 1 + count, "time": 0.0, "after_tests": False}
    write_json(run.repeats_file, kept | ({"small": 32} if small and not alone else {}))
    return run
