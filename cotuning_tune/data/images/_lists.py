"""What lists of image files have in common: their own split where none is published, and missing files."""

import os

from cotuning_tune.base.errors import UserError, first_three
from cotuning_tune.data._files import Files
from cotuning_tune.data._task import hold_out


def own_split(whole: Files, test_fraction: float, seed: int) -> dict[str, Files]:
    """``train`` and ``test`` of a set without splits: a fixed share of each class by the hash of the names."""
    if not 0 < test_fraction < 1:
        raise UserError(f"test_fraction = {test_fraction:g} must be above 0 and below 1")
    train, test = hold_out(whole, range(len(whole.names)), test_fraction, seed)
    return {"train": whole.some(train), "test": whole.some(test)}


def refuse_missing(found: Files) -> Files:
    """The files themselves. Raises UserError that names the first of those which are listed but not there."""
    missing = [name for name in found.names if not os.path.isfile(found.root / name)]  # noqa: PTH113 - no error for a name that no file can have
    if missing:
        raise UserError(
            f"{len(missing)} of {len(found.names)} listed images are not in {found.root}: {first_three(missing)}"
        )
    return found
