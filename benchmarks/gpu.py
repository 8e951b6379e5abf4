"""One GPU: a trial's steps against a bare loop on a resident batch, and several trials at a time against one.

python benchmarks/gpu.py [--pairs 5] [--seconds 20]      needs a GPU; --tiny: on the CPU, shows that it works

ResNet-50 with random weights, 224 px, batch 48, images made up and held in memory. The bare loop is what one writes
without this project: bf16 autocast, channels_last, torch's SGD, one batch that never changes.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from typing import Any

import torch
from pairs import Comparison, compare, keep
from torch import nn
from torch.nn.functional import cross_entropy

from cotuning_tune.data import Task, TaskConfig
from cotuning_tune.models import pretrained
from cotuning_tune.plan.probe import RandomImages
from cotuning_tune.training import Trainer, TrainingSpec
from cotuning_tune.training.job import make_trainer

GPU = torch.cuda.is_available()
STEPS = 20


def trainer_of(backbone: str, side: int, batch: int) -> Trainer:
    """Plain fine-tuning as a trial does it, ``STEPS`` steps an epoch."""
    config = TaskConfig(size=side, resize=side + side // 7, val_fraction=0.2)
    task = Task("made_up", RandomImages(10, 8 * batch, config.resize), 1.0, config)
    train = {"batch_size": batch, "iterations": 10_000_000, "interval": STEPS, "optim/lr": 1e-4}
    spec = TrainingSpec(
        task="synthetic", rate=1.0, method="fine_tune", backbone=backbone, weights="random", seed=0, train=train
    )
    return make_trainer(spec, setup=False, task=task)


class Bare:
    """The loop without the project: one batch, over and over."""

    def __init__(self, backbone: str, side: int, batch: int) -> None:
        device = torch.device("cuda" if GPU else "cpu")
        source = pretrained(backbone, "random")
        head = nn.Linear(source.source_head.in_features, 10)
        self.network = nn.Sequential(*source.backbone.chain, head).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images = torch.randn(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 10, (batch,), device=device)
        self.optimiser = torch.optim.SGD(self.network.parameters(), 1e-4, momentum=0.9, nesterov=True, fused=GPU)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=GPU)

    def __call__(self) -> None:
        self.network.train()
        for _ in range(STEPS):
            self.optimiser.zero_grad(set_to_none=True)
            with self.autocast:
                loss = cross_entropy(self.network(self.images), self.labels)
            loss.backward()
            self.optimiser.step()


def _work(shape: tuple[str, int, int], seconds: float, ready: Any, counts: Any) -> None:
    """A process that trains for so long after all are ready; how many epochs of ``STEPS`` steps."""
    trainer = trainer_of(*shape)
    trainer.train_epoch()
    ready.wait()
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        trainer.train_epoch()
        done += 1
    counts.put(done)


def together(shape: tuple[str, int, int], count: int, seconds: float) -> float:
    """Steps a second of so many trials in processes of their own, together."""
    context = multiprocessing.get_context("spawn")
    ready, counts = context.Barrier(count), context.Queue()
    workers = [context.Process(target=_work, args=(shape, seconds, ready, counts)) for _ in range(count)]
    for worker in workers:
        worker.start()
    found = sum(counts.get() for _ in workers)
    for worker in workers:
        worker.join()
    return STEPS * found / seconds


def packed(shape: tuple[str, int, int], pairs: int, seconds: float) -> list[Comparison]:
    """2, 3 and 4 trials at a time against one: seconds a step, all together."""
    found = []
    for count in (2, 3, 4):
        rates = [(together(shape, count, seconds), together(shape, 1, seconds)) for _ in range(pairs)]
        ratios = [one / many for many, one in rates]
        many, one = (1 / statistics.median(side) for side in zip(*rates, strict=True))
        spread = statistics.median(ratios), min(ratios), max(ratios)
        name = f"a step of {count} trials on one GPU / of one"
        found.append(Comparison(name, many, one, *spread, pairs, "at most 0.77"))
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    if not (GPU or options.tiny):
        print("a trial / a bare loop, 2 to 4 trials on one GPU: needs a GPU")
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    shape = ("tiny_cnn", 32, 8) if options.tiny else ("resnet50", 224, 48)
    trainer = trainer_of(*shape)
    alone = compare("a trial / a bare loop", trainer.train_epoch, Bare(*shape), "at most 1.05", options.pairs)
    found = [alone, *packed(shape, options.pairs, options.seconds)]
    if GPU:
        keep("gpu", found)
    else:
        print(*(one.line() for one in found), sep="\n")


if __name__ == "__main__":
    main()
