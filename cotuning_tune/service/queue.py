"""Who may begin, and how many trials each may have at a time. Pure arithmetic over what is known at a moment.

Searches are elastic: a run that has begun gets more or fewer trials as others come and go, and nothing is killed for
it. Shares are weighted max-min: over the owners first, then over the runs of an owner, never below a run's least.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from cotuning_tune.base.tables import size

HALF_LIFE_S = 7 * 86400.0
EPSILON = 1e-9


@dataclass(frozen=True)
class Person:
    """An owner: the weight of his share and his limits; ``used``: his recent hours of a unit, halved every week.

    ``units``: GPUs (cores without) at once; ``runs`` at once; ``hours``: of a unit in a month, of which ``month`` are
    used; ``disk``: bytes of his runs' folders, of which ``stored`` lie there; inf: no limit.
    """

    name: str
    weight: float = 1.0
    units: float = inf
    runs: float = inf
    hours: float = inf
    used: float = 0.0
    month: float = 0.0
    disk: float = inf
    stored: float = 0.0


@dataclass(frozen=True)
class Demand:
    """A run: what one trial of it takes (``cost``, in units), the fewest and most trials at a time, and since when it
    waits or works. ``running``: trials that run now; ``share``: the number that its driver follows."""

    id: str
    owner: str
    cost: float = 1.0
    least: int = 1
    most: int = 1
    priority: int = 0
    since: float = 0.0
    running: int = 0
    share: int = 0
    name: str = ""

    @property
    def minimum(self) -> float:
        """Units without which it does not begin."""
        return self.least * self.cost


@dataclass(frozen=True)
class Admission:
    """``admitted``: the runs to start now, in order; ``waiting``: the others in order, each with why it waits."""

    admitted: list[Demand] = field(default_factory=list)
    waiting: list[tuple[Demand, str]] = field(default_factory=list)


def recent(uses: Iterable[tuple[float, float]], now: float) -> float:
    """Hours, each halved for every week since its time: ``(time, hours)``."""
    return sum(hours * 0.5 ** ((now - time) / HALF_LIFE_S) for time, hours in uses)


def order(queued: Iterable[Demand], people: Mapping[str, Person]) -> list[Demand]:
    """The queue: by priority, then the least recent use for the owner's weight, then age."""

    def rank(one: Demand) -> tuple[float, float, float, str]:
        owner = people[one.owner]
        return -one.priority, owner.used / owner.weight, one.since, one.id

    return sorted(queued, key=rank)


def admit(
    queued: Sequence[Demand], active: Sequence[Demand], capacity: float, people: Mapping[str, Person]
) -> Admission:
    """Begin while the minima fit. The first that does not fit blocks those behind it, so that nobody starves; one that
    only its owner's limit holds is passed by."""
    found, begun = Admission(), list(active)
    blocking: Demand | None = None
    for one in order(queued, people):
        owner = people[one.owner]
        if one.minimum > capacity + EPSILON:
            found.waiting.append((one, f"needs {one.minimum:g} at once, there are {capacity:g}"))
        elif limit := _limit(one, owner, [other for other in begun if other.owner == one.owner]):
            found.waiting.append((one, limit))
        elif blocking:
            found.waiting.append((one, f"behind {blocking.name or blocking.id}, which waits for its least share"))
        elif (free := capacity - sum(other.minimum for other in begun)) + EPSILON < one.minimum:
            blocking = one
            least = f"{len(begun)} run(s) hold their least shares"
            found.waiting.append((one, f"first in line: needs {one.minimum:g} of {capacity:g}, {free:g} free; {least}"))
        else:
            begun.append(one)
            found.admitted.append(one)
    return found


def _limit(one: Demand, owner: Person, own: Sequence[Demand]) -> str:
    """Which limit of its owner holds a run; '' for none."""
    if len(own) + 1 > owner.runs:
        return f"{owner.name} may have {owner.runs:g} run(s) at once"
    if sum(other.minimum for other in own) + one.minimum > owner.units + EPSILON:
        return f"{owner.name} may use {owner.units:g} at once"
    if owner.month >= owner.hours:
        return f"{owner.name} has used the {owner.hours:g} hours of this month"
    if owner.stored >= owner.disk:
        return f"{owner.name}'s runs take {size(owner.stored)}, and {size(owner.disk)} are his limit: remove some"
    return ""


def fair(active: Sequence[Demand], capacity: float, people: Mapping[str, Person]) -> dict[str, int]:
    """Trials at a time by run: each its least, then one after another to whoever has least for his weight."""
    given = {one.id: one.least for one in active}
    by_owner = {name: [one for one in active if one.owner == name] for name in {one.owner for one in active}}
    open_to = {one.id: one for one in active if one.least < one.most}

    def units(ones: Iterable[Demand]) -> float:
        return sum(given[one.id] * one.cost for one in ones)

    while open_to:
        free = capacity - units(active)

        def rank(one: Demand) -> tuple[float, float, float, str]:
            owner = people[one.owner]
            return units(by_owner[one.owner]) / owner.weight, given[one.id] * one.cost, one.since, one.id

        one = min(open_to.values(), key=rank)
        allowed = people[one.owner].units - units(by_owner[one.owner])
        if given[one.id] < one.most and one.cost <= min(free, allowed) + EPSILON:
            given[one.id] += 1
        else:
            del open_to[one.id]
    return given


def handed_on(active: Sequence[Demand], target: Mapping[str, int], capacity: float) -> dict[str, int]:
    """What may be given out now of the ``target``: a share that was lowered is handed on only once it is freed.

    Who has too many keeps what runs until it ends; who has too few gets what is free of it. In all, trials that run
    and trials that may start never take more than the capacity (but for what ran above it before).
    """
    taken = {one.id: max(one.running, one.share) for one in active}
    given = {one.id: min(target[one.id], taken[one.id]) for one in active}
    held = sum(taken[one.id] * one.cost for one in active)
    for one in sorted(active, key=lambda one: (given[one.id] * one.cost, one.since, one.id)):
        while given[one.id] < target[one.id] and held + one.cost <= capacity + EPSILON:
            given[one.id] += 1
            held += one.cost
    return given
