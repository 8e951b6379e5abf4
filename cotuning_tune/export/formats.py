"""A classifier as the content of a model file: safetensors, TorchScript, ONNX, or what a library loads.

Shapes: B images of a batch, C the side the network sees.
"""

import importlib.util
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.export import EVERY, OF_LIBRARIES
from cotuning_tune.export.libraries import renamed
from cotuning_tune.export.torch_model import Classifier, quiet_torchscript
from cotuning_tune.export.whole import Whole

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages(format_name: str) -> None:
    """UserError where a format needs a package that is not installed."""
    needed = ONNX_PACKAGES if format_name == "onnx" else ("safetensors",) if "safetensors" in EVERY[format_name] else ()
    if missing := [name for name in needed if not _is_there(name)]:
        how = "pip install 'cotuning_tune[onnx]'" if format_name == "onnx" else "pip install safetensors"
        raise UserError(f"--format {format_name} needs {', '.join(missing)}: {how}")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # of a module that is blocked
        return False


def packed(network: Classifier, description: Mapping[str, Any], example_B3CC: Tensor) -> bytes:
    """The content of the model file; ``example_B3CC``: two images or more, to follow the network with.

    Raises UserError where the network has something that the format cannot express.
    """
    format_name, preprocessing = description["format"], description["preprocessing"]
    if "safetensors" in EVERY[format_name]:
        from safetensors.torch import save

        weights = {k: v.contiguous() for k, v in network.state_dict().items()}
        if format_name in OF_LIBRARIES:
            weights = renamed(weights, format_name, description["model"], len(description["classes"]))
        return bytes(save(weights, {"format": "pt"}))
    try:
        if format_name == "torchscript":
            return _torchscript(network.eval(), example_B3CC)
        if not preprocessing["inside"]:
            return _onnx(network.eval(), example_B3CC, ("batch",))
        whole = Whole(network, preprocessing["resize"], preprocessing["crop"]).eval()
        # of no side that the network has itself: each stays free
        images_BHW3 = torch.zeros(2, preprocessing["resize"] + 13, preprocessing["resize"] + 7, 3, dtype=torch.uint8)
        return _onnx(whole, images_BHW3, ("batch", "height", "width"))
    except Exception as problem:  # the exporters' errors are of many kinds
        raise UserError(f"this network cannot be written as {format_name}: {first_line(problem)}") from None


@torch.no_grad()
def _torchscript(network: Classifier, example_B3CC: Tensor) -> bytes:
    buffer = io.BytesIO()
    with quiet_torchscript():
        torch.jit.save(torch.jit.trace(network, example_B3CC), buffer)
    return buffer.getvalue()


def _onnx(network: nn.Module, example: Tensor, free: tuple[str, ...]) -> bytes:
    """Input ``images`` uint8, whose first dimensions, ``free``, are of any size; output ``logits`` float32."""
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({place: torch.export.Dim(name) for place, name in enumerate(free)},),
        dynamo=True,
        verbose=False,
    )
    return bytes(program.model_proto.SerializeToString())  # type: ignore[union-attr]
