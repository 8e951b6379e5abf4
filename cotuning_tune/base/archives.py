"""Archives from elsewhere: what torch and numpy write stores its parts as they are, so none grows when it is read."""

import zipfile
from pathlib import Path
from typing import BinaryIO

MOST_GROWTH = 4
SPARE = 1 << 20


def refuse_growing(file: Path | BinaryIO) -> None:
    """Raises ValueError for a zip archive whose parts would take many times its size in memory (a bomb).

    Any other file passes, whole or not: its reader tells what is wrong with it.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
            packed = sum(part.compress_size for part in archive.infolist())
    except zipfile.BadZipFile:
        return
    finally:
        if not isinstance(file, Path):
            file.seek(0)
    if unpacked > MOST_GROWTH * min(packed, _size(file)) + SPARE:
        raise ValueError(f"its {_size(file)} bytes would unpack to {unpacked}: not what torch or numpy writes")


def _size(file: Path | BinaryIO) -> int:
    if isinstance(file, Path):
        return file.stat().st_size
    size = file.seek(0, 2)
    file.seek(0)
    return size
