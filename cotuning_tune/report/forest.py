"""The picture beside the answer: each model's test score with its interval, the one to take marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cotuning_tune.scores import Metric

TICKS = 5  # at most about so many


@dataclass(frozen=True)
class Row:
    """A model: its test score and, where it is known, the interval of its score on new examples (95 %)."""

    name: str
    score: float
    interval: tuple[float, float] | None
    taken: bool = False


@dataclass(frozen=True)
class Forest:
    """The models of a setting under one axis; ``title``: the setting ('': the run has one)."""

    title: str
    metric: Metric
    rows: Sequence[Row]

    @property
    def ticks(self) -> list[float]:
        """Round values that cover all rows, the outermost of them beyond."""
        values = [value for row in self.rows for value in (row.score, *(row.interval or ()))]
        low, high = min(values), max(values)
        rough = (high - low) / (TICKS - 1) or abs(high) / 10 or 1.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))
        first, last = math.floor(low / step), math.ceil(high / step)
        return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]

    def at(self, value: float) -> str:
        """Where a value stands on the axis, in percent of its length."""
        ticks = self.ticks
        return f"{100 * (value - ticks[0]) / (ticks[-1] - ticks[0]):.2f}%"

    def text(self, row: Row) -> str:
        """What a row shows, in words."""
        digits = self.metric.rough
        told = f"{row.name}: {row.score:.{digits}f}{self.metric.unit}"
        return f"{told} ({' to '.join(f'{end:.{digits}f}' for end in row.interval)})" if row.interval else told
