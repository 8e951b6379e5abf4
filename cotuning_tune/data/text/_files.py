"""Which files of a folder are which split, and a test split of one's own where there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.data._duplicates import Contents
from cotuning_tune.data._splitting import grouped, hold_out
from cotuning_tune.data.images._lists import NAMES
from cotuning_tune.data.text._text_set import Texts
from cotuning_tune.hyper import hyper

Read = Callable[[Path], Texts]


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """A file, or a folder with one for each split."""

    root: str = hyper("", path=True, doc="the file, or the folder of the files")
    train: str = hyper("", doc="pattern of the training file (default: with train, training in its name)")
    val: str = hyper("", doc="pattern of the validation file (default: with val, valid, validation, dev in its name)")
    test: str = hyper("", doc="pattern of the test file (default: with test, testing in its name)")
    test_fraction: float = hyper(0.2, doc="without a test file: the share of all that is set aside, by hash")
    split_seed: int = hyper(0, doc="of that split")
    encoding: str = hyper("utf-8", doc="of the files")


def _matching(config: Any, split: str, there: Sequence[Path]) -> list[Path]:
    if pattern := getattr(config, split):
        return [path for path in there if fnmatch(path.name, pattern)]
    return [path for path in there if any(word in path.name.lower() for word in NAMES[split])]


def files_of(config: Any) -> dict[str, Path]:
    """The file of each split; one alone is ``all``. Raises UserError where names do not tell."""
    if not config.root:
        raise UserError("root is missing: the file of the texts, or their folder")
    root = Path(config.root)
    if root.is_file():
        return {"all": root}
    if not root.is_dir():
        raise UserError(f"there is no file or folder {root} (root)")
    there = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    found = _by_split(config, root, there)
    if found:
        if "train" not in found:
            raise UserError(f'{root}: no file is the training split: say train = "PATTERN"')
        return found
    if len(there) == 1:
        return {"all": there[0]}
    names = ", ".join(path.name for path in there[:5]) or "it is empty"
    raise UserError(f'{root}: no file is called train or test ({names}): say train = "PATTERN", test = "PATTERN"')


def _by_split(config: Any, root: Path, there: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split in NAMES:
        paths = _matching(config, split, there)
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise UserError(f'{root}: {names} may all be the {split} split: say {split} = "PATTERN"')
        if paths:
            found[split] = paths[0]
    named = [path.name for path in found.values()]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise UserError(f'{root}: {twice} may be two splits: say train = "PATTERN", test = "PATTERN"')
    return found


def read_splits(config: Any, read: Read, stratum_of: Callable[[Texts], Sequence[int]]) -> dict[str, Texts]:
    """The texts of each split; without a test file a share of the training texts is set aside, in equal shares of the
    strata, texts of one group or with the same words together."""
    found = {split: read(path) for split, path in files_of(config).items()}
    if "test" in found:
        return found
    if not 0 < config.test_fraction < 1:
        raise UserError(f"test_fraction = {config.test_fraction:g} must be above 0 and below 1")
    whole = found.pop("all", None) or found["train"]
    listed = Contents(whole.names, stratum_of(whole), whole.digests)
    groups = grouped(whole.names, whole.groups, listed.digests)
    train, test = hold_out(listed, range(len(whole.names)), config.test_fraction, config.split_seed, groups)
    return {**found, "train": whole.some(train), "test": whole.some(test)}
