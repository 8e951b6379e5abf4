"""Images as people have them: the same picture in each form gives the same pixels, or a line that says why not."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotuning_tune.base import pixels
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import Decoding, decoded
from cotuning_tune.inspection.verify import check_file

SIDE = 16


def picture() -> np.ndarray:
    """A dark square on white, not in the middle: turned it is another picture; [S, S] uint8."""
    grey = np.full((SIDE, SIDE), 255, np.uint8)
    grey[2:8, 4:14] = 0
    return grey


def stored(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    """As [S, S], of a picture that is grey."""
    found = decoded(data, SIDE)
    assert isinstance(found, np.ndarray), found
    assert (found == found[0]).all()
    return found[0]


def float_tiff() -> bytes:
    return stored(Image.fromarray(picture().astype(np.float32) / 255), "TIFF")


def byte_float_tiff() -> bytes:
    return stored(Image.fromarray(picture().astype(np.float32)), "TIFF")


def sixteen_bits() -> bytes:
    return stored(Image.fromarray(picture().astype(np.uint16) * 257), "PNG")


def integers() -> bytes:
    return stored(Image.fromarray(picture().astype(np.int32) * 257), "TIFF")


def ink_on_nothing() -> bytes:
    """Black whose alpha makes the picture."""
    clear = np.zeros((SIDE, SIDE, 4), np.uint8)
    clear[..., 3] = 255 - picture()
    return stored(Image.fromarray(clear), "PNG")


def ink_on_nothing_in_grey() -> bytes:
    clear = np.stack([np.zeros_like(picture()), 255 - picture()], axis=-1)
    return stored(Image.fromarray(clear), "PNG")


def palette_with_a_hole() -> bytes:
    image = Image.fromarray((picture() > 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    return stored(image, "PNG", transparency=1)


def turned() -> bytes:
    """Stored as a telephone does that was held upright: orientation 6, to be turned clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(Image.fromarray(np.rot90(picture()).copy()), "PNG", exif=exif)


def animated() -> bytes:
    more = [Image.fromarray(np.zeros_like(picture()))]
    return stored(Image.fromarray(picture()), "GIF", save_all=True, append_images=more)


def inks() -> bytes:
    return stored(Image.fromarray(picture()).convert("RGB").convert("CMYK"), "TIFF")


def bilevel() -> bytes:
    return stored(Image.fromarray(picture() > 0), "PNG")


def large_profile() -> bytes:
    return stored(Image.fromarray(picture()), "PNG", icc_profile=b"\0" * 128 + bytes(3 << 20))


@pytest.mark.parametrize(
    "make",
    [
        float_tiff,
        byte_float_tiff,
        sixteen_bits,
        integers,
        ink_on_nothing,
        ink_on_nothing_in_grey,
        palette_with_a_hole,
        turned,
        animated,
        inks,
        bilevel,
        large_profile,
    ],
)
def test_the_same_picture(make: Callable[[], bytes], tmp_path: Path) -> None:
    """Whatever the mode, it is the plain 8-bit picture; the check of the data says nothing else."""
    assert (pixels_of(make()) == picture()).all()
    (tmp_path / "x.png").write_bytes(make())
    assert check_file(tmp_path / "x.png").problem == ""


@pytest.mark.parametrize("form", ["AVIF", "HEIF", "WEBP"])
def test_newer_formats(form: str) -> None:
    """They lose a little: no pixel is far from the picture's. HEIF needs the extra [heic]."""
    if form not in pixels.FORMATS:
        pytest.skip(f"NOT TESTED: no decoder for {form} is installed")
    found = decoded(stored(Image.fromarray(picture()).convert("RGB"), form, quality=95), SIDE)
    assert isinstance(found, np.ndarray), found
    assert abs(found.astype(int) - picture()).mean() < 8


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (stored(Image.fromarray(np.full((4, 4), 300, np.float32)), "TIFF"), "values from 300 to 300: rescale"),
        (stored(Image.fromarray(np.full((4, 4), -0.5, np.float32)), "TIFF"), "values from -0.5 to -0.5: rescale"),
        (stored(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), "values from nan to nan: rescale"),
        (stored(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF"), "integers from .*: rescale"),
        (stored(Image.fromarray(picture()), "PNG")[:60], "truncated|broken"),
        (b"", "no bytes in it"),
        (b"plain text", "no image that is known"),
        (b"\0\0\0\x1cftypheicrest", "HEIC needs pillow-heif to be read"),
        (b"\0\0\0\x1cftypavifrest", "AVIF needs a Pillow with AVIF to be read"),
    ],
)
def test_what_is_no_picture(data: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says why, in training and in the check alike; formats without a decoder are named."""
    monkeypatch.setattr(pixels, "FORMATS", ("PNG", "TIFF"))
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(AssertionError, match=said):
        pixels_of(data)
    checked = check_file(tmp_path / "x.png")
    assert (checked.kind, checked.problem) == ("corrupt", decoded(data, SIDE))


def test_decoders_are_part_of_the_key() -> None:
    """What was decoded by other rules is not taken."""
    assert f"rules {pixels.RULES} Pillow" in pixels.decoder()
    assert pixels.decoder(Decoding(max_megapixels=1)) == pixels.decoder()
    others = {pixels.decoder(Decoding(ground="#000")), pixels.decoder(Decoding(truncated=True)), pixels.decoder()}
    assert len(others) == 3


def test_the_ground_under_transparent_parts() -> None:
    """White, or the colour that the task names."""
    found = decoded(ink_on_nothing(), SIDE, Decoding(ground="#ff8000"))
    assert isinstance(found, np.ndarray), found
    nothing = picture() > 0
    assert (found[:, nothing] == np.array([[255], [128], [0]])).all()
    assert not found[:, ~nothing].any()
    with pytest.raises(UserError, match=re.escape("task.ground = 'whitish': name a colour, or give it as '#rrggbb'")):
        Decoding(ground="whitish")


def test_files_that_end_too_early() -> None:
    """Refused, or taken as far as they go where the task says so; the next file is judged by its own task's rule."""
    whole = stored(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    cut = whole[: len(whole) // 2]
    assert "truncated" in str(decoded(cut, SIDE))
    found, expected = decoded(cut, 64, Decoding(truncated=True)), decoded(whole, 64)
    assert isinstance(found, np.ndarray), found
    assert (found[:, :8] == expected[:, :8]).all()  # type: ignore[index]
    assert found[:, -8:].std() == 0
    assert "truncated" in str(decoded(cut, SIDE))


def test_giants_are_refused_before_a_pixel_is_decoded() -> None:
    """The limit is the task's; the line names it."""
    data = stored(Image.new("1", (1200, 1000)), "PNG")
    assert decoded(data, 8, Decoding(max_megapixels=1)) == "1200 x 1000 pixels are more than task.max_megapixels = 1"
    assert isinstance(decoded(data, 8, Decoding(max_megapixels=2)), np.ndarray)
