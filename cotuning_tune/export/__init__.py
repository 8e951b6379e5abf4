"""Export of a study's retrained model, and prediction with the exported folder alone.

Imports nothing: ``predict`` with an ONNX model runs where there is no torch.
"""

FORMATS = {"safetensors": "model.safetensors", "torchscript": "model.pt", "onnx": "model.onnx"}
OF_TEXTS = {"transformers": "model.safetensors"}  # with a tokenizer beside it
EVERY = FORMATS | OF_TEXTS
