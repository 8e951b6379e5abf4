"""Aimed kills of a run in a folder, in a PostgreSQL that is restarted under load, and on two hosts by turns.

    python -m tests.chaos.places --json benchmarks/results/chaos-aimed.json     (part of make chaos)

Of the two hosts, which share a file system, one has a clock that is an hour ahead; the driver on one dies, and the one
on the other takes over; a driver that is started while the other one works must leave it alone. Ends with code 1 where
anything is lost, twice or unequal, or the test split was opened without a line of the ledger. What is not possible
here (no PostgreSQL, no namespaces) is said and left out.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.chaos.aimed import SHORT, WHOLE, Aim, AimedStorm, undisturbed
from tests.chaos.storm import Outcome
from tests.hosts.bed import Host, bed
from tests.servers import Database, postgresql_server

AHEAD_S = 3600
HOSTS = [
    Aim("search.stored:StoredStudy.draw", 3),
    Aim("search.study:OptunaStudy.end_as", 2, "training.state:write_state"),
    Aim("search.stored:StoredStudy.report", 3),
    Aim("run.ledger:append", 3, "training.seed:SeedJob._keep"),
    Aim("retrain:_write_result", 2),
    Aim("pipeline.road:_report"),
]
REFUSED = 2


def in_a_folder(folder: Path) -> Outcome:
    """The studies in the run's journal."""
    calm = undisturbed(folder / "calm", 2)
    storm = AimedStorm(folder / "storm")
    storm.suffer(WHOLE)
    return storm.aimed_outcome("aimed", calm)


def in_a_database(folder: Path) -> Outcome:
    """The database is stopped and started under each driver, a moment after it has begun to work."""
    calm = undisturbed(folder / "calm", 0, trials=8)
    with postgresql_server() as database:
        storm = AimedStorm(folder / "storm", 8, words=["--optuna-storage", str(database)])
        storm.under_load = lambda: _restart(database)
        storm.suffer(SHORT)
        return storm.aimed_outcome("database", calm)


def _restart(database: Database) -> None:
    database.stop()
    database.start()


class Turns(AimedStorm):
    """Its drivers run on the hosts by turns; the second one's clock is ahead."""

    def on(self, hosts: list[Host]) -> "Turns":
        self.turns: Iterator[tuple[Host, int]] = itertools.cycle(zip(hosts, (0, AHEAD_S), strict=True))
        return self

    def asked(self, verb: str, **environment: str) -> subprocess.Popen[bytes]:
        host, ahead = next(self.turns)
        self.inside = host.inside
        return super().asked(verb, **{**self.counted, **environment, "SECONDS_AHEAD": str(ahead)})

    def rename(self) -> None:
        """The folder keeps its name: what a host left behind may still be at work."""

    def compete(self) -> None:
        """A driver on the other host finds this one at work, and leaves it alone."""
        first = self.asked("resume")
        assert self.wait_for_work(first, 1)
        assert self.asked("resume").wait(300) == REFUSED, self.said()
        first.kill()
        first.wait()


def on_two_hosts(folder: Path) -> Outcome:
    """Take-overs between two hosts, and a rival."""
    calm = undisturbed(folder / "calm", 0, trials=8)
    with bed(2) as hosts:
        storm = Turns(folder / "storm", 8).on(hosts)
        for aim in HOSTS[:3]:
            storm.step(aim)
        storm.compete()
        storm.suffer(HOSTS[3:])
        return storm.aimed_outcome("two hosts", calm)


PLACES = {"folder": in_a_folder, "database": in_a_database, "hosts": on_two_hosts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PLACES, action="append", help="one of the places")
    parser.add_argument("--json", type=Path, help="where to write the outcomes")
    options = parser.parse_args()
    outcomes = []
    for name in options.only or PLACES:
        with tempfile.TemporaryDirectory(prefix="storm") as folder:
            try:
                outcomes.append(PLACES[name](Path(folder)))
            except pytest.skip.Exception as reason:
                print(reason, flush=True)
                continue
            print(outcomes[-1].line(), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=2) + "\n")
    return 0 if all(o.good for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
