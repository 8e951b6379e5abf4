"""A classifier as the content of a model file: safetensors, TorchScript, ONNX.

Shapes: B images of a batch, C the side the network sees.
"""

import importlib.util
import io

import torch
from torch import Tensor

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.export.torch_model import Classifier, quiet_torchscript

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages(format_name: str) -> None:
    """UserError where a format needs a package that is not installed."""
    needed = ONNX_PACKAGES if format_name == "onnx" else ("safetensors",) if format_name == "safetensors" else ()
    if missing := [name for name in needed if not _is_there(name)]:
        how = "pip install 'cotuning_tune[onnx]'" if format_name == "onnx" else "pip install safetensors"
        raise UserError(f"--format {format_name} needs {', '.join(missing)}: {how}")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # of a module that is blocked
        return False


def packed(network: Classifier, format_name: str, example_B3CC: Tensor) -> bytes:
    """The content of the model file; ``example_B3CC``: two images or more, to follow the network with.

    Raises UserError where the network has something that the format cannot express.
    """
    if format_name == "safetensors":
        from safetensors.torch import save

        return bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}, {"format": "pt"}))
    pack = _onnx if format_name == "onnx" else _torchscript
    try:
        return pack(network.eval(), example_B3CC)
    except Exception as problem:  # the exporters' errors are of many kinds
        raise UserError(f"this network cannot be written as {format_name}: {first_line(problem)}") from None


@torch.no_grad()
def _torchscript(network: Classifier, example_B3CC: Tensor) -> bytes:
    buffer = io.BytesIO()
    with quiet_torchscript():
        torch.jit.save(torch.jit.trace(network, example_B3CC), buffer)
    return buffer.getvalue()


def _onnx(network: Classifier, example_B3CC: Tensor) -> bytes:
    """With a batch of any size: input ``images`` uint8, output ``logits`` float32."""
    program = torch.onnx.export(
        network,
        (example_B3CC,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    return bytes(program.model_proto.SerializeToString())  # type: ignore[union-attr]
