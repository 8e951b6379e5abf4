"""The one walk over a folder of images: what counts as one, what is passed over, and why."""

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cotuning_tune.base.errors import UserError, printable
from cotuning_tune.base.pixels import ENDINGS

# What systems and tools leave behind, in any case; whatever begins with a dot besides.
DEBRIS = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found", "system volume information"}
UNREAD = {  # images all the same
    *(".svg", ".eps", ".pdf", ".psd", ".xcf", ".jp2", ".j2k", ".jxl", ".ico", ".icns", ".tga", ".dds", ".exr", ".hdr"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm", ".nii", ".npy", ".mp4", ".mov"),
}
LEFT_BEHIND, FORMAT, OTHER, BROKEN, BESIDE = (
    "hidden or left behind by a tool",
    "of a format that is not read",
    "no image",
    "a broken link",
    "beside the class folders, not in one",
)


@dataclass(frozen=True)
class Walk:
    """Names of images relative to the folder, in the order of their parts; ``passed``: what was left, by reason."""

    images: list[str] = field(default_factory=list)
    passed: dict[str, list[str]] = field(default_factory=dict)

    def below(self, folder: str) -> "Walk":
        """The same with the folder before each name."""
        passed = {reason: [f"{folder}/{name}" for name in names] for reason, names in self.passed.items()}
        return Walk([f"{folder}/{name}" for name in self.images], passed)


def is_debris(name: str) -> bool:
    """Whether a file or folder of that name is never meant as data."""
    return name.startswith(".") or name.lower() in DEBRIS


def sub_folders(folder: Path) -> dict[str, str]:
    """The folders in a folder, links to folders too: names, composed (NFC), and as they are on the disk.

    Raises UserError where it cannot be listed, for two names that differ in their form alone, and for one that is not
    UTF-8.
    """
    found: dict[str, str] = {}
    for entry in _entries(folder):
        if is_debris(entry.name) or not entry.is_dir():
            continue
        name = unicodedata.normalize("NFC", entry.name)
        if name in found:
            raise UserError(f"{folder} has two folders '{name}' (their letters are composed differently): join them")
        if not name.isprintable() and any("\udc80" <= letter <= "\udcff" for letter in name):
            raise UserError(f"{folder} has the folder {name!r}, whose name is not UTF-8: rename it")
        found[name] = entry.name
    return dict(sorted(found.items()))


def beside(folder: Path) -> Walk:
    """What lies in a folder of folders besides them: no image of it is taken."""
    found = Walk()
    for entry in _entries(folder):
        if is_debris(entry.name):
            found.passed.setdefault(LEFT_BEHIND, []).append(entry.name)
        elif not entry.is_dir():
            found.passed.setdefault(_reason(entry) or BESIDE, []).append(entry.name)
    return found


def walk(folder: Path) -> Walk:
    """All images below a folder; links are followed. Raises UserError for a link back to a folder above it."""
    found = Walk()
    _enter(folder, "", found, ())
    return found


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as problem:
        raise UserError(f"{folder} cannot be listed: {problem.strerror}") from None


def _enter(folder: Path, prefix: str, found: Walk, above: tuple[tuple[int, int], ...]) -> None:
    entries, here = _entries(folder), folder.stat()
    inside = (*above, (here.st_dev, here.st_ino))
    if inside[-1] in above:
        raise UserError(f"{folder} is a link to a folder that it lies in: remove it")
    for entry in entries:
        name = prefix + entry.name
        if is_debris(entry.name):
            found.passed.setdefault(LEFT_BEHIND, []).append(name)
        elif entry.is_dir():
            _enter(folder / entry.name, f"{name}/", found, inside)
        elif reason := _reason(entry):
            found.passed.setdefault(reason, []).append(name)
        else:
            found.images.append(name)


def _reason(entry: "os.DirEntry[str]") -> str:
    """Why a file is not taken; '' for an image."""
    ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - quicker than a Path for each file
    if not entry.is_file():
        return BROKEN
    if ending in ENDINGS:
        return ""
    return FORMAT if ending in UNREAD else OTHER


def together(walks: Iterable[Walk]) -> Walk:
    """Several walks as one."""
    whole = Walk()
    for one in walks:
        whole.images.extend(one.images)
        for reason, names in one.passed.items():
            whole.passed.setdefault(reason, []).extend(names)
    return whole


def told(passed: Mapping[str, list[str]]) -> list[str]:
    """A line for each reason: how many, and one of them."""
    return [
        f"{len(names)} not taken, {reason}: {printable(names[0])}" + (", ..." if len(names) > 1 else "")
        for reason, names in sorted(passed.items())
    ]
