"""Whether a run can lie where it is to lie, asked before anything is made."""

import os
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import is_local
from cotuning_tune.base.secrets import Secret


def check_optuna_storage(storage: Path, studies: Secret) -> None:
    """Raises UserError where the files go into an object store and no database (its URL) keeps the studies."""
    if not (is_local(storage) or studies):
        raise UserError(
            f"{storage} keeps files only: name a database for the studies too, as --optuna-storage postgresql://..."
        )


def check_place(path: Path) -> None:
    """Raises UserError where this user cannot make or change a run's folder; an object store is not asked."""
    if not is_local(path):
        return
    there = next(folder for folder in (path, *path.parents) if folder.exists() or folder.is_symlink())
    if not there.is_dir():
        raise UserError(f"the folder {path} cannot be made: {there} is not a folder (--storage)")
    if not os.access(there, os.W_OK | os.X_OK):
        problem = "is read-only" if os.statvfs(there).f_flag & os.ST_RDONLY else _whose(there)
        raise UserError(
            f"{there} {problem}: name a folder in which you may write (--storage), or have it opened to you"
        )


def _whose(folder: Path) -> str:
    if folder.stat().st_uid == os.getuid():
        return "is closed to you, its owner (chmod u+rwx)"
    return f"belongs to another user ({folder.owner() if _known(folder) else folder.stat().st_uid})"


def _known(folder: Path) -> bool:
    try:
        return bool(folder.owner())
    except KeyError:  # of another machine
        return False
