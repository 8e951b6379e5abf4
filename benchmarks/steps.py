"""Training steps: each method against plain fine-tuning; the loader against a resident batch; BSS against SVD.

python benchmarks/steps.py            on the embedded default (CPU), or ResNet-50 at 224 px on a GPU
"""

import torch
from pairs import Comparison, compare, keep

from cotuning_tune import methods
from cotuning_tune.methods.bss import shrinkage
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.job import make_trainer
from cotuning_tune.training.trainer import Trainer

GPU = torch.cuda.is_available()
BACKBONE = ("resnet50", "random") if GPU else ("efficientnet_lite0", "")
SIDE, BATCH, STEPS = (224, 48, 10) if GPU else (64, 24, 2)
TARGETS = dict.fromkeys(("bi_tuning", "delta", "lwf"), "at most 1.4") | {"spd": "at most 1.1"}  # the weights once more


def trainer_of(method: str) -> Trainer:
    """A trainer of that method on the embedded images, without its set-up pass: steps cost the same."""
    spec = TrainingSpec(
        task="fashion_mnist",
        rate=1.0,
        method=method,
        backbone=BACKBONE[0],
        weights=BACKBONE[1],
        seed=0,
        task_config={"size": SIDE, "resize": SIDE + SIDE // 7},
        train={"batch_size": BATCH},
    )
    trainer = make_trainer(spec, setup=False)
    trainer._train_mode()
    return trainer


def steps_of(trainer: Trainer) -> None:
    """Some steps on one resident batch."""
    batch = trainer.load_batch(list(range(BATCH)))
    for _ in range(STEPS):
        trainer.train_step(batch)


def compare_methods() -> list[Comparison]:
    plain = trainer_of("fine_tune")
    found = []
    for name in methods.names():
        if name == "fine_tune" or not methods.method(name).trains:
            continue
        own = trainer_of(name)
        target = TARGETS.get(name, "at most 1.03")
        found.append(compare(f"step of {name} / fine_tune", lambda t=own: steps_of(t), lambda: steps_of(plain), target))
    return found


def compare_loader() -> Comparison:
    """An epoch's share with augmentation of every batch, against the same steps on one resident batch."""
    trainer = trainer_of("fine_tune")
    batch = trainer.load_batch(list(range(BATCH)))

    def real() -> None:
        for start in range(STEPS):
            trainer.train_step(trainer.load_batch(list(range(start, start + BATCH))))

    def resident() -> None:
        for _ in range(STEPS):
            trainer.train_step(batch)

    return compare("steps with the loader / on a resident batch", real, resident, "at most 1.05")


def compare_bss() -> Comparison:
    """The smallest singular value, forward and backward, B = 48, D = 2048."""
    features = torch.randn(48, 2048, device="cuda" if GPU else "cpu", requires_grad=True)

    def ours() -> None:
        for _ in range(10):
            torch.autograd.grad(shrinkage(features, 1), features)

    def whole() -> None:
        for _ in range(10):
            torch.autograd.grad(torch.linalg.svdvals(features)[-1:].square().sum(), features)

    a = torch.autograd.grad(shrinkage(features, 1), features)[0]
    b = torch.autograd.grad(torch.linalg.svdvals(features)[-1:].square().sum(), features)[0]
    difference = f"largest difference of gradients {(a - b).abs().max():.1e}"
    return compare("BSS term / svdvals of the whole", ours, whole, "at most 0.2", note=difference)


def main() -> None:
    torch.set_num_threads(1)
    keep("steps", [*compare_methods(), compare_loader(), compare_bss()])


if __name__ == "__main__":
    main()
