"""What lists of image files have in common: their own split where none is published, and missing files."""

from collections.abc import Mapping, Sequence

from cotuning_tune.base.errors import UserError, first_three
from cotuning_tune.data._files import Files
from cotuning_tune.data._splitting import grouped, hold_out

NO_COLUMN = "none"


def own_split(whole: Files, test_fraction: float, seed: int) -> dict[str, Files]:
    """``train`` and ``test`` of a set without splits: a fixed share of each class by the hash of the names.

    Images of one group, or with the same bytes, stay in one of them.
    """
    if not 0 < test_fraction < 1:
        raise UserError(f"test_fraction = {test_fraction:g} must be above 0 and below 1")
    groups = grouped(whole.names, whole.groups, _digests(whole))
    train, test = hold_out(whole, range(len(whole.names)), test_fraction, seed, groups)
    return {"train": whole.some(train), "test": whole.some(test)}


def _digests(whole: Files) -> Sequence[str] | None:
    """Of each file; None where one is missing: whoever reads the images names it."""
    try:
        return whole.contents().digests
    except UserError:
        return None


def refuse_torn(splits: Mapping[str, Files], source: str) -> None:
    """UserError with number and example where given splits have images of one group in two of them."""
    where: dict[str, dict[str, str]] = {}
    for split, files in splits.items():
        for name, group in zip(files.names, files.groups or (), strict=False):
            if group:
                where.setdefault(group, {}).setdefault(split, name)
    if torn := {group: places for group, places in where.items() if len(places) > 1}:
        group, places = next(iter(torn.items()))
        example = ", ".join(f"{name} in {split}" for split, name in places.items())
        raise UserError(
            f"{source}: {len(torn)} of {len(where)} groups have images in two splits: {group} has {example};"
            f' give each group one split, or set group = "{NO_COLUMN}" where the column says something else'
        )


def refuse_missing(found: Files) -> Files:
    """The files themselves. Raises UserError that names the first of those which are listed but not there."""
    missing = [name for name in found.names if not (found.root / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(found.names)} listed images are not in {found.root}: {first_three(missing)}"
        )
    return found
