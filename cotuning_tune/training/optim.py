"""The optimiser and its schedule: SGD with Nesterov momentum, as published, or AdamW."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cotuning_tune.methods import Method
from cotuning_tune.models import Backbone, TransferModel
from cotuning_tune.training.config import OptimConfig

EFFECTIVE_BETA = 0.999


def make_optimiser(config: OptimConfig, model: TransferModel, method: Method) -> torch.optim.Optimizer:
    """Groups: the backbone (each of its layers, where the rate decays), source head and the method's own weights at
    ``lr``, the new head at its multiple; norms and biases apart where they do not decay."""
    decay = 0.0 if method.replaces_weight_decay else config.weight_decay
    pairs = [
        *_backbone_rates(config, model),
        (list(model.source_head.parameters()), config.lr),
        (list(model.head.parameters()), config.lr * config.head_lr_factor),
        (list(method.parameters()), config.lr),
    ]
    groups = [
        {"params": part, "lr": lr, "base_lr": lr, **({} if decays else {"weight_decay": 0.0})}
        for parameters, lr in pairs
        for decays, part in _by_decay(config, [p for p in parameters if p.requires_grad])
        if part
    ]
    if config.name == "adamw":
        first, second = config.betas
        return torch.optim.AdamW(groups, lr=config.lr, betas=(first, second), weight_decay=decay)
    return torch.optim.SGD(
        groups,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=decay,
    )


def _backbone_rates(config: OptimConfig, model: TransferModel) -> Iterable[tuple[list[nn.Parameter], float]]:
    if config.layer_decay == 1:
        return [(list(model.backbone.parameters()), config.lr)]
    layers = model.backbone.layers
    return [(own, config.lr * config.layer_decay ** (len(layers) - 1 - depth)) for depth, own in enumerate(layers)]


def _by_decay(config: OptimConfig, parameters: list[nn.Parameter]) -> list[tuple[bool, list[nn.Parameter]]]:
    """Those with weight decay and those without."""
    if config.decay_all:
        return [(True, parameters)]
    return [(True, [p for p in parameters if p.ndim > 1]), (False, [p for p in parameters if p.ndim <= 1])]


def factor(schedule: str, step: int, steps: int, warmup: float = 0.0) -> float:
    """What the learning rates are multiplied by at step ``step`` of ``steps`` (from 0).

    They rise in a line over the first ``warmup`` of the steps; the schedule covers those that follow.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    step, steps = step - rising, steps - rising
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * step / steps))
    if schedule == "linear":
        return 1.0 - step / steps
    if schedule == "constant":
        return 1.0
    return 0.1 if 3 * step >= 2 * steps else 1.0


def set_learning_rate(optimiser: torch.optim.Optimizer, multiple: float) -> None:
    """Set every group to its base learning rate times ``multiple``."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * multiple


def freeze_layers(backbone: Backbone, share: float) -> nn.ModuleList:
    """Keep that share of a backbone's layers, from the input on, as they are; the modules that stand still then."""
    layers = backbone.layers if share else []
    kept = {id(parameter) for own in layers[: round(share * len(layers))] for parameter in own}
    for parameter in backbone.parameters():
        if id(parameter) in kept:
            parameter.requires_grad_(False)
    norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return nn.ModuleList(norm for norm in norms if any(id(parameter) in kept for parameter in norm.parameters()))


def averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of a model's weights, to be updated after each step; its buffers are the model's.

    None without a decay.
    """
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None


def class_weights(kind: str, labels_N: Tensor, num_classes: int) -> Tensor | None:
    """Weights [T] of the cross-entropy, their mean over the examples 1; None for ``none``.

    ``balanced``: the inverse of the number of examples, as in scikit-learn; ``effective``: of the effective number of
    examples, beta = 0.999 (Cui et al., CVPR 2019). A class without an example has the weight 0.
    """
    if kind == "none":
        return None
    counts_T = torch.bincount(labels_N, minlength=num_classes).double()
    numbers_T = counts_T if kind == "balanced" else (1 - EFFECTIVE_BETA**counts_T) / (1 - EFFECTIVE_BETA)
    weights_T = torch.where(counts_T > 0, 1 / numbers_T, 0.0)
    return (weights_T * len(labels_N) / (weights_T * counts_T).sum()).float()


def freeze_statistics(model: nn.Module) -> None:
    """Put BatchNorm layers into evaluation mode: their weights learn, their statistics do not move."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
