"""The model card: what an exported model is, how it was chosen and tested, and what it does not promise."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from cotuning_tune.base.files import read_json
from cotuning_tune.base.tables import Table
from cotuning_tune.export.chosen import Winner
from cotuning_tune.report.caveats import begins_random
from cotuning_tune.report.results import mean_std, read_tables
from cotuning_tune.runs import ledger
from cotuning_tune.scores import Metric

CLASSES_SHOWN = 60
BESIDE = {
    "accuracy": "accuracy (%)",
    "mean_class_accuracy": "mean over classes (%)",
    "precision": "precision (%)",
    "recall": "recall (%)",
}


@dataclass(frozen=True)
class Facts:
    """What the run's files do not tell: sizes of the splits, whether images are files, the licence ("": unknown)."""

    training: int
    validation: int
    from_files: bool
    licence: str
    checked: str


def card(winner: Winner, description: Mapping[str, Any], facts: Facts) -> str:
    """The card as Markdown."""
    sections = {
        "Use": _use(description),
        "Training data": _data(winner, description, facts),
        "How it was chosen": _choice(winner),
        "Test": _tested(winner),
        "Hyper-parameters": _hyper_parameters(winner),
        "Limits and warnings": "\n".join(f"- {line}" for line in warnings(winner, description, facts)),
        "Licences": _licences(winner, facts),
        "Made with": ", ".join(f"{name} {version}" for name, version in description["versions"].items()),
    }
    parts = [
        f"# {winner.title}",
        _what(winner, description),
        *(f"## {name}\n\n{text}" for name, text in sections.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _what(winner: Winner, d: Mapping[str, Any]) -> str:
    weights = winner.spec["weights"]
    begun = f"from the weights {PurePath(weights).name}" if weights else "from its published weights"
    begun = "from random weights" if _begins_random(winner) else begun
    noun = winner.study.examples
    what = "A tagger of words with" if noun == "sentences" else f"A classifier of {noun} into"
    return (
        f"{what} {len(d['classes'])} classes: {d['backbone']}, {begun}, trained with"
        f" `{d['method']}`, as {d['format']} (`{d['file']}`, float32). It is the target network alone:"
        f" the backbone and the head of these classes. Configuration `{d['config']}`, study `{d['study']}`."
    )


def _begins_random(winner: Winner) -> bool:
    there = winner.run.environment.exists()
    return begins_random(winner.spec["weights"], read_json(winner.run.environment) if there else {})


def _use(d: Mapping[str, Any]) -> str:
    names = ", ".join(f"`{name}`" for name in d["classes"][:CLASSES_SHOWN])
    more = " ... (all in `model.json`)" if len(d["classes"]) > CLASSES_SHOWN else ""
    if "preprocessing" not in d:
        return _use_of_texts(d, names + more)
    p = d["preprocessing"]
    return (
        "```\ncotuning-tune predict FOLDER_OF_THIS_FILE FOLDER_OF_IMAGES --out classes.csv\n```\n\n"
        f"Input `images`: uint8 {_shape(d['input'])}, RGB. Output `logits`: float32 {_shape(d['output'])}; their"
        f" softmax are the probabilities. An image file is decoded by Pillow to RGB, resized to {p['resize']} x"
        f" {p['resize']} pixels (bilinear, aspect lost), and its middle {p['crop']} x {p['crop']} is cut out. The"
        f" model subtracts {_listed(p['mean'])} and divides by {_listed(p['std'])} itself.\n\n"
        f"Classes, in order: {names}{more}"
    )


def _use_of_texts(d: Mapping[str, Any], names: str) -> str:
    given = (
        "the class of a text is that of its first token" if d["whole"] else "a word's tag is that of its first token"
    )
    return (
        "```\ncotuning-tune predict FOLDER_OF_THIS_FILE FILE_OF_SENTENCES\n```\n\n"
        "or `transformers.AutoModelForTokenClassification.from_pretrained(FOLDER_OF_THIS_FILE)`, and"
        f' `pipeline("ner", ...)`: {given}. Longer sentences than {d["max_length"]} tokens are split.\n\n'
        f"Classes, in order: {names}"
    )


def _shape(tensor: Mapping[str, Any]) -> str:
    return "[" + ", ".join(map(str, tensor["shape"])) + "]"


def _listed(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _data(winner: Winner, d: Mapping[str, Any], facts: Facts) -> str:
    noun = winner.study.examples
    return (
        f"Data set `{d['data_format'] or d['task']}` (task `{d['task']}`), {100 * d['rate']:g} % of its labels:"
        f" {facts.training} training {noun}, {facts.validation} validation {noun}, and {winner.result['test_count']}"
        f" test {noun}."
    )


def _choice(winner: Winner) -> str:
    study, asked = winner.study, read_tables(winner.run)["experiment"]
    selection, metric = study.selection or {}, study.metric
    seed = "named by whoever exported it" if winner.seed_named else "the lowest that came to an end"
    return (
        f"The search: a budget of {study.budget} trials, {study.count('COMPLETE')} complete, {study.count('PRUNED')}"
        f" pruned, {study.count('FAIL')} failed; {study.search_epochs} epochs in all; sampler"
        f" {asked.get('sampler', 'tpe')}, early stopping {asked.get('pruner', 'none')}. Chosen was trial"
        f" {selection['trial']} with a validation {metric.shown} of"
        f" {metric.text(selection['val_score'])}{metric.unit} (rule: {selection['rule']}); it was retrained with"
        f" {len(study.seeds)} seed(s). Exported is seed {winner.seed}: {seed}. Neither the configuration nor the seed"
        " was chosen by the test split."
    )


def _tested(winner: Winner) -> str:
    metric = winner.study.metric
    beside = [name for name in BESIDE if name != metric.name and f"test_{name}" in winner.result]
    rows = [_seed_row(seed, metric, beside, seed["seed"] == winner.seed) for seed in winner.seeds]
    done = [seed for seed in winner.seeds if seed["state"] == "COMPLETE"]
    means = [mean_std([s[key] for s in done if s[key] is not None], metric) for key in ("val_score", "test_score")]
    rows.append(["mean ± sample std", *means, *["" for _ in beside], ""])
    header = ["seed", f"validation {metric.label}", f"test {metric.label}"]
    header += [f"test {BESIDE[name]}" for name in beside] + [f"test {winner.study.examples}"]
    crops = {"ten": "; tested on ten crops", "centre": "; tested on the centre crop"}.get(
        winner.result["test_crops"], ""
    )
    told = f"{metric.long[:1].upper()}{metric.long[1:]}{crops}. {_flattery(winner)}"
    return f"{Table('seeds', 'Test', header, rows).markdown()}\n\n{told}"


def _flattery(winner: Winner) -> str:
    """What the validation score is worth."""
    if winner.spec["task_config"].get("train_on") == "trainval":
        noun = winner.study.examples
        return f"It was trained on every label: the validation {noun} are among its training {noun}."
    chose = "the configuration and the epoch of each seed" if winner.spec["train"].get("epoch") == "best" else ""
    return f"The validation score chose {chose or 'the configuration'}, so it is too high a guess."


def _seed_row(seed: Mapping[str, Any], metric: Metric, beside: list[str], exported: bool) -> list[str]:
    name = f"{seed['seed']} (this model)" if exported else str(seed["seed"])
    if seed["state"] != "COMPLETE":
        return [name, "failed", *["-" for _ in beside], "-", "-"]
    scores = ["-" if seed.get(key) is None else metric.text(seed[key]) for key in ("val_score", "test_score")]
    others = ["-" if seed.get(f"test_{key}") is None else f"{seed[f'test_{key}']:.2f}" for key in beside]
    return [name, *scores, *others, str(seed["test_count"])]


def _hyper_parameters(winner: Winner) -> str:
    spec, searched = winner.spec, (winner.study.selection or {})["values"]
    own = {f"{spec['method']}/{key}": value for key, value in spec["method_config"].items()}
    rows = [
        [key, f"{value:.6g}" if isinstance(value, float) else str(value), "yes" if key in searched else ""]
        for key, value in {**spec["train"], **own}.items()
    ]
    return Table("hyper", "Hyper-parameters", ["hyper-parameter", "value", "searched"], rows).markdown()


def _licences(winner: Winner, facts: Facts) -> str:
    spec = winner.spec
    if _begins_random(winner):
        weights = "There are no pre-trained weights in it: training began at random ones."
    elif spec["weights"] and not facts.licence:
        weights = "It was trained from weights of a file, whose licence this program does not know."
    else:
        named = facts.licence or "not known to this program; ask their owners"
        weights = f"Licence of the pre-trained weights of {spec['backbone']} that it was trained from: {named}."
    return f"{weights} What the training data allow is up to their owners: look at the terms of the data set."


def warnings(winner: Winner, description: Mapping[str, Any], facts: Facts) -> list[str]:
    """What a user of the model must know, most important first."""
    makers: tuple[Callable[[Winner], list[str]], ...] = (_of_seeds, _of_test_evaluations, _of_choice, _of_precision)
    found = [line for maker in makers for line in maker(winner)]
    if winner.result["test_crops"] == "ten":
        found.append("The test scores are of ten crops of each image; `predict` looks at the centre crop alone.")
    if not facts.from_files:
        found.append(
            f"The images of `{description['data_format']}` are no image files: the data set's reader prepared them"
            f" ({_options(winner)}). Files must look as those do; resized by Pillow they differ from them by"
            " a grey level here and there, which can change the class of an image near a tie."
        )
    return [
        *found,
        f"Checked at export: {facts.checked}.",
        "It always answers with one of its classes, also where none of them is right; how far its probabilities can"
        " be trusted was not measured.",
        f"It was tested on the test split of `{description['task']}` alone: not on {winner.study.examples} of other"
        " sources or later times, not on damaged or altered ones, and not for groups of people or things apart.",
    ]


def _options(winner: Winner) -> str:
    """How the data set was read, without where it lay."""
    options = {k: v for k, v in winner.spec["data_options"].items() if k not in ("root", "download")}
    return ", ".join(f"{key} = {value}" for key, value in options.items()) or "no options"


def _of_seeds(winner: Winner) -> list[str]:
    done = [seed for seed in winner.seeds if seed["state"] == "COMPLETE"]
    failed = len(winner.seeds) - len(done)
    found = [f"One seed of {len(done)}: the table shows how far others of the same configuration came."]
    if len(done) == 1:
        found = ["There is one seed alone: how much the result depends on it is not known."]
    else:
        mean, better = statistics.mean(s["test_score"] for s in done), winner.study.metric.oriented
        if better(winner.result["test_score"]) > better(mean):
            found.append("This seed's test score is better than the mean of the seeds: expect the mean.")
    return found + ([f"{failed} seed(s) of this configuration failed."] if failed else [])


def _of_test_evaluations(winner: Winner) -> list[str]:
    evaluations = [entry for entry in ledger.read(winner.run.ledger) if entry.get("event") == "test_evaluation"]
    own = sum(entry.get("study") == winner.study.name for entry in evaluations)
    task = sum(entry.get("task") == winner.study.task for entry in evaluations)
    found = [
        f"The test split of `{winner.study.task}` had {task} test evaluations in this run, {own} of them for the"
        f" {len(winner.seeds)} seed(s) of this study."
    ]
    if ledger.broken_lines(winner.run.ledger) or ledger.altered_lines(winner.run.ledger):
        found.append("WARNING: the ledger of these test evaluations has been altered: do not trust the count.")
    return found


def _of_choice(winner: Winner) -> list[str]:
    selection = winner.study.selection or {}
    found = []
    if selection["state"] != "COMPLETE":
        found.append("No trial of the search ran to its end: the configuration was chosen among stopped ones.")
    if winner.study.finished < winner.study.budget:
        found.append(f"The search has finished {winner.study.finished} of {winner.study.budget} trials.")
    return found


def _of_precision(winner: Winner) -> list[str]:
    precision = winner.spec["train"].get("precision", "auto")
    gpus = read_json(winner.run.environment).get("gpus") if winner.run.environment.exists() else []
    if precision == "auto" and gpus:
        precision = "bf16"
    if name := {"bf16": "bfloat16", "fp16": "float16"}.get(precision):
        return [f"It was trained in {name}; tests and this model compute in float32: an image near a tie may change."]
    return []
