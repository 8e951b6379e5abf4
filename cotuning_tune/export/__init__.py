"""Export of a study's retrained model, and prediction with the exported folder alone.

Imports nothing: ``predict`` with an ONNX model runs where there is no torch.
"""

FORMATS = {"safetensors": "model.safetensors", "torchscript": "model.pt", "onnx": "model.onnx"}
OF_LIBRARIES = {"timm": "model.safetensors", "torchvision": "model.safetensors"}  # of some backbones
OF_IMAGES = FORMATS | OF_LIBRARIES
OF_TEXTS = {"transformers": "model.safetensors"}  # with a tokenizer beside it
EVERY = OF_IMAGES | OF_TEXTS
