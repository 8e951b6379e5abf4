"""The folders that come with the package for users to read and edit: ``launch/``, and ``search_spaces/`` by names."""

import sysconfig
from pathlib import Path

from cotuning_tune.base.errors import UserError, unknown
from cotuning_tune.base.toml_text import read_text

ABOVE = Path(__file__).resolve().parents[2]  # the checkout, or what the package was installed into
SHARE = Path("share", "cotuning_tune")


def shipped(folder: str) -> Path:
    """That folder of the checkout, of the environment, or beside the package (``pip install --target``)."""
    if (ABOVE / "pyproject.toml").is_file():
        return ABOVE / folder
    places = [root / SHARE / folder for root in (Path(sysconfig.get_path("data")), ABOVE)]
    return next((place for place in places if place.is_dir()), places[0])


def shipped_experiments() -> dict[str, Path]:
    """The file of each shipped experiment by its name."""
    return {path.stem: path for path in sorted(shipped("search_spaces").glob("*.toml"))}


def about(experiment: Path) -> str:
    """What a shipped experiment is: the line below its command."""
    return read_text(experiment).splitlines()[1].lstrip("# ")


def located(experiment: str | Path) -> tuple[Path, Path]:
    """The file of an experiment, and the folder that its relative paths start from.

    A bare name, where no file is called so, is a shipped experiment's; its paths start from the working folder.
    Raises UserError where there is none of that name.
    """
    path = Path(experiment)
    if path.is_file():
        return path, path.absolute().parent
    known = shipped_experiments()
    if len(path.parts) == 1 and not path.suffix:
        if path.name not in known:
            raise unknown("file and no shipped experiment", path.name, known)
        return known[path.name], Path.cwd()
    if path.stem in known and not path.expanduser().exists():
        raise UserError(f"there is no file {path}; the shipped experiment is called '{path.stem}'")
    return path, path.expanduser().absolute().parent
