"""One training as a user scripts it: torch, torchvision and scikit-learn, PNG files decoded in every epoch.

python benchmarks/plain_training.py METHOD LR SEED FOLDER [--test]      prints its accuracies as JSON

``fine_tune`` and ``co_tuning`` (You et al., NeurIPS 2020) as the authors' script has them: crops and flips of each
image in turn, the relationship by 17 fits of scikit-learn in every run, a validation after each epoch. Weights, sizes,
schedule and rates are those of ``plain_way.py``'s experiment, the network is torch's own throughout.
"""

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from cotuning_tune.models import pretrained
from cotuning_tune.models._depthwise import DepthwiseConv2d

EPOCHS, BATCH, SIDE, STORED, HEAD, WEIGHT = 8, 24, 64, 72, 10, 2.3
C_VALUES = (1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1, 3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
AUGMENTED = transforms.Compose(
    [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
)
PLAIN = transforms.Compose([transforms.Resize(STORED), transforms.CenterCrop(SIDE), transforms.PILToTensor()])


def loader(folder: Path, split: str, *, training: bool = False) -> DataLoader[Any]:
    images = ImageFolder(str(folder / split), AUGMENTED if training else PLAIN)
    return DataLoader(images, BATCH if training else 64, shuffle=training, drop_last=training)


class Network(nn.Module):
    """The backbone, a new head, and the head that it came with."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        source = pretrained("efficientnet_lite0")
        self.backbone, self.source_head = source.backbone, source.source_head
        for module in self.backbone.modules():
            if type(module) is DepthwiseConv2d:
                module.__class__ = nn.Conv2d
        self.head = nn.Linear(source.source_head.in_features, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone.features(images)
        return self.head(features), self.source_head(features)


@torch.no_grad()
def outputs(network: Network, batches: DataLoader[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of both heads, and the labels."""
    network.eval()
    found = [(*network(images), labels) for images, labels in batches]
    logits, source, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return logits, source, labels


def relationship(network: Network, folder: Path) -> Tensor:
    """p(source class | target class) [T, S]: Algorithm 1 without its calibration."""
    (_, train, labels), (_, val, val_labels) = (outputs(network, loader(folder, split)) for split in ("train", "val"))
    p, q = (np.asarray(logits.double().softmax(1)) for logits in (train, val))
    best, score = None, -math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for c in C_VALUES:
            fit = LogisticRegression(C=c, fit_intercept=False, max_iter=100).fit(p, labels.numpy())
            if (found := fit.score(q, val_labels.numpy())) > score:
                best, score = fit, found
    assert best is not None
    given_source = torch.from_numpy(best.coef_.T).softmax(1)
    joint = given_source.T * torch.from_numpy(np.concatenate([p, q]).mean(0))
    return (joint / joint.sum(1, keepdim=True)).float()


def accuracy(network: Network, batches: DataLoader[Any]) -> float:
    logits, _, labels = outputs(network, batches)
    return 100 * (logits.argmax(1) == labels).double().mean().item()


def train(method: str, lr: float, seed: int, folder: Path, *, test: bool = False) -> dict[str, float]:
    """Train a configuration; the validation accuracy after its last epoch, and the test accuracy where it is asked."""
    torch.manual_seed(seed)
    batches = loader(folder, "train", training=True)
    network = Network(len(batches.dataset.classes)).to(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    known = relationship(network, folder) if method == "co_tuning" else None
    groups: list[dict[str, Any]] = [{"params": network.backbone.parameters(), "lr": lr}]
    groups.append({"params": network.head.parameters(), "lr": HEAD * lr})
    if known is not None:
        groups.append({"params": network.source_head.parameters(), "lr": lr})
    optimiser = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [round(EPOCHS * 2 / 3)], gamma=0.1)
    for _ in range(EPOCHS):
        network.train()
        for images, labels in batches:
            optimiser.zero_grad()
            logits, source = network(images)
            loss = cross_entropy(logits, labels)
            if known is not None:
                loss = loss - WEIGHT * (known[labels] * log_softmax(source, 1)).sum(1).mean()
            loss.backward()
            optimiser.step()
        schedule.step()
        val = accuracy(network, loader(folder, "val"))
    return {"val": val, **({"test": accuracy(network, loader(folder, "test"))} if test else {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=("fine_tune", "co_tuning"))
    parser.add_argument("lr", type=float)
    parser.add_argument("seed", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(train(options.method, options.lr, options.seed, options.folder, test=options.test)))


if __name__ == "__main__":
    main()
