"""How good predictions are on a folder whose sub-folders are named after classes of the model; needs no torch."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, first_three
from cotuning_tune.base.tables import Table
from cotuning_tune.base.walk import BESIDE, sub_folders
from cotuning_tune.report.statistics import wilson_interval

MOST_CLASSES = 10  # of a whole table
PAIRS = 10  # of the most confused where there are more


@dataclass(frozen=True)
class Labelled:
    """What was predicted for the images of the folders that are classes: ``counts`` by (class, predicted class).

    ``folders``: classes of the model that have a folder; ``strange``: folders that are none; ``loose``: images beside
    the folders.
    """

    classes: Sequence[str]
    folders: Sequence[str]
    strange: Sequence[str]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    loose: list[str] = field(default_factory=list)

    def watched(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        """The lines of the table (header, then path and class first), which are counted as they pass."""
        yield next(rows)
        for row in rows:
            folder, _, rest = row[0].partition("/")
            label = unicodedata.normalize("NFC", folder)
            if not rest:
                self.loose.append(row[0])
            elif label in self.folders:
                self.counts[label, row[1]] += 1
            yield row

    @property
    def count(self) -> int:
        return self.counts.total()

    @property
    def right(self) -> int:
        return sum(number for (label, found), number in self.counts.items() if label == found)

    @property
    def absent(self) -> list[str]:
        """Classes of the model that have no folder."""
        return [name for name in self.classes if name not in self.folders]

    @property
    def confused(self) -> list[tuple[str, str, int]]:
        """Class, what it was taken for, and how often; the most frequent first."""
        wrong = [(*pair, number) for pair, number in self.counts.items() if pair[0] != pair[1]]
        return sorted(wrong, key=lambda one: (-one[2], one[0], one[1]))

    def lines(self) -> list[str]:
        """Accuracy with its interval, what was not counted, and the table of confusions."""
        low, high = (100 * end for end in wilson_interval(self.right, self.count))
        share = 100 * self.right / max(1, self.count)
        told = [
            f"accuracy {share:.2f} % ({self.right} of {self.count} images; {low:.1f} to {high:.1f} at 95 %, Wilson)"
        ]
        if self.strange:
            told.append(f"not counted, no class of the model: {first_three(self.strange)}")
        if self.loose:
            told.append(f"not counted, {BESIDE}: {first_three(self.loose)}")
        if self.absent:
            told.append(f"classes of the model without a folder: {first_three(self.absent)}")
        return told + ([table.markdown()] if (table := self._table()).rows else [])

    def _table(self) -> Table:
        if len(self.classes) <= MOST_CLASSES:
            rows = [[name, *(str(self.counts[name, found]) for found in self.classes)] for name in self.folders]
            return Table("confusion", "Confusion", ["folder \\ predicted", *self.classes], rows)
        rows = [[label, found, str(number)] for label, found, number in self.confused[:PAIRS]]
        return Table("confusion", "Most confused", ["folder (most confused)", "predicted", "images"], rows)

    def facts(self) -> dict[str, Any]:
        """The same as figures; every confusion."""
        return {
            "images": self.count,
            "right": self.right,
            "accuracy": 100 * self.right / max(1, self.count),
            "interval": [100 * end for end in wilson_interval(self.right, self.count)],
            "level": 0.95,
            "not_counted": list(self.strange),
            "beside": list(self.loose),
            "without_folder": self.absent,
            "confusions": [
                {"class": label, "predicted": found, "images": number}
                for (label, found), number in sorted(self.counts.items())
            ],
        }


def labelled(folder: Path, classes: Sequence[str]) -> Labelled | None:
    """For a folder of which at least one sub-folder is a class of the model; None for any other."""
    found = list(sub_folders(folder)) if folder.is_dir() else []
    folders = [name for name in classes if name in found]
    return Labelled(classes, folders, [name for name in found if name not in classes]) if folders else None


def needed(folder: Path, classes: Sequence[str]) -> Labelled:
    """As ``labelled``. Raises UserError where no sub-folder is a class of the model."""
    if (found := labelled(folder, classes)) is None:
        raise UserError(f"--json: no folder in {folder} is a class of the model ({first_three(classes)})")
    return found
