"""The export of a model that reads texts: a folder that transformers loads by itself, and tagging with it.

``AutoModelForTokenClassification.from_pretrained`` takes it, and ``pipeline("ner")``. A model that gives a whole text
one class gives it at the text's first token.
Shapes: R rows of L sub-words, M of them with a class, T target classes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_bytes, write_json
from cotuning_tune.data import data_set
from cotuning_tune.data.text._columns import text_lines
from cotuning_tune.data.text._text_set import TextSet
from cotuning_tune.data.text._tokens import TokenExamples, Tokens
from cotuning_tune.export import EVERY
from cotuning_tune.export.bundle import VERSION, Bundle, digest
from cotuning_tune.export.card import Facts, card
from cotuning_tune.export.chosen import Winner
from cotuning_tune.export.torch_model import read_safetensors
from cotuning_tune.export.write import Check, check_folder, evaluated, versions
from cotuning_tune.models import licence_of
from cotuning_tune.models.text._encoder import Tokenizer
from cotuning_tune.models.text.transformers_models import transformers
from cotuning_tune.runs.snapshot import check as check_data
from cotuning_tune.training import Trainer, TrainingSpec
from cotuning_tune.training.job import forget_tasks, task_of, words_for

FORMAT = "transformers"
CHECKED, BATCH = 256, 32


def _made(reference: Trainer) -> Any:
    """The retrained network as one of transformers."""
    network, names = reference.network, list(map(str, reference.task.class_names))
    if not isinstance(network.head, nn.Linear):
        raise UserError(f"{reference.method.name} has no head of its own that transformers could load")
    encoder: Any = network.backbone.chain[0]
    config = encoder.config.__class__.from_dict(encoder.config.to_dict())
    config.id2label, config.label2id = dict(enumerate(names)), {name: number for number, name in enumerate(names)}
    model = transformers().AutoModelForTokenClassification.from_config(config)
    model.base_model.load_state_dict(encoder.state_dict())
    head = getattr(model, "classifier", None)
    if not isinstance(head, nn.Linear):
        raise UserError(f"transformers gives {type(model).__name__} another head than a linear one")
    head.load_state_dict(network.head.state_dict())
    return model.eval()


@torch.no_grad()
def _logits(model: Any, rows_R3L: Tensor) -> Tensor:
    """Logits of the sub-words that carry a class, [M, T]."""
    ids_RL, mask_RL, active_RL = rows_R3L.unbind(1)
    found: Tensor = model(input_ids=ids_RL, attention_mask=mask_RL).logits
    return found[active_RL > 0]


@torch.no_grad()
def _compared(reference: Trainer, model: Any) -> Check:
    """The evaluated network against the one that was read back, on validation texts."""
    task, texts, largest, other = reference.task, 0, 0.0, 0
    for start in range(0, min(CHECKED, len(task.val)), BATCH):
        places = range(start, min(start + BATCH, CHECKED, len(task.val)))
        rows = task.views.plain(task.val.stored(places), torch.device("cpu"))[0]
        expected_MT, found_MT = reference.network(rows).logits, _logits(model, rows)
        texts += len(places)
        largest = max(largest, float((expected_MT - found_MT).abs().max()))
        other += int((expected_MT.argmax(1) != found_MT.argmax(1)).sum())
    return Check(texts, largest, other, task.noun)


def export_text(winner: Winner, bundle: Bundle) -> Check:
    """Write the folder: model, tokenizer, model card, and last ``model.json``.

    Raises UserError, before anything is written into a folder of other things, where the texts are missing or are not
    those of the run, or the model that was read back gives another class.
    """
    spec = TrainingSpec.from_json(winner.spec)
    words = words_for(spec)
    assert isinstance(words, Tokenizer)
    own = {"config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"}
    check_folder(bundle, winner, FORMAT, own | {"vocab.json", "merges.txt", "added_tokens.json"})
    forget_tasks()
    task = task_of(spec)
    check_data(winner.run, spec.task, dataclasses.replace(task.snapshot(), decoder=None))
    reference = evaluated(spec, read_safetensors(winner.folder.model.read_bytes()))
    folder = Path(bundle.path)
    bundle.description.unlink(missing_ok=True)
    _made(reference).save_pretrained(folder)
    words.tokenizer.save_pretrained(folder)
    check = _compared(reference, transformers().AutoModelForTokenClassification.from_pretrained(folder).eval())
    if check.other_class:
        raise UserError(f"not exported: the model that was read back gives {check.other_class} words another class")
    description = _description(winner, reference, bundle, check)
    facts = Facts(len(task.fit), len(task.val), True, licence_of(spec.backbone, spec.weights), check.line)
    write_bytes(bundle.card, card(winner, description, facts).encode())
    write_json(bundle.description, description)
    return check


def _description(winner: Winner, reference: Trainer, bundle: Bundle, check: Check) -> dict[str, Any]:
    spec, task = winner.spec, reference.task
    return {
        "version": VERSION,
        "format": FORMAT,
        "file": EVERY[FORMAT],
        "sha256": digest(bundle.model(FORMAT).read_bytes()),
        **{"run": winner.run.name, "study": winner.study.name, "seed": winner.seed, "config": winner.result["config"]},
        **{key: spec[key] for key in ("task", "rate", "method", "backbone")},
        "data_format": spec["format"],
        "classes": list(map(str, task.class_names)),
        "consists_of": task.noun,
        "whole": cast(type[TextSet], data_set(spec["format"] or spec["task"])).whole,
        "max_length": task.config.max_length,
        "check": {"split": "validation", **dataclasses.asdict(check)},
        "versions": {**versions(), "transformers": transformers().__version__},
    }


def tagged(bundle: Bundle, file: Path) -> Iterator[list[str]]:
    """The lines of the answer for a text file with a sentence a line: word and tag, an empty line after each sentence;
    of whole texts class, its probability and the text, below a header. Raises UserError."""
    description = bundle.read()
    bundle.read_model(description)
    hf, folder = transformers(), Path(bundle.path)
    model = hf.AutoModelForTokenClassification.from_pretrained(folder).eval()
    words = Tokenizer(hf.AutoTokenizer.from_pretrained(folder, add_prefix_space=True))
    sentences = [found for _, line in text_lines(file, "utf-8") if (found := line.split())]
    if not sentences:
        raise UserError(f"{file} holds no text: a sentence a line")
    whole = bool(description["whole"])
    if whole:
        yield ["class", "probability", "text"]
    for start in range(0, len(sentences), BATCH):
        part = sentences[start : start + BATCH]
        probabilities_MT = _told(model, words, part, description["max_length"], whole=whole)
        sure, labels = (found.tolist() for found in probabilities_MT.max(1))
        classes = [description["classes"][label] for label in labels]
        if whole:
            yield from ([c, f"{p:.6f}", " ".join(s)] for c, p, s in zip(classes, sure, part, strict=True))
            continue
        given = iter(classes)
        for sentence in part:
            yield from ([word, next(given)] for word in sentence)
            yield []


def _told(model: Any, words: Tokenizer, part: Sequence[Sequence[str]], max_length: int, *, whole: bool) -> Tensor:
    tokens = Tokens.made(part, words, max_length, whole=whole)
    examples = TokenExamples(tokens, torch.zeros(int(tokens.active_W.sum())).numpy(), "", [], words.pad)
    return _logits(model, examples.take(range(len(part)))).softmax(1)
