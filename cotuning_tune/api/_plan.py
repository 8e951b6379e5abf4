"""What an experiment will cost."""

from dataclasses import dataclass
from typing import Any

from cotuning_tune.api._frame import frame
from cotuning_tune.base.console import duration
from cotuning_tune.plan import Plan as Made
from cotuning_tune.plan.write import lines_of, missing_lines, plan_json


@dataclass(frozen=True, repr=False)
class Plan:
    """What one search of an experiment will cost, in all; hours are None where no speed was measured or given.

    ``made``: every figure as the rest of the package has it.
    """

    made: Made

    @property
    def trials(self) -> int:
        return self.made.trials

    @property
    def retrainings(self) -> int:
        return self.made.seeds

    @property
    def concurrent_trials(self) -> int:
        """How many trainings run at a time."""
        return self.made.concurrency.trials

    @property
    def hours(self) -> float | None:
        """From start to report, with that many trainings at a time."""
        return self.made.wall_s / 3600 if self.made.speeds else None

    @property
    def trial_hours(self) -> float | None:
        """Of all trainings, one after the other; GPU-hours where each has a GPU of its own."""
        made = self.made
        return (made.search_s(made.studies) + made.retrain_s(made.studies)) / 3600 if made.speeds else None

    @property
    def memory_bytes(self) -> int | None:
        """Of the largest training; None where it was not measured."""
        return self.made.memory or None

    @property
    def cache_bytes(self) -> int:
        """Of decoded images, each data set once."""
        return self.made.cache

    @property
    def model_bytes(self) -> int:
        """Of the models that are kept in the end."""
        return self.made.models

    @property
    def missing(self) -> list[str]:
        """What must be got before the run can start, and from where."""
        return missing_lines(self.made)

    @property
    def lines(self) -> list[str]:
        """What ``cotuning-tune plan`` prints below its table."""
        return [*lines_of(self.made), *self.made.notes]

    def studies(self) -> Any:
        """A row a study: its examples, steps of a training, seconds of a trial, a seed and the set-up, trial-hours."""
        rows = []
        for cost in self.made.studies:
            study, parts, known = cost.study, cost.parts, bool(self.made.speeds)
            seconds = {"trial_s": cost.trial_s, "seed_s": cost.seed_s, "setup_s": cost.setup_s}
            seconds["hours"] = (self.made.search_s([cost]) + self.made.retrain_s([cost])) / 3600
            rows.append(
                {"task": study.task, "rate": study.rate, "method": study.method, "study": study.name}
                | ({"backbone": study.backbone} if study.backbone else {})
                | {"train": parts.train, "val": parts.val, "test": parts.test, "steps": cost.steps}
                | {key: value if known else None for key, value in seconds.items()}
            )
        return frame(rows)

    def to_json(self) -> dict[str, Any]:
        """Every figure, as ``cotuning-tune plan --json`` prints them."""
        return plan_json(self.made)

    def __repr__(self) -> str:
        took = f", {duration(3600 * self.hours)} with {self.concurrent_trials} at a time" if self.hours else ""
        return f"Plan({self.made.experiment.name!r}, {self.trials} trials + {self.retrainings} retrainings{took})"
