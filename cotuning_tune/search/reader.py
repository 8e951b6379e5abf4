"""The trials of a run for whoever looks again and again while others write: nothing is made, mended or written.

A journal is read on from where the last look ended; of a database every look asks anew.
"""

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import studies_prefix
from cotuning_tune.runs.records import TrialRow
from cotuning_tune.search.rows import row_of
from cotuning_tune.search.storage import ReadJournal, close, kept_url, read_storage, studies_in
from cotuning_tune.search.stored import find_trials


class StudyReader:
    """The trials of one run. ``lines``: how many lines of its journal have been read so far."""

    def __init__(self, run: RunDir) -> None:
        self.run, self.lines = run, 0
        self._storage: BaseStorage | None = None
        self._url, self._journal = "", ReadJournal(run.journal)
        self._ended: dict[tuple[str, int], TrialRow] = {}

    def trials(self) -> dict[str, list[TrialRow]]:
        """By study, the trials as ``study.json`` has them, those that run too; empty where there is no study yet.

        Raises UserError where a database cannot be reached.
        """
        storage = self._opened()
        if storage is None:
            return {}
        prefix, before = studies_prefix(self.run) or self.run.name, self._journal.lines
        found = {name: find_trials(storage, name) for name in studies_in(storage, prefix)}
        self.lines += self._journal.lines - before
        return {n.removeprefix(f"{prefix}/"): [self._row(n, trial) for trial in found[n]] for n in found}

    def _row(self, study: str, trial: FrozenTrial) -> TrialRow:
        """A trial's row; that of an ended one is made once."""
        if not trial.state.is_finished():
            return row_of(trial)
        key = study, trial.number
        if key not in self._ended:
            self._ended[key] = row_of(trial)
        return self._ended[key]

    def _opened(self) -> BaseStorage | None:
        """The storage, opened anew where the studies have moved, or the journal is another than was read."""
        url = kept_url(self.run)
        if self._storage is None or url != self._url or not self._journal.goes_on:
            self.close()
            self._url, self._journal = url, ReadJournal(self.run.journal)
            self._storage = read_storage(self.run, self._journal)
            self.lines += self._journal.lines
        return self._storage

    def close(self) -> None:
        """Give a database's connections back, and forget what has been read."""
        close(self._storage)
        self._storage = None
        self._ended.clear()
