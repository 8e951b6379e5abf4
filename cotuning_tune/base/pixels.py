"""From the bytes of an image file to the pixels that a network sees at test time: Pillow and numpy, no torch.

One decoder for training, checks, descriptions and exported models. Its rules (``RULES``; another number where they
change, so that nothing decoded by other rules is taken):

- an animated file is its first frame; EXIF orientation is obeyed; transparent parts are laid on white, or on another
  ground (``Decoding``);
- 16 bits a channel are divided by 256: their whole range is kept;
- 32-bit integers are taken for 16 bits, floating-point values from 0 to 1 for the whole range, up to 255 for 8 bits;
  other values are refused, for nobody knows what is white.

Shapes: H and W a file's own sides, S the stored side, C the side the network sees. Values are uint8, channels first.
"""

import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import Image, ImageColor, ImageFile, ImageOps, PngImagePlugin, features

from cotuning_tune.base.errors import UserError, first_line

RULES = 3
ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif"),
)
# What is opened, whatever a file's name says: Pillow would hand others to further programs (EPS to Ghostscript).
KNOWN = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "AVIF", "HEIF")
Image.MAX_IMAGE_PIXELS = None  # ``Decoding.max_megapixels`` instead, in one line with the file's name
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20  # a colour profile may be larger than Pillow's 1 MiB
BRANDS = {  # of ISO media files, from byte 8 on: their kind, and the package that reads it
    b"avif": ("AVIF", "a Pillow with AVIF"),
    b"avis": ("AVIF", "a Pillow with AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), ("HEIC", "pillow-heif")),
}
if find_spec("pillow_heif"):
    import pillow_heif

    pillow_heif.register_heif_opener()
Image.init()
FORMATS = tuple(name for name in KNOWN if name in Image.OPEN)  # the last two need what is not installed everywhere
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Decoding:
    """What a user may choose of the rules. ``ground``: the colour under transparent parts, by a name or as '#rrggbb'.

    ``truncated``: whether a file that ends too early is taken as far as it goes, the rest grey; ``max_megapixels``:
    larger images are refused before a pixel is decoded. Raises UserError for an unknown colour.
    """

    ground: str = "white"
    truncated: bool = False
    max_megapixels: int = 179

    def __post_init__(self) -> None:
        try:
            ImageColor.getrgb(self.ground)
        except ValueError:
            raise UserError(f"task.ground = '{self.ground}': name a colour, or give it as '#rrggbb'") from None


PLAIN = Decoding()


def decoder(how: Decoding = PLAIN) -> str:
    """What pixels depend on besides the bytes of a file."""
    chosen = "" if how.ground == PLAIN.ground else f" on {ImageColor.getrgb(how.ground)[:3]}"
    chosen += " truncated" if how.truncated else ""
    return f"rules {RULES} Pillow {PIL.__version__} jpeg {features.version('jpg')}{chosen}"


def open_image(file: Path | BinaryIO, how: Decoding = PLAIN) -> Image.Image:
    """An image in one of the formats that are known. Raises ValueError for one that is too large, and what its reader
    raises: anything, for a damaged file."""
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > how.max_megapixels * 10**6:
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than task.max_megapixels = {how.max_megapixels}"
        )
    return image


def upright(image: Image.Image, how: Decoding = PLAIN) -> Image.Image:
    """An opened image in 8-bit RGB by the rules above. Raises ValueError for values of an unknown range, and what a
    reader raises."""
    ImageFile.LOAD_TRUNCATED_IMAGES = how.truncated  # of the whole process: one task's images are decoded at a time
    turned = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
    if turned.mode.startswith("I;16") or turned.mode in ("I", "F"):
        return _grey(np.asarray(turned)).convert("RGB")
    if turned.has_transparency_data:
        clear = turned.convert("RGBA")
        ground = Image.new("RGBA", clear.size, how.ground)
        return Image.alpha_composite(ground, clear).convert("RGB")
    return turned.convert("RGB")


def _grey(values_HW: np.ndarray) -> Image.Image:
    """Values of more than 8 bits as 8 bits."""
    low, high = float(values_HW.min()), float(values_HW.max())
    if values_HW.dtype.kind == "f":
        if not (low >= 0 and high <= 255):  # NaN too
            raise ValueError(f"floating-point values from {low:g} to {high:g}: rescale them to 0..1 or 0..255")
        return Image.fromarray(np.round(values_HW * (255 if high <= 1 else 1)).astype(np.uint8))
    if not 0 <= low <= high < 1 << 16:
        raise ValueError(f"integers from {low:g} to {high:g}: rescale them to 0..65535")
    return Image.fromarray((values_HW >> 8).astype(np.uint8))


def decoded(data: bytes, size: int, how: Decoding = PLAIN) -> np.ndarray | str:
    """Pixels [3, S, S] of an image file's bytes, or what is wrong with them."""
    try:
        with open_image(io.BytesIO(data), how) as image:
            return shrunk(image, size, how)
    except Exception as problem:  # a reader raises what it likes: struct.error, IndexError; for giants its own
        return problem_of(problem, data)


def shrunk(image: Image.Image, size: int, how: Decoding = PLAIN) -> np.ndarray:
    """Pixels [3, S, S] of an open image."""
    return np.asarray(upright(image, how).resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def problem_of(problem: Exception, data: bytes) -> str:
    """What is wrong with the bytes of an image that raised this."""
    if not data:
        return "no bytes in it"
    if not isinstance(problem, PIL.UnidentifiedImageError):
        return first_line(problem)
    kind, reader = BRANDS.get(data[8:12], ("", "")) if data[4:8] == b"ftyp" else ("", "")
    return f"{kind} needs {reader} to be read" if kind else "no image that is known"


def centre_crop(image_3SS: np.ndarray, size: int) -> np.ndarray:
    """The middle C x C of an image, where torchvision's CenterCrop has it; [3, C, C]."""
    start = round((image_3SS.shape[1] - size) / 2)
    return image_3SS[:, start : start + size, start : start + size]
