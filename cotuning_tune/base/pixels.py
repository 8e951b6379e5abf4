"""From the bytes of an image file to the pixels that a network sees at test time: Pillow and numpy, no torch.

Shapes: S the stored side, C the side the network sees. Values are uint8, channels first.
"""

import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import Image

from cotuning_tune.base.errors import first_line

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")

# What is opened, whatever a file's name says: Pillow would hand others to further programs (EPS to Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# Pillow warns from a half of its limit on, and refuses above: the refusal is enough, in one line with the file's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_image(file: Path | BinaryIO) -> Image.Image:
    """An image in one of the formats that are known. Raises what its reader raises: anything, for a damaged file."""
    return Image.open(file, formats=FORMATS)


def decoded(data: bytes, size: int) -> np.ndarray | str:
    """Pixels [3, S, S] of an image file's bytes, or what is wrong with them."""
    try:
        with open_image(io.BytesIO(data)) as opened:
            image: Image.Image = opened
            if image.mode.startswith("I;16"):  # convert() cuts off at 255 instead of scaling
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(resized).transpose(2, 0, 1)
    except PIL.UnidentifiedImageError:  # its own words are an address in memory
        return "no image that is known"
    except Exception as problem:  # a reader raises what it likes: struct.error, IndexError; for giants its own
        return first_line(problem)


def centre_crop(image_3SS: np.ndarray, size: int) -> np.ndarray:
    """The middle C x C of an image, where torchvision's CenterCrop has it; [3, C, C]."""
    start = round((image_3SS.shape[1] - size) / 2)
    return image_3SS[:, start : start + size, start : start + size]
