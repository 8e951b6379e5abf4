"""A contact sheet: some training images of some classes under their names, in one picture.

Validation and test images are never on it. The same data set gives the same picture.
"""

import functools
import io
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont, ImageOps

from cotuning_tune.inspection.describe import Description, by_hash

MAX_CLASSES, IMAGES = 40, 5
SIDE, GAP, MARGIN = 96, 4, 20
NAME_HEIGHT, TITLE_HEIGHT = 22, 40
PAPER, MOUNT, INK, FAINT, ALARM = "#ffffff", "#eceff1", "#1c2529", "#667279", "#b3261e"
SHAPE = 1.6


@dataclass(frozen=True)
class Sheet:
    """The finished picture, how many classes are on it, and the names of images that could not be read."""

    picture: Image.Image
    classes: int
    unreadable: list[str]

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.picture.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def draw_sheet(title: str, found: Description) -> Sheet:
    """Draw up to 40 classes, spread evenly over all, with up to 5 training images each."""
    labels = chosen_classes(len(found.class_names))
    groups: dict[int, list[int]] = {label: [] for label in labels}
    for position in by_hash(found.train, found.shown):
        group = groups.get(int(found.train.labels[position]))
        if group is not None and len(group) < IMAGES:
            group.append(position)
    columns = _columns(len(labels))
    rows = math.ceil(len(labels) / columns)
    width = 2 * MARGIN + columns * _BLOCK[0] + (columns - 1) * MARGIN
    picture = Image.new("RGB", (width, MARGIN + TITLE_HEIGHT + rows * _BLOCK[1]), PAPER)
    pen = ImageDraw.Draw(picture)
    _write_title(pen, title, found, width)
    unreadable: list[str] = []
    for place, (label, positions) in enumerate(groups.items()):
        column, row = divmod(place, rows)
        corner = MARGIN + column * (_BLOCK[0] + MARGIN), MARGIN + TITLE_HEIGHT + row * _BLOCK[1]
        write_text(pen, corner, found.class_names[label], _BLOCK[0], 15, INK)
        unreadable += _mount(picture, (corner[0], corner[1] + NAME_HEIGHT), found, positions)
    return Sheet(picture, len(labels), unreadable)


_BLOCK = (IMAGES * SIDE + (IMAGES - 1) * GAP, NAME_HEIGHT + SIDE + 14)


def chosen_classes(total: int) -> list[int]:
    """All class numbers up to 40, else 40 of them spread evenly."""
    count = min(total, MAX_CLASSES)
    return [place * total // count for place in range(count)]


def _columns(classes: int) -> int:
    """As many columns of class blocks as bring the sheet near a screen's shape."""
    return max(1, min(classes, round(math.sqrt(SHAPE * classes * _BLOCK[1] / (_BLOCK[0] + MARGIN)))))


def _write_title(pen: ImageDraw.ImageDraw, title: str, found: Description, width: int) -> None:
    total = len(found.class_names)
    shown = len(chosen_classes(total))
    classes = f"{shown} of {total} classes" if shown < total else f"{total} classes"
    note = f"{classes}, {len(found.train)} training images"
    taken = write_text(pen, (MARGIN, MARGIN - 4), title, (width - 2 * MARGIN) // 2, 22, INK)
    left = MARGIN + taken + 14
    write_text(pen, (left, MARGIN + 3), note, width - MARGIN - left, 14, FAINT)


def write_text(pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, room: int, size: int, colour: str) -> int:
    """Write text of that size in pixels, cut with an ellipsis where it is wider than ``room``; its width."""
    font = ImageFont.truetype(_font_file(), round(0.9 * size))
    shown = plain_letters(text)
    while shown and font.getlength(shown) > room:
        shown = shown.removesuffix("…")[:-1].rstrip() + "…" if len(shown) > 1 else ""
    pen.text(corner, shown, fill=colour, font=font)
    return math.ceil(font.getlength(shown))


def _font_file() -> str:
    """The font that comes with matplotlib: DejaVu Sans, with the letters of most European languages and more."""
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(_font_file()).get_charmap())


def plain_letters(text: str) -> str:
    """The text in letters that the font has; a letter that it lacks becomes ``?``."""
    composed = unicodedata.normalize("NFC", text).replace("\n", " ")
    return "".join(letter if ord(letter) in _letters() and letter.isprintable() else "?" for letter in composed)


def _mount(picture: Image.Image, corner: tuple[int, int], found: Description, positions: Sequence[int]) -> list[str]:
    """Paste a row of images, whole and undistorted, on squares; the names of those that cannot be read."""
    unreadable = []
    for number, position in enumerate(positions):
        place = corner[0] + number * (SIDE + GAP), corner[1]
        try:
            image = ImageOps.pad(found.train.image(position), (SIDE, SIDE), Image.Resampling.BICUBIC, MOUNT)
        except Exception:  # a reader raises what it likes
            unreadable.append(found.train.names[position])
            image = Image.new("RGB", (SIDE, SIDE), MOUNT)
            write_text(ImageDraw.Draw(image), (8, SIDE // 2 - 8), "unreadable", SIDE - 10, 13, ALARM)
        picture.paste(image, place)
    return unreadable
