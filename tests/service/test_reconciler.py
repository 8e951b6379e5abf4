"""The reconciler in a made-up world: whatever dies whenever, no run is lost and none is driven twice."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cotuning_tune.base.endings import FAILED, UNFINISHED
from cotuning_tune.service.asked import Submission
from cotuning_tune.service.people import change_user
from cotuning_tune.service.problems import WrongState
from cotuning_tune.service.reconciler import SIZES_S, Reconciler
from cotuning_tune.service.states import ENDED
from tests.service.world import Death, HookedStore, World, people_in, runs_in, settings_in

NUMBERS = st.integers(0, 2)


class Storm(RuleBasedStateMachine):
    """Runs of two people, drivers that die, a service that dies, a storage that goes away."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.settings = settings_in(Path(self.folder.name), 3.0)
        self.time, self.world = 1e9, World(3.0)
        self.store = HookedStore(self.settings.database)
        self.people = people_in(self.store, ann="member", ben="member")
        self.runs = runs_in(self.store, self.settings, lambda: self.time)
        self.reconciler = Reconciler(self.store, self.world, lambda: self.time)
        self.identities: list[str] = []
        self.given_up: set[str] = set()

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self.settle()
        finally:
            self.reconciler.stop()
            self.store.close()
            self.folder.cleanup()

    def settle(self) -> None:
        """Everything is there again: each run reaches what is wanted of it."""
        self.world.slow = False
        self.world.arrive()
        for life in self.world.lives.values():
            life.away = False
        for _ in range(60):
            self.time += 700.0
            self.reconciler.round()
            for identity in self.identities:
                self.world.work(identity)
        for identity in self.identities:
            run = self.row(identity)
            done = {"run": "done", "pause": "paused", "cancel": "cancelled"}[run["wanted"]]
            assert run["state"] in (done, "done") or (run["state"] == "failed" and identity in self.given_up), run
            assert (run["state"] == "done") <= (self.world.lives[identity].progress >= 4)
            assert self.world.lives[identity].alive is None

    def row(self, identity: str) -> dict[str, object]:
        return self.runs.get(self.people["ann"], identity)

    @precondition(lambda self: len(self.identities) < 3)
    @rule(who=st.sampled_from(["ann", "ben"]), most=st.integers(1, 3))
    def submit(self, who: str, most: int) -> None:
        asked = Submission(experiment="", name=f"run{len(self.identities)}", most=most)
        self.identities.append(self.runs.submit(self.people[who], asked)["id"])

    @rule()
    def look(self) -> None:
        self.reconciler.round()

    @rule(steps=st.integers(0, 12))
    def die(self, steps: int) -> None:
        """The service is killed at that step of a round, and starts again."""
        left = steps

        def hook(where: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Death(where)

        self.world.hook = self.store.hook = hook
        try:
            self.reconciler.round()
        except Death:
            pass
        finally:
            self.world.hook = self.store.hook = lambda where: None
        self.reconciler.stop()
        self.reconciler = Reconciler(self.store, self.world, lambda: self.time)

    @precondition(lambda self: self.identities)
    @rule(number=NUMBERS)
    def work(self, number: int) -> None:
        self.world.work(self.identities[number % len(self.identities)])

    @precondition(lambda self: self.world.lives)
    @rule(number=NUMBERS, code=st.sampled_from([None, None, UNFINISHED, FAILED]))
    def end_driver(self, number: int, code: int | None) -> None:
        """A driver is killed (None), or says that it has to stop, or that it failed."""
        identity, life = list(self.world.lives.items())[number % len(self.world.lives)]
        if life.alive is not None:
            self.given_up.add(identity)  # it may fail for good: by its own word, or by five deaths in a row
            life.end(code)

    @precondition(lambda self: self.world.lives)
    @rule(number=NUMBERS)
    def person(self, number: int) -> None:
        """A person drives the run by the command line, or is done with it."""
        life = list(self.world.lives.values())[number % len(self.world.lives)]
        if life.alive is None and life.progress < life.needed:
            life.person = not life.person

    @precondition(lambda self: self.world.lives)
    @rule(number=NUMBERS)
    def away(self, number: int) -> None:
        life = list(self.world.lives.values())[number % len(self.world.lives)]
        life.away = not life.away

    @precondition(lambda self: self.identities)
    @rule(number=NUMBERS, wanted=st.sampled_from(["run", "pause", "cancel"]))
    def wish(self, number: int, wanted: str) -> None:
        run = self.row(self.identities[number % len(self.identities)])
        try:
            first = self.runs.wish(self.people[run["owner"]], run["id"], wanted)
            again = self.runs.wish(self.people[run["owner"]], run["id"], wanted)
        except WrongState:
            assert run["state"] in ENDED
        else:
            assert first["version"] == again["version"]

    @rule()
    def slow_starts(self) -> None:
        """Starts take a while from now on, or arrive at last."""
        self.world.slow = not self.world.slow
        if not self.world.slow:
            self.world.arrive()

    @rule(seconds=st.sampled_from([1.0, 15.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    @invariant()
    def never_doubled(self) -> None:
        if hasattr(self, "world"):
            assert self.world.doubles == 0
            assert len(self.world.started) == len(set(self.world.started))

    @invariant()
    def nothing_works_on_what_has_ended(self) -> None:
        if hasattr(self, "world"):
            for identity in self.identities:
                alive = self.world.lives.get(identity) and self.world.lives[identity].alive
                assert not (alive and self.row(identity)["state"] in ("cancelled", "paused", "queued"))

    @invariant()
    def never_more_than_there_is(self) -> None:
        if hasattr(self, "world"):
            assert sum(life.follows for life in self.world.lives.values() if life.locked) <= 3


TestStorm = Storm.TestCase
TestStorm.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def here(tmp_path: Path):
    """World, verbs and reconciler over two people."""
    given = settings_in(tmp_path)
    store, world = HookedStore(given.database), World()
    people = people_in(store, ann="member", ben="member", eve="viewer", root="admin")
    clock = [1e9]
    reconciler = Reconciler(store, world, lambda: clock[0])
    yield world, runs_in(store, given, lambda: clock[0]), reconciler, people, clock
    reconciler.stop()
    store.close()


def test_a_driver_that_dies_again_and_again_fails_in_the_end(here) -> None:
    world, runs, reconciler, people, clock = here
    run = runs.submit(people["ann"], Submission(experiment="", name="a"))
    for _ in range(40):
        reconciler.round()
        if world.lives[run["id"]].alive:
            world.lives[run["id"]].end(None)
        clock[0] += 700
    found = runs.get(people["ann"], run["id"])
    assert (found["state"], found["attempt"], found["failures"]) == ("failed", 5, 5)
    assert found["reason"] == "5 times without a new epoch: the driver was killed, or its machine has gone"
    assert [one["state"] for one in found["attempts"]] == ["interrupted"] * 4 + ["failed"]


def test_an_epoch_between_deaths_counts_anew(here) -> None:
    world, runs, reconciler, people, clock = here
    run = runs.submit(people["ann"], Submission(experiment="", name="a"))
    reconciler.round()
    world.lives[run["id"]].needed = 1000
    for _ in range(12):
        world.work(run["id"])
        world.lives[run["id"]].end(None)
        for _ in range(2):
            reconciler.round()
            clock[0] += 700
        reconciler.round()
    assert runs.get(people["ann"], run["id"])["attempt"] == 13


def test_what_is_away_is_neither_started_nor_ended(here) -> None:
    world, runs, reconciler, people, clock = here
    run = runs.submit(people["ann"], Submission(experiment="", name="a"))
    reconciler.round()
    world.work(run["id"])
    reconciler.round()
    world.lives[run["id"]].away = True
    world.lives[run["id"]].end(None)
    runs.wish(people["ann"], run["id"], "pause")
    for _ in range(5):
        reconciler.round()
        clock[0] += 700
    found = runs.get(people["ann"], run["id"])
    assert (found["state"], found["unreachable_since"]) == ("running", 1e9)
    assert len(world.started) == 1


def test_a_lowered_share_is_handed_on_once_it_is_freed(here) -> None:
    world, runs, reconciler, people, _clock = here
    first = runs.submit(people["ann"], Submission(experiment="", name="a"))["id"]
    reconciler.round()
    world.lives[first].needed = 1000
    world.work(first)
    reconciler.round()
    assert world.lives[first].share == 4
    second = runs.submit(people["ben"], Submission(experiment="", name="b"))["id"]
    reconciler.round()
    assert (world.lives[first].share, world.lives[second].share) == (2, 0)  # the first one's driver still has four
    world.work(second)
    assert world.lives[second].progress == 0
    world.work(first)
    reconciler.round()
    assert (world.lives[first].share, world.lives[second].share) == (2, 2)


@pytest.mark.parametrize(("wanted", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_start_that_is_on_its_way_is_forestalled(here, wanted: str, state: str) -> None:
    world, runs, reconciler, people, _clock = here
    world.slow = True
    run = runs.submit(people["ann"], Submission(experiment="", name="a"))["id"]
    reconciler.round()
    runs.wish(people["ann"], run, wanted)
    for _ in range(3):
        reconciler.round()
    assert runs.get(people["ann"], run)["state"] == state
    world.arrive()
    assert world.lives[run].alive is None


def test_whoever_fills_the_disk_waits(here) -> None:
    world, runs, reconciler, people, clock = here
    first = runs.submit(people["ann"], Submission(experiment="", name="a"))["id"]
    for _ in range(8):
        reconciler.round()
        world.work(first)
    change_user(runs.store, people["root"], "ann", clock[0], disk=1000)
    world.bytes[first] = 2000
    second = runs.submit(people["ann"], Submission(experiment="", name="b"))["id"]
    third = runs.submit(people["ben"], Submission(experiment="", name="c"))["id"]
    clock[0] += SIZES_S + 1
    reconciler.round()
    found = {run: runs.get(people["root"], run) for run in (second, third)}
    assert [run["state"] for run in found.values()] == ["queued", "starting"]
    assert found[second]["waits"].startswith("ann's runs take 2")
    world.bytes[first] = 500
    clock[0] += SIZES_S + 1
    reconciler.round()
    assert runs.get(people["root"], second)["state"] == "starting"


def test_hours_are_whole_though_rarely_written(here) -> None:
    """Twenty-five rounds a second apart write an attempt's hours two or three times; the sum misses nothing."""
    world, runs, reconciler, people, clock = here
    run = runs.submit(people["ann"], Submission(experiment="", name="a"))
    reconciler.round()
    world.lives[run["id"]].needed = 1000
    for _ in range(2):  # it has its share
        clock[0] += 10
        reconciler.round()
    written, start = 0, clock[0]
    hours = before = runs.get(people["ann"], run["id"])["attempts"][0]["hours"]
    for _ in range(25):
        clock[0] += 1
        reconciler.round()
        attempt = runs.get(people["ann"], run["id"])["attempts"][0]
        written, hours = written + (attempt["hours"] != hours), attempt["hours"]
    assert 2 <= written <= 3
    clock[0] += 10
    reconciler.round()
    attempt = runs.get(people["ann"], run["id"])["attempts"][0]
    assert attempt["hours"] - before == pytest.approx((clock[0] - start) / 3600 * attempt["units"])
