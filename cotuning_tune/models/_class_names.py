"""Names of the classes that a source head tells apart."""

import importlib.util

IMAGENET_CLASSES = 1000


def source_class_names(count: int) -> list[str]:
    """ImageNet's names for a head of 1000 classes where torchvision is there to tell them, else numbers."""
    if count == IMAGENET_CLASSES and importlib.util.find_spec("torchvision") is not None:
        from torchvision.models import ResNet50_Weights

        return list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    return [f"class {number}" for number in range(count)]
