"""What a figure is: one view for each task at a rate, and one over all of them."""

from dataclasses import dataclass, field
from typing import Any, Literal

from cotuning_tune.report.results import StudyResult

ALL = "all"
Kind = Literal["curves", "points", "shares", "parallel", "relations"]
Views = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """An axis with its unit in the label; ``log``: logarithmic, with zeros at its left end; ``whole``: of counts."""

    label: str
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Series:
    """The points of one method, x ascending where a line joins them."""

    method: str
    x: list[float]
    y: list[float]

    @classmethod
    def of(cls, method: str, points: list[tuple[float, float]]) -> "Series":
        """The series of points (x, y) in any order."""
        ordered = sorted(points)
        return cls(method, [x for x, _ in ordered], [y for _, y in ordered])


@dataclass(frozen=True)
class Figure:
    """``views`` by name of the task at its rate, and ``ALL``: a list of ``Series`` where ``kind`` is
    curves or points; shares, axes with rows, or lists of related classes elsewhere.

    ``steps``: between two points the first one's value holds. ``diagonal``: draw y = x. ``y_of_all``: the
    label of y where the view ``ALL`` shows something else.
    """

    name: str
    title: str
    caption: str
    kind: Kind
    x: Axis
    y: Axis
    views: Views = field(default_factory=dict)
    steps: bool = False
    diagonal: bool = False
    y_of_all: str = ""

    @property
    def has_content(self) -> bool:
        """Whether any view has a point, a row or a share."""
        return any(one.x if isinstance(one, Series) else one for view in self.views.values() for one in view)


def by_view(studies: list[StudyResult]) -> dict[str, list[StudyResult]]:
    """The studies of each task at a rate, one per method."""
    found: dict[str, list[StudyResult]] = {}
    for study in studies:
        found.setdefault(study.setting, []).append(study)
    return found


def by_method(studies: list[StudyResult]) -> dict[str, list[StudyResult]]:
    """The studies of each method, in the experiment's order."""
    found: dict[str, list[StudyResult]] = {}
    for study in studies:
        found.setdefault(study.method, []).append(study)
    return found
