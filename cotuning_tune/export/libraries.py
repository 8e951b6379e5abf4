"""The retrained network under the names that timm or torchvision give its tensors: the library alone loads it.

Tensors are matched by their order, the head's last, and must have the same shapes; that the logits are the same is
checked at each export. Shapes: B images of a batch, C the side the network sees, T target classes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError
from cotuning_tune.export import FORMATS, OF_LIBRARIES
from cotuning_tune.models.images import timm_models, torchvision_models
from cotuning_tune.models.images._weights import load_strictly

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2")
RESNEXTS = ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
DENSENETS = ("densenet121", "densenet161", "densenet169", "densenet201")
EFFICIENTNETS = ("efficientnet_b0", "efficientnet_b1")
IN_TIMM = {  # backbones of other libraries that timm computes from the same tensors in the same order
    **{name: name for name in (*RESNETS, *RESNEXTS, *DENSENETS, *EFFICIENTNETS)},
    **{f"efficientnet_lite{size}": f"tf_efficientnet_lite{size}" for size in range(3)},
    "mobilenet_v2": "mobilenetv2_100",
    "mnasnet0_5": "mnasnet_050",
    "mnasnet1_0": "mnasnet_100",
}
NOT_TORCHVISION = ("mnasnet", "maxvit")  # read from a pickle with its version alone; a head without bias
LARGEST_DIFFERENCE = 1e-5  # of logits up to 1, else of the largest


def names_of(backbone: str) -> dict[str, str]:
    """By library what it calls the network of a backbone; the libraries that have none are left out."""
    if backbone.startswith(timm_models.PREFIX):
        return {"timm": backbone.removeprefix(timm_models.PREFIX).partition(".")[0]}
    found = {"timm": IN_TIMM[backbone]} if backbone in IN_TIMM else {}
    if backbone in torchvision_models.names() and not backbone.startswith(NOT_TORCHVISION):
        found["torchvision"] = backbone
    return found


def name_in(library: str, backbone: str, head: nn.Module, method: str) -> str:
    """What the library calls the network. Raises UserError with the formats that are possible where it cannot be."""
    names = names_of(backbone)
    if not isinstance(head, nn.Linear):
        raise UserError(f"--format {library}: {method} has no linear head; possible: {', '.join(FORMATS)}")
    if library not in names:
        possible = ", ".join([*FORMATS, *(name for name in OF_LIBRARIES if name in names)])
        raise UserError(f"--format {library}: {library} has no network with the weights of {backbone}; {possible} can")
    return names[library]


def _made(library: str, name: str, classes: int) -> tuple[nn.Module, str]:
    """The library's network with weights of its own, and where its head stands."""
    if library == "timm":
        network: nn.Module = timm_models._timm().create_model(name, pretrained=False, num_classes=classes)
        return network, timm_models.head_path(network, name)
    from torchvision import models

    network = models.get_model(name, weights=None, num_classes=classes)
    return network, torchvision_models.last_linear(network)


def renamed(weights: Mapping[str, Tensor], library: str, name: str, classes: int) -> dict[str, Tensor]:
    """The weights of a ``Classifier`` under the names of the library's network ``name``. Raises UserError."""
    network, head = _made(library, name, classes)
    expected = network.state_dict()
    keys = sorted(expected, key=lambda key: key.startswith(f"{head}."))  # a stable sort: the head comes last
    own = {key: value for key, value in weights.items() if key not in ("backbone.mean", "backbone.std")}
    for key, (ours, value) in zip(keys, own.items(), strict=False):
        if expected[key].shape != value.shape:
            raise UserError(
                f"--format {library}: {ours} {list(value.shape)} is not {name}'s {key}; try another --format"
            )
    if len(keys) != len(own):
        raise UserError(f"--format {library}: {name} has {len(keys)} tensors, not {len(own)}; try another --format")
    return {key: value.contiguous() for key, value in zip(keys, own.values(), strict=True)}


class _Normalised(nn.Module):
    """A library's network on grey levels: mean and deviation are subtracted and divided before it."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images_B3CC: Tensor) -> Tensor:
        logits_BT: Tensor = self.network((images_B3CC.float() - self.mean) / self.std)
        return logits_BT


def loaded(weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> nn.Module:
    """The library's network with the weights of a file, on grey levels. Raises UserError where they do not fit."""
    network, _ = _made(description["format"], description["model"], len(description["classes"]))
    load_strictly(network, weights, f"{description['format']}'s {description['model']}", "the exported file")
    return _Normalised(network, *(description["preprocessing"][key] for key in ("mean", "std"))).eval()


def _crop_pct(crop: int, resize: int) -> float:
    """The share by which timm divides the crop, and rounds down, to have the side that is resized to."""
    share = crop / resize
    while int(crop / share) < resize:
        share = float(torch.nextafter(torch.tensor(share, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)))
    return share


def _scaled(values: list[float]) -> list[float]:
    """Grey levels of 255 as shares of 1."""
    return [value / 255 for value in values]


def timm_config(description: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` as timm and the Hub read it: ``timm.create_model("local-dir:FOLDER")``."""
    network, head = _made("timm", description["model"], len(description["classes"]))
    own: Any = network
    p, classes = description["preprocessing"], list(description["classes"])
    return {
        "architecture": description["model"],
        "num_classes": len(classes),
        "num_features": own.num_features,
        "label_names": classes,
        "pretrained_cfg": {
            "input_size": [3, p["crop"], p["crop"]],
            "fixed_input_size": bool(own.pretrained_cfg.get("fixed_input_size", False)),
            "interpolation": "bilinear",
            "crop_pct": _crop_pct(p["crop"], p["resize"]),
            "crop_mode": "squash",
            "mean": _scaled(p["mean"]),
            "std": _scaled(p["std"]),
            "num_classes": len(classes),
            "first_conv": own.pretrained_cfg.get("first_conv"),
            "classifier": head,
        },
    }


def torchvision_config(description: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json``: the name for ``get_model``, and the classes as other models on the Hub have them."""
    classes = list(description["classes"])
    return {
        "architecture": description["model"],
        "num_classes": len(classes),
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
    }


def image_processor(description: Mapping[str, Any]) -> dict[str, Any]:
    """``preprocessor_config.json``, as transformers' ``AutoImageProcessor`` reads it; to one grey level."""
    p = description["preprocessing"]
    return {
        "image_processor_type": "BitImageProcessor",
        **dict.fromkeys(("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize"), True),
        "size": {"height": p["resize"], "width": p["resize"]},
        "crop_size": {"height": p["crop"], "width": p["crop"]},
        "resample": 2,
        "rescale_factor": 1 / 255,
        "image_mean": _scaled(p["mean"]),
        "image_std": _scaled(p["std"]),
    }


BESIDE = {  # what a format has besides the model, as JSON by the file's name
    "timm": {"config.json": timm_config},
    "torchvision": {"config.json": torchvision_config, "preprocessor_config.json": image_processor},
}
