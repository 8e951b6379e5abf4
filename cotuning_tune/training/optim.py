"""The optimiser and its schedule: SGD with Nesterov momentum, as published."""

import math

import torch
from torch import nn

from cotuning_tune.methods import Method
from cotuning_tune.models import TransferModel
from cotuning_tune.training.config import OptimConfig


def make_optimiser(config: OptimConfig, model: TransferModel, method: Method) -> torch.optim.SGD:
    """Groups: backbone, source head and the method's own weights at ``lr``, the new head at its multiple."""
    decay = 0.0 if method.replaces_weight_decay else config.weight_decay
    head_lr = config.lr * config.head_lr_factor
    pairs = [
        (list(model.backbone.parameters()), config.lr),
        (list(model.source_head.parameters()), config.lr),
        (list(model.head.parameters()), head_lr),
        (list(method.parameters()), config.lr),
    ]
    groups = [
        {"params": trained, "lr": lr, "base_lr": lr}
        for parameters, lr in pairs
        if (trained := [p for p in parameters if p.requires_grad])
    ]
    return torch.optim.SGD(
        groups,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=decay,
    )


def factor(schedule: str, step: int, steps: int) -> float:
    """What the learning rates are multiplied by at step ``step`` of ``steps`` (from 0)."""
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * step / steps))
    return 0.1 if 3 * step >= 2 * steps else 1.0


def set_learning_rate(optimiser: torch.optim.Optimizer, multiple: float) -> None:
    """Set every group to its base learning rate times ``multiple``."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * multiple


def freeze_statistics(model: nn.Module) -> None:
    """Put BatchNorm layers into evaluation mode: their weights learn, their statistics do not move."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
