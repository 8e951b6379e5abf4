"""Fine-tuning with the preset ``timm-finetune`` against the parts of timm that its own training script is made of.

python benchmarks/timm_script.py      the embedded images at 64 px, EfficientNet-Lite0 with its ImageNet weights

timm's side reads a folder of PNG files with its loader (one worker process), mixes in its collate function, groups
the layers and schedules the rates itself, as the script in timm's repository does (which no package holds). Both
sides train on the same images from the same weights, and are tested on the same ones; each seed is trained by one side
and then by the other. Images per second are those of training alone. Two things are not timm's own. Its new head has
weights uniform up to 1 / sqrt(10), 18 times as wide as ours, which so few steps do not train away (test accuracy
42.93 +- 4.05 with them): both sides begin with ours. RandAugment comes without its "inc1", with which it asks Pillow
for an image of no bits.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pairs import Comparison, keep
from PIL import Image
from timm import create_model
from timm.data import FastCollateMixup, create_loader
from timm.data.dataset import ImageDataset
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from cotuning_tune.hyper import read_space
from cotuning_tune.models import pretrained
from cotuning_tune.training import TrainConfig, TrainingSpec, with_preset
from cotuning_tune.training.job import make_trainer, task_of

SEEDS, EPOCHS, BATCH, LR, DECAY, LAYER_DECAY = (0, 1, 2), 5, 24, 1e-3, 0.05, 0.75
HEAD_STD = 0.01  # of TransferModel
SIDE, STORED = 64, 72
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # those of the embedded weights


@dataclass(frozen=True)
class Trained:
    """One training: seconds of its epochs without evaluation, accuracy (%) on the test images."""

    seconds: float
    accuracy: float


def spec_of(seed: int) -> TrainingSpec:
    """Our side: the preset with its ranges pinned, and timm's one rate for all layers but the decay."""
    space = read_space(TrainConfig, with_preset({"preset": "timm-finetune"}), "train")
    pins: dict[str, Any] = {"optim/lr": LR, "optim/weight_decay": DECAY, "optim/layer_decay": LAYER_DECAY}
    pins |= {"optim/head_lr_factor": 1.0, "epochs": EPOCHS, "batch_size": BATCH}
    return TrainingSpec(
        task="fashion_mnist",
        rate=0.6,
        method="fine_tune",
        backbone="efficientnet_lite0",
        seed=seed,
        task_config={"size": SIDE, "resize": STORED, "val_fraction": 0.2},
        train={key: parameter.first for key, parameter in space.items()} | pins,
    )


def ours(seed: int) -> Trained:
    """The product's loop."""
    trainer = make_trainer(spec_of(seed))
    start = time.perf_counter()
    for _ in range(EPOCHS):
        trainer.train_epoch()
    taken = time.perf_counter() - start
    return Trained(taken, trainer.evaluate(trainer.task.open_test()).value)


def timm_model(classes: int) -> nn.Module:
    """timm's EfficientNet-Lite0 with the embedded weights, which both networks hold in the same order."""
    model = create_model("tf_efficientnet_lite0", num_classes=classes)
    source = pretrained("efficientnet_lite0")
    theirs = [key for key in model.state_dict() if not key.startswith("classifier")]
    weights = dict(zip(theirs, source.backbone.chain.state_dict().values(), strict=True))
    model.load_state_dict(weights, strict=False)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model.eval().forward_head(model.forward_features((images - 127) / 128), pre_logits=True)
        wanted = source.backbone.eval()(images.to(torch.uint8))[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    nn.init.normal_(model.classifier.weight, std=HEAD_STD)
    nn.init.zeros_(model.classifier.bias)
    return model


def write_folders(root: Path) -> None:
    """The images that our side trains on and is tested on, as PNG files by class."""
    task = task_of(spec_of(0))
    for name, split in (("train", task.fit), ("test", task.open_test())):
        for place, label in enumerate(split.labels_N.tolist()):
            folder = root / name / f"{label:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.stored([place])[0].permute(1, 2, 0).numpy()).save(folder / f"{place:05d}.png")


def loader_of(root: Path, name: str, classes: int) -> Any:
    """timm's loader for training or evaluation, on the CPU."""
    training = name == "train"
    mix = FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=classes)
    return create_loader(
        ImageDataset(str(root / name)),
        input_size=(3, SIDE, SIDE),
        batch_size=BATCH if training else 64,
        is_training=training,
        auto_augment="rand-m9-mstd0.5" if training else None,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        crop_pct=SIDE / STORED,
        num_workers=1,
        collate_fn=mix if training else None,
        pin_memory=False,
        persistent_workers=True,
        device=torch.device("cpu"),
    )


def theirs(seed: int, root: Path, classes: int) -> Trained:
    """timm's loop, as its script has it."""
    torch.manual_seed(seed)
    model, loader = timm_model(classes), loader_of(root, "train", classes)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=LR, weight_decay=DECAY, layer_decay=LAYER_DECAY)
    updates = EPOCHS * len(loader)
    warmup = round(0.05 * updates)
    scheduler = CosineLRScheduler(
        optimiser, updates, warmup_t=warmup, warmup_lr_init=LR / warmup, warmup_prefix=True, t_in_epochs=False
    )
    loss, update = SoftTargetCrossEntropy(), 0
    scheduler.step_update(0)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        model.train()
        for images, targets in loader:
            optimiser.zero_grad()
            loss(model(images), targets).backward()
            optimiser.step()
            update += 1
            scheduler.step_update(update)
    taken = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        found = [(model(images).argmax(1) == labels) for images, labels in loader_of(root, "test", classes)]
    return Trained(taken, 100 * torch.cat(found).double().mean().item())


def main() -> None:
    torch.set_num_threads(1)
    classes = task_of(spec_of(0)).num_classes
    with tempfile.TemporaryDirectory() as folder:
        write_folders(Path(folder))
        pairs = [(ours(seed), theirs(seed, Path(folder), classes)) for seed in SEEDS]
    (a, spread_a), (b, spread_b) = (
        (statistics.mean(found), statistics.stdev(found))
        for found in ([pair[side].accuracy for pair in pairs] for side in (0, 1))
    )
    ratios = [one.seconds / other.seconds for one, other in pairs]
    note = f"test accuracy {a:.2f} +- {spread_a:.2f} against {b:.2f} +- {spread_b:.2f} over {len(SEEDS)} seeds"
    medians = (statistics.median(pair[side].seconds for pair in pairs) for side in (0, 1))
    name = "training with the preset timm-finetune / timm's own parts"
    median = statistics.median(ratios)
    keep("timm", [Comparison(name, *medians, median, min(ratios), max(ratios), len(ratios), "at most 1", note)])


if __name__ == "__main__":
    main()
