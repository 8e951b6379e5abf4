"""An ONNX model run by onnxruntime on the CPU; needs no torch."""

import numpy as np

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.export.bundle import Classify


def open_onnx(data: bytes, *, inside: bool = False) -> Classify:
    """The model of a file's content; ``inside``: it takes whole images, colours last. Raises UserError where
    onnxruntime is missing or cannot read it."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError("an ONNX model is run by one more package: pip install onnxruntime") from None
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as problem:  # its errors have no class of their own
        raise UserError(f"onnxruntime {onnxruntime.__version__} cannot read the model: {first_line(problem)}") from None

    def classify(images_B3CC: np.ndarray) -> np.ndarray:
        given = images_B3CC.transpose(0, 2, 3, 1) if inside else images_B3CC
        return np.asarray(session.run(["logits"], {"images": given})[0])

    return classify
