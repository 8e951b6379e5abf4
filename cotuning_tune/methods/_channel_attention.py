"""DELTA's channel attention: how much the loss rises when a channel of the source network is zeroed.

Li et al., ICLR 2019, section 3.2: with only a new head trained, the filter of each tapped channel is
zeroed in turn; attention = softmax(zscore(rise of the loss) / 5) over the channels of a layer. Where a
layer is a block and no convolution it has no filters: there the rise is taken to first order, from one
backward pass for all channels (Molchanov et al., *Importance Estimation for Neural Network Pruning*, CVPR 2019).
Shapes: N images of the training split, M of them looked at, C channels, D features, T classes.
"""

import torch
from torch import Tensor, nn

from cotuning_tune.methods._base import Preparation
from cotuning_tune.models import Backbone

IMAGES = 64
GROUP = 256
AT_ONCE = 16
HEAD_STEPS = 100


def attention_of(importance_C: Tensor) -> Tensor:
    """``softmax(zscore(importance) / 5)`` [C]; uniform where all channels matter alike."""
    deviation = importance_C.std(unbiased=False)
    centred = importance_C - importance_C.mean()
    return torch.softmax(centred / deviation.clamp_min(1e-12) / 5.0, dim=0)


def train_head(features_ND: Tensor, labels_N: Tensor, num_classes: int) -> nn.Linear:
    """A linear head on frozen features, by ``HEAD_STEPS`` full-batch steps from zero (deterministic)."""
    head = nn.Linear(features_ND.shape[1], num_classes).to(features_ND)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=HEAD_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        penalty = 5e-4 * head.weight.square().sum()
        value = nn.functional.cross_entropy(head(features_ND), labels_N) + penalty
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[arg-type]
    return head.requires_grad_(False)


def _evenly(labels_N: Tensor, count: int) -> list[int]:
    """Places of at most ``count`` images, the classes in turn."""
    places: list[list[int]] = [torch.nonzero(labels_N == c).flatten().tolist() for c in labels_N.unique()]
    order = [group[depth] for depth in range(max(map(len, places))) for group in places if depth < len(group)]
    return sorted(order[:count])


class _Zeroed:
    """A forward hook that zeroes a channel for each block of images: block g loses channel first + g."""

    def __init__(self, images: int) -> None:
        self.images, self.first = images, 0

    def __call__(self, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        blocks = output.view(-1, self.images, *output.shape[1:])
        channels = torch.arange(self.first, self.first + len(blocks), device=output.device)
        mask = nn.functional.one_hot(channels, output.shape[1]).to(output.dtype)
        return (blocks * (1 - mask)[:, None, :, None, None]).view_as(output)


def _losses_without(backbone: Backbone, stage: str, before: Tensor, head: nn.Linear, labels_M: Tensor) -> Tensor:
    """The summed loss [C] with each channel of a stage zeroed; ``before``: the input of the stage's link."""
    position, channels, images = backbone.tap_position(stage), backbone.taps[stage].channels, len(before)
    at_once = max(1, GROUP // images)
    hook = _Zeroed(images)
    handle = backbone.tap(stage).register_forward_hook(hook)
    losses: list[Tensor] = []
    try:
        for first in range(0, channels, at_once):
            count = min(at_once, channels - first)
            hook.first = first
            repeated = before.repeat(count, 1, 1, 1).contiguous(memory_format=torch.channels_last)
            features = backbone.run(repeated, position, len(backbone.chain))
            each = nn.functional.cross_entropy(head(features), labels_M.repeat(count), reduction="none")
            losses.append(each.view(count, images).sum(1))
    finally:
        handle.remove()
    return torch.cat(losses)


def _one_pass(preparation: Preparation, backbone: Backbone, chosen: list[int]) -> tuple[Tensor, Tensor]:
    """Features [N, D] of the whole training split, and of its images the chosen ones [M, 3, C, C] alone."""
    features: list[Tensor] = []
    kept: list[Tensor] = []
    first = 0
    for images, _ in preparation.batches(preparation.task.train):
        features.append(backbone(images)[0])
        # A clone, for a view would keep its whole batch in memory.
        kept += [images[place - first].clone() for place in chosen if 0 <= place - first < len(images)]
        first += len(images)
    return torch.cat(features), torch.stack(kept).contiguous(memory_format=torch.channels_last)


def _by_zeroing(
    backbone: Backbone, stages: list[str], images_M: Tensor, head: nn.Linear, labels_M: Tensor
) -> dict[str, Tensor]:
    """The mean loss [C] by stage, each convolution's channels zeroed in turn: a z-score needs no more than that.

    Each stage starts from the activations before its own link, kept from one pass, and the images of
    several channels go through the rest of the network together; of many images ``GROUP`` at a time.
    """
    losses = {stage: torch.zeros(backbone.taps[stage].channels, device=images_M.device) for stage in stages}
    for images, labels in zip(images_M.split(GROUP), labels_M.split(GROUP), strict=True):
        x, reached = backbone.normalised(images), 0
        for stage in stages:
            position = backbone.tap_position(stage)
            x, reached = backbone.run(x, reached, position), position
            losses[stage] += _losses_without(backbone, stage, x, head, labels) / len(labels_M)
    return losses


def by_first_order(
    backbone: Backbone, stages: list[str], images_M: Tensor, head: nn.Linear, labels_M: Tensor
) -> dict[str, Tensor]:
    """The rise of the mean loss [C] by stage to first order: minus the sum of activation times gradient."""
    outputs: dict[str, Tensor] = {}
    rises = {stage: torch.zeros(backbone.taps[stage].channels, device=images_M.device) for stage in stages}
    handles = [backbone.tap(s).register_forward_hook(lambda _m, _i, o, s=s: outputs.update({s: o})) for s in stages]
    try:
        for images, labels in zip(images_M.split(AT_ONCE), labels_M.split(AT_ONCE), strict=True):
            with torch.enable_grad():
                loss = nn.functional.cross_entropy(head(backbone(images)[0]), labels, reduction="sum")
                slopes = torch.autograd.grad(loss / len(labels_M), [outputs[stage] for stage in stages])
            for stage, slope in zip(stages, slopes, strict=True):
                rise = (outputs[stage].detach() * slope).movedim(backbone.taps[stage].channel_axis, -1)
                rises[stage] -= rise.flatten(0, -2).sum(0)
    finally:
        for handle in handles:
            handle.remove()
    return rises


@torch.no_grad()
def channel_attention(preparation: Preparation) -> dict[str, Tensor]:
    """Attention [C] for each stage, from ``IMAGES`` training images, or one of each class where these are more."""
    backbone, _ = preparation.source_copy()
    chosen = _evenly(preparation.task.train.labels_N, max(IMAGES, preparation.task.num_classes))
    features_ND, images_M = _one_pass(preparation, backbone, chosen)
    labels_N = preparation.task.train.labels_N.to(features_ND.device)
    head, labels_M = train_head(features_ND, labels_N, preparation.task.num_classes), labels_N[chosen]
    filters = [stage for stage in backbone.taps if isinstance(backbone.tap(stage), nn.Conv2d)]
    blocks = [stage for stage in backbone.taps if stage not in filters]
    rises = _by_zeroing(backbone, filters, images_M, head, labels_M) if filters else {}
    rises |= by_first_order(backbone, blocks, images_M, head, labels_M) if blocks else {}
    return {stage: attention_of(rises[stage]) for stage in backbone.taps}
