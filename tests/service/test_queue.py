"""The arithmetic of the queue: who begins, and how many trials each may have."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotuning_tune.service.queue import Demand, Person, admit, fair, handed_on, order, recent

OWNERS = ("ann", "ben", "cid")


@st.composite
def _demands(draw: st.DrawFn, most: int = 6) -> list[Demand]:
    found = []
    for number in range(draw(st.integers(0, most))):
        least = draw(st.integers(1, 3))
        found.append(
            Demand(
                id=str(number),
                owner=draw(st.sampled_from(OWNERS)),
                cost=draw(st.sampled_from([0.25, 0.5, 1.0, 2.0])),
                least=least,
                most=least + draw(st.integers(0, 6)),
                priority=draw(st.integers(-1, 1)),
                since=draw(st.floats(0, 100)),
                running=draw(st.integers(0, 6)),
                share=draw(st.integers(0, 6)),
            )
        )
    return found


@st.composite
def _people(draw: st.DrawFn) -> dict[str, Person]:
    return {
        name: Person(
            name,
            weight=draw(st.sampled_from([0.5, 1.0, 2.0])),
            units=draw(st.sampled_from([2.0, 4.0, float("inf")])),
            runs=draw(st.sampled_from([1.0, 2.0, float("inf")])),
            used=draw(st.floats(0, 50)),
        )
        for name in OWNERS
    }


CAPACITY = st.sampled_from([1.0, 2.0, 4.0, 7.0, 16.0])


def _units(demands: list[Demand], given: dict[str, int]) -> float:
    return sum(given[one.id] * one.cost for one in demands)


@given(_demands(), _demands(), CAPACITY, _people())
def test_whoever_is_admitted_fits(
    queued: list[Demand], active: list[Demand], capacity: float, people: dict[str, Person]
) -> None:
    active = [dataclasses.replace(one, id=f"active{one.id}") for one in active]
    found = admit(queued, active, capacity, people)
    assert sorted([one.id for one in found.admitted] + [one.id for one, _ in found.waiting]) == sorted(
        one.id for one in queued
    )
    if found.admitted:
        assert sum(one.minimum for one in [*active, *found.admitted]) <= capacity + 1e-6
    for name, person in people.items():
        begun = [one for one in found.admitted if one.owner == name]
        if begun:
            own = [*begun, *(one for one in active if one.owner == name)]
            assert len(own) <= person.runs
            assert sum(one.minimum for one in own) <= person.units + 1e-6
    assert all(reason for _, reason in found.waiting)


@given(_demands(), CAPACITY, _people())
def test_nobody_is_overtaken_but_by_the_limits_of_an_owner(
    queued: list[Demand], capacity: float, people: dict[str, Person]
) -> None:
    found = admit(queued, [], capacity, people)
    admitted, blocked = {one.id for one in found.admitted}, False
    reasons = {one.id: reason for one, reason in found.waiting}
    for one in order(queued, people):
        assert not (blocked and one.id in admitted)
        blocked |= reasons.get(one.id, "").startswith("first in line")


@given(_demands(), CAPACITY, _people())
def test_shares_are_the_largest_least_ones(active: list[Demand], capacity: float, people: dict[str, Person]) -> None:
    shares = fair(active, capacity, people)
    assert all(one.least <= shares[one.id] <= one.most for one in active)
    if any(shares[one.id] > one.least for one in active):
        assert _units(active, shares) <= capacity + 1e-6
    used = {name: _units([one for one in active if one.owner == name], shares) for name in OWNERS}
    for poor in active:  # who could take one more trial is as well off as whoever got a further one, but for that one
        room = capacity - _units(active, shares) + 1e-9
        if shares[poor.id] >= poor.most or used[poor.owner] + poor.cost > people[poor.owner].units + 1e-9:
            continue
        assert poor.cost > room
        for rich in active:
            if shares[rich.id] > rich.least and rich.owner != poor.owner and rich.cost >= poor.cost:
                before = (used[rich.owner] - rich.cost) / people[rich.owner].weight
                assert before <= used[poor.owner] / people[poor.owner].weight + 1e-6


@given(_demands(), CAPACITY, _people())
def test_what_is_handed_on_is_free(active: list[Demand], capacity: float, people: dict[str, Person]) -> None:
    target = fair(active, capacity, people)
    now = handed_on(active, target, capacity)
    taken = sum(max(one.running, one.share) * one.cost for one in active)
    after = sum(max(now[one.id], one.running, one.share) * one.cost for one in active)
    assert all(now[one.id] <= target[one.id] for one in active)
    assert after <= max(capacity, taken) + 1e-6


@given(_demands(), CAPACITY, _people())
def test_the_target_is_reached_once_drivers_follow(
    active: list[Demand], capacity: float, people: dict[str, Person]
) -> None:
    target = fair(active, capacity, people)
    if _units(active, target) > capacity:
        return
    for _ in range(2):
        now = handed_on(active, target, capacity)
        active = [dataclasses.replace(one, share=now[one.id], running=now[one.id]) for one in active]
    assert now == target


def test_of_two_the_one_who_used_less_begins_first() -> None:
    people = {
        "ann": Person("ann", used=10.0),
        "ben": Person("ben", used=1.0),
        "cid": Person("cid", weight=100.0, used=50.0),
    }
    queued = [Demand(str(n), owner, since=n) for n, owner in enumerate(["ann", "ben", "cid", "ann"])]
    assert [one.owner for one in order(queued, people)] == ["cid", "ben", "ann", "ann"]
    queued[3] = dataclasses.replace(queued[3], priority=1)
    assert [one.id for one in order(queued, people)] == ["3", "2", "1", "0"]


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (Person("ann", runs=1), "ann may have 1 run(s) at once"),
        (Person("ann", units=1), "ann may use 1 at once"),
        (Person("ann", hours=5, month=5), "ann has used the 5 hours of this month"),
        (Person("ann", disk=1e9, stored=2e9), "ann's runs take 2.0 GB, and 1.0 GB are his limit: remove some"),
    ],
)
def test_a_limit_holds_its_owner_alone(person: Person, reason: str) -> None:
    people = {"ann": person, "ben": Person("ben")}
    queued = [Demand("a", "ann", since=1), Demand("b", "ben", since=2)]
    found = admit(queued, [Demand("x", "ann")], 4.0, people)
    assert [one.id for one in found.admitted] == ["b"]
    assert found.waiting == [(queued[0], reason)]


def test_use_is_halved_every_week() -> None:
    assert recent([(0.0, 8.0), (7 * 86400.0, 1.0)], 7 * 86400.0) == 5.0
