"""A run's studies under another address or another name: copied first, then the run is told. What was there stays."""

import optuna
from optuna.storages import BaseStorage, JournalStorage

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_json
from cotuning_tune.base.secrets import masked
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import new_identity, read_identity
from cotuning_tune.search.storage import (
    WaitingJournal,
    absolute,
    close,
    keep_url,
    kept_url,
    mend_journal,
    open_url,
    read_storage,
    studies_in,
)

JOURNAL = "journal"


def migrate(run: RunDir, url: str = "", *, renew: bool = False) -> list[str]:
    """Move the run's studies, and its repeats', to the database at ``url`` (JOURNAL: into the run's folder).

    ``renew``: give a copied run an identity and studies of its own. Needs the run's lock. A line for what was done.
    Raises UserError where nothing is asked, or the studies are not where the run says.
    """
    if not url and not renew:
        raise UserError("migrate needs --optuna-storage URL (or 'journal'), --new-identity, or both")
    return [line for one in (run, *run.repeats()) if one.path.exists() for line in _migrate(one, url, renew)]


def _migrate(run: RunDir, url: str, renew: bool) -> list[str]:
    source, mine = read_storage(run), read_identity(run)
    if mine is None:
        raise UserError(f"{run.path} has no identity ({run.identity.name} is missing): resume it first")
    target_url = kept_url(run) if not url else "" if url == JOURNAL else absolute(url)
    fresh = new_identity(run, mine["studies"].rpartition("-")[0]) if renew else {**mine, "path": str(run.path)}
    names = [*studies_in(source, mine["studies"])] if source else []
    if names and (target_url, fresh["studies"]) != (kept_url(run), mine["studies"]):
        target = _target(run, target_url)
        for name in names:
            assert source is not None
            _copy(source, name, target, f"{fresh['studies']}/{name.split('/', 1)[1]}")
        close(target)
    close(source)
    keep_url(run, target_url)
    write_json(run.identity, fresh)
    where = masked(target_url) or run.journal.name
    return [f"{run.path}: {len(names)} studies are in {where} now, named {fresh['studies']}/..."]


def _target(run: RunDir, url: str) -> BaseStorage:
    if url:
        return open_url(url)
    mend_journal(run.journal)
    return JournalStorage(WaitingJournal(run))


def _copy(source: BaseStorage, name: str, target: BaseStorage, to: str) -> None:
    """Copy one study; what an interrupted attempt has left there is replaced."""
    if to in {study.study_name for study in target.get_all_studies()}:
        optuna.delete_study(study_name=to, storage=target)
    optuna.copy_study(from_study_name=name, from_storage=source, to_storage=target, to_study_name=to)
