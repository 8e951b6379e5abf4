"""The export: the target network of a study's retrained model as a folder of its own, checked before it is written.

The reference is the network that the test evaluation builds, in float32 on the CPU. What is written is read back
and must give the same class for validation images, decoded and cut as in training. The test split stays shut.
Shapes: N images, B of a batch, S the stored side, C the side the network sees, T target classes.
"""

import dataclasses
import platform
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotuning_tune import __version__, models
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_bytes, write_json
from cotuning_tune.base.pixels import centre_crop
from cotuning_tune.base.versions import installed
from cotuning_tune.data import FileDataSet, Task, data_set
from cotuning_tune.export import EVERY
from cotuning_tune.export.bundle import VERSION, Bundle, Classify, digest
from cotuning_tune.export.card import Facts, card
from cotuning_tune.export.chosen import Winner
from cotuning_tune.export.formats import check_packages, packed
from cotuning_tune.export.predict import open_model
from cotuning_tune.export.torch_model import Classifier, read_safetensors
from cotuning_tune.runs.snapshot import check as check_data
from cotuning_tune.training import Trainer, TrainingSpec
from cotuning_tune.training.job import forget_tasks, make_trainer, task_of

CHECKED = 256
BATCH = 64
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Check:
    """How far the written model is from the evaluated one, on so many validation examples: in logits, in classes."""

    images: int
    largest_difference: float
    other_class: int
    noun: str = "images"

    @property
    def line(self) -> str:
        return (
            f"read back and compared on {self.images} validation {self.noun}: the class is the retrained model's for"
            f" each, logits differ by {self.largest_difference:.2g} at most"
        )


def check_folder(bundle: Bundle, winner: Winner, format_name: str, more: Collection[str] = ()) -> None:
    """UserError unless the folder is new, empty, or an earlier export of the same model in the same format.

    ``more``: files that the format has besides.
    """
    if bundle.path.exists() and not bundle.path.is_dir():
        raise UserError(f"{bundle.path} is a file: name a new folder with --out")
    inside = sorted(item.name for item in bundle.path.iterdir()) if bundle.path.exists() else []
    if not inside:
        return
    own = {EVERY[format_name], bundle.description.name, bundle.card.name, *more}
    strange = [name for name in inside if name not in own or bundle.description.name not in inside]
    if strange:
        raise UserError(f"{bundle.path} holds other things ({strange[0]}): name a new folder with --out")
    found = read_json(bundle.description)
    same = {"run": winner.run.name, "study": winner.study.name, "seed": winner.seed, "format": format_name}
    if any(found.get(key) != value for key, value in same.items()):
        raise UserError(f"{bundle.path} holds the export of another model: name a new folder with --out")


def evaluated(spec: TrainingSpec, weights: dict[str, Tensor]) -> Trainer:
    """The trainer of a spec with the retrained model, on the CPU, as the test evaluation has it.

    The pre-trained weights, which the retrained ones replace, are not needed; nor is the source head.
    """
    trainer = make_trainer(dataclasses.replace(spec, weights="random", source_val=""), torch.device("cpu"), setup=False)
    target = {key: value for key, value in weights.items() if not key.startswith("source_head.")}
    missing, unexpected = trainer.network.load_state_dict(target, strict=False)
    if wrong := [*(key for key in missing if not key.startswith("source_head.")), *unexpected]:
        raise UserError(f"the retrained weights do not fit {spec.backbone} with {spec.method}: see '{wrong[0]}'")
    trainer.network.eval()
    return trainer


def _batches(task: Task) -> Iterator[np.ndarray]:
    """Stored validation images uint8 [B, 3, S, S], at most ``CHECKED`` evenly over the split; the last batch is of one.

    A network that was followed with one size of batch may have kept it: sizes differ here.
    """
    count = min(CHECKED, len(task.val))
    places = [number * len(task.val) // count for number in range(count)]
    parts = [places[start : min(start + BATCH, count - 1)] for start in range(0, count - 1, BATCH)]
    for part in [*parts, places[-1:]]:
        yield task.val.stored(part).numpy()


def compare(reference: Trainer, classify: Classify) -> Check:
    """The evaluated model on torchvision's centre crops against the other one on numpy's."""
    task, images, largest, other = reference.task, 0, 0.0, 0
    for stored_B3SS in _batches(task):
        crops = task.views.plain(torch.from_numpy(stored_B3SS), torch.device("cpu"))[0]
        with torch.no_grad():
            expected_BT = reference.network(crops).logits.numpy()
        found_BT = classify(np.stack([centre_crop(image, task.config.size) for image in stored_B3SS]))
        images += len(stored_B3SS)
        largest = max(largest, float(np.abs(expected_BT - found_BT).max()))
        other += int((expected_BT.argmax(1) != found_BT.argmax(1)).sum())
    return Check(images, largest, other)


def _description(winner: Winner, reference: Trainer, format_name: str, data: bytes, check: Check) -> dict[str, Any]:
    spec, task = winner.spec, reference.task
    mean, std = (getattr(reference.network.backbone, name).flatten().tolist() for name in ("mean", "std"))
    side = task.config.size
    return {
        "version": VERSION,
        "format": format_name,
        "file": EVERY[format_name],
        "sha256": digest(data),
        **{"run": winner.run.name, "study": winner.study.name, "seed": winner.seed, "config": winner.result["config"]},
        **{key: spec[key] for key in ("task", "rate", "method", "backbone")},
        "data_format": spec["format"],
        "classes": list(task.class_names),
        "input": {"name": "images", "dtype": "uint8", "shape": ["batch", 3, side, side], "colours": "RGB"},
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", task.num_classes]},
        "preprocessing": {
            "decode": "Pillow, to RGB",
            **dataclasses.asdict(task.config.decoding),
            "resize": task.config.resize,
            "keeps_aspect": False,
            "interpolation": "Pillow BILINEAR (antialiased)",
            "crop": side,
            "crop_at": "centre",
            "mean": mean,
            "std": std,
            "normalised_by": "the model, from grey levels 0..255",
        },
        "check": {"split": "validation", **dataclasses.asdict(check)},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What the export was made with."""
    return {"cotuning_tune": __version__, "python": platform.python_version(), **installed(PACKAGES)}


def export(winner: Winner, format_name: str, bundle: Bundle) -> Check:
    """Write the folder: model, model card, and last ``model.json``.

    Raises UserError, before anything is written, where the folder holds other things, a package or the images
    are missing or are not those of the run, or the model that was read back gives another class.
    """
    check_packages(format_name)
    check_folder(bundle, winner, format_name)
    spec = TrainingSpec.from_json(winner.spec)
    forget_tasks()
    check_data(winner.run, spec.task, dataclasses.replace(task_of(spec).snapshot(), decoder=None))
    reference = evaluated(spec, read_safetensors(winner.folder.model.read_bytes()))
    network = Classifier(reference.network.backbone, reference.network.head)
    example = reference.task.views.plain(reference.task.val.stored([0, 0]), torch.device("cpu"))[0].contiguous()
    data = packed(network, format_name, example)
    check = compare(reference, open_model(data, {"format": format_name, "backbone": winner.spec["backbone"]}))
    if check.other_class:
        raise UserError(
            f"not exported: as {format_name} the model gives another class for {check.other_class} of {check.images}"
            f" validation images (logits differ by {check.largest_difference:.2g} at most); try another --format"
        )
    description = _description(winner, reference, format_name, data, check)
    bundle.description.unlink(missing_ok=True)
    write_bytes(bundle.model(format_name), data)
    write_bytes(bundle.card, card(winner, description, _facts(winner, reference, check)).encode())
    write_json(bundle.description, description)
    return check


def _facts(winner: Winner, reference: Trainer, check: Check) -> Facts:
    """What the model card tells that the run's files do not."""
    task, spec = reference.task, winner.spec
    return Facts(
        training=len(task.fit),
        validation=len(task.val),
        from_files=issubclass(data_set(spec["format"] or spec["task"]), FileDataSet),
        licence=models.licence_of(spec["backbone"], spec["weights"]),
        checked=check.line,
    )


def default_folder(winner: Winner, format_name: str) -> Path:
    """``export/STUDY-seedN-FORMAT`` in the run."""
    return winner.run.exports / f"{winner.study.name}-seed{winner.seed}-{format_name}"
