"""What is asked of the service about runs: submitting, listing, changing, ending. Each in one transaction with its
event and its line of the audit; who may do it is decided here, whichever door it comes by."""

import base64
import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.names import check_name
from cotuning_tune.service.once import answered, keep_answer
from cotuning_tune.service.people import Actor, hashed
from cotuning_tune.service.problems import Changed, Problem, TooLarge, Unknown, WrongState
from cotuning_tune.service.reconciler import changed, known
from cotuning_tune.service.settings import Settings
from cotuning_tune.service.states import AT_WORK, ENDED, Wanted, wish
from cotuning_tune.service.store import Store, audit, tell
from cotuning_tune.service.tables import ATTEMPT, EVENT, RUN, USER

MOST_BYTES = 64 * 1024  # of an experiment
PAGE, MOST_PAGE = 50, 200
SLIM = [column for column in RUN.c if column.name not in ("experiment", "content", "backoff_until", "progress")]
LABELS, LABEL = 20, 100


@dataclass(frozen=True)
class Checked:
    """What the check of an experiment has found: what its list shows, and what the queue has to know.

    ``trials`` of each study (0: as many as the ``hours`` give); ``gpus`` and ``cpus`` of a trial, by what a backend
    counts; ``text``: the experiment with the paths of its data made absolute; ``content``: all that is to be shown.
    """

    trials: int
    gpus: float
    cpus: float
    text: str = ""
    hours: float = 0.0
    content: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A run that is asked for; ``least`` and ``most``: trials at a time (most 0: as many as there are)."""

    experiment: str
    name: str
    backend: str = ""
    least: int = 1
    most: int = 0
    priority: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    private: bool = False

    def __post_init__(self) -> None:
        if len(self.experiment.encode()) > MOST_BYTES:
            raise TooLarge(
                f"the experiment has more than {MOST_BYTES // 1024} KiB", "data belong into files of their own"
            )
        check_name(self.name, "the run's name", key="name")
        _check_numbers(self.least, self.most, self.priority)
        check_labels(self.labels)


def _check_numbers(least: int, most: int, priority: int) -> None:
    if least < 1 or (most and most < least):
        raise Problem(
            f"{least} to {most} trials at a time", "at least 1, and no fewer at most than at least", key="most"
        )
    if max(least, most) > 100_000:
        raise Problem("more than 100000 trials at a time", "name a smaller number", key="most")
    if priority not in (-1, 0, 1):
        raise Problem(f"priority = {priority}", "-1 (low), 0 and 1 (high) are possible", key="priority")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises Problem for labels that are too many or too long."""
    if len(labels) > LABELS or any(len(k) > LABEL or len(v) > LABEL for k, v in labels.items()):
        raise Problem(
            "the labels are too many or too long", f"{LABELS} of {LABEL} characters are possible", key="labels"
        )


class Runs:
    """The verbs on runs. ``check``: looks at an experiment's text, raises Problem; ``wake`` tells the reconciler."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        check: Callable[[str, str], Checked],
        wake: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.settings, self.check, self.wake, self.now = store, settings, check, wake, now

    def submit(self, actor: Actor, asked: Submission, key: str = "") -> dict[str, Any]:
        """A new run, queued. The same ``key`` (Idempotency-Key) with the same body gives the same run.

        Raises Refused for a viewer, and for priority without permission; WrongState for a name that is taken; Problem.
        """
        actor.require("member")
        body = hashed(json.dumps(dataclasses.asdict(asked), sort_keys=True))
        with self.store.reading() as connection:
            if found := answered(connection, actor, key, body):
                return found
        backend = self.settings.backend(asked.backend)
        checked = self.check(asked.experiment, asked.name)
        cost = checked.gpus if backend.counts == "gpus" else checked.cpus
        folder = self.settings.folder(actor.name, asked.name)
        now, identity = self.now(), secrets.token_hex(6)
        with self.store.writing() as connection:
            if found := answered(connection, actor, key, body):
                return found
            self._check_rights(connection, actor, asked.priority, asked.name)
            if connection.execute(sa.select(RUN.c.id).where(RUN.c.folder == str(folder))).first():
                raise WrongState(f"you have a run {asked.name}", "choose another name, or extend that one", key="name")
            row = dataclasses.asdict(asked) | {"id": identity, "owner": actor.name, "folder": str(folder)}
            row |= {"backend": backend.name, "most": asked.most or None, "labels": dict(asked.labels)}
            row |= {
                "experiment": checked.text or asked.experiment,
                "content": {**checked.content, "trials": checked.trials, "hours": checked.hours},
                "cost": cost,
                "state": "queued",
                "summary": {},
                "created": now,
                "changed": now,
                "since": now,
            }
            connection.execute(RUN.insert().values(**row))
            tell(connection, now, identity, "submitted", {"name": asked.name, "owner": actor.name})
            audit(connection, now, actor.name, "submit", identity, name=asked.name, backend=backend.name)
            answer = self._run(connection, actor, identity)
            keep_answer(connection, actor, key, body, 201, answer, now)
        self.wake()
        return answer

    def _check_rights(self, connection: sa.Connection, actor: Actor, priority: int, name: str) -> None:
        user = connection.execute(sa.select(USER).where(USER.c.name == actor.name)).mappings().one()
        if priority > 0 and not (user["high"] or actor.may("operator")):
            raise Problem("priority = 1 takes a permission", "leave it out, or ask an admin", key="priority")

    def _run(self, connection: sa.Connection, actor: Actor, identity: str) -> dict[str, Any]:
        run = connection.execute(sa.select(RUN).where(RUN.c.id == identity)).mappings().first()
        if run is None or not actor.sees(run):
            raise Unknown(f"there is no run {identity[:40]}", "GET /api/v1/runs lists those you may see")
        return dict(run)

    def get(self, actor: Actor, identity: str) -> dict[str, Any]:
        """All of a run, with its attempts. Raises Unknown."""
        with self.store.reading() as connection:
            run = self._run(connection, actor, identity)
            query = sa.select(ATTEMPT).where(ATTEMPT.c.run == identity).order_by(ATTEMPT.c.number)
            return run | {"tag": tag_of(run), "attempts": [dict(row) for row in connection.execute(query).mappings()]}

    def listed(
        self, actor: Actor, *, cursor: str = "", limit: int = PAGE, archived: bool = False, **wanted: str
    ) -> dict[str, Any]:
        """Runs, the newest first: ``runs``, and the ``next`` cursor, '' at the end.

        ``wanted``: owner, state, label (``KEY=VALUE``), text (in name, owner or reason). Raises Problem.
        """
        if not 1 <= limit <= MOST_PAGE:
            raise Problem(f"limit = {limit}", f"1 to {MOST_PAGE} are possible", key="limit")
        query = sa.select(*SLIM).order_by(RUN.c.seq.desc())
        label = wanted.pop("label", "")
        query = query.where(*_wheres(actor, cursor, archived=archived, **wanted))
        with self.store.reading() as connection:
            found: list[dict[str, Any]] = []
            for row in connection.execution_options(stream_results=True).execute(query).mappings():
                if not label or _labelled(row["labels"], label):
                    found.append(dict(row))
                if len(found) > limit:
                    break
        more = len(found) > limit
        found = found[:limit]
        return {"runs": found, "next": _cursor(found[-1]["seq"]) if more else ""}

    def queue(self, actor: Actor) -> list[dict[str, Any]]:
        """Runs that wait or work, by the order in which they were asked for."""
        with self.store.reading() as connection:
            query = sa.select(*SLIM).where(RUN.c.state.in_(("queued", *AT_WORK)), ~RUN.c.archived).order_by(RUN.c.seq)
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [run if actor.sees(run) else _masked(run) for run in rows]

    def wish(self, actor: Actor, identity: str, wanted: Wanted) -> dict[str, Any]:
        """Pause, resume (``run``) or cancel; repeating changes nothing. Raises WrongState, Unknown, Refused."""
        verb = {"run": "resume", "pause": "pause", "cancel": "cancel"}[wanted]

        def change(run: dict[str, Any]) -> dict[str, Any]:
            after = wish(known(run), wanted)
            if after is None:
                raise WrongState(f"{run['name']} is {run['state']}: it cannot be told to {verb}")
            return dataclasses.asdict(after)

        return self._change(actor, identity, verb, change)

    def patch(
        self,
        actor: Actor,
        identity: str,
        *,
        tag: str = "",
        trials: int | None = None,
        least: int | None = None,
        most: int | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        private: bool | None = None,
    ) -> dict[str, Any]:
        """Change a run; ``trials``: how many each study shall have in all, at least as many as now.

        ``tag``: raises Changed where it is another one now (If-Match). Raises WrongState, Unknown, Refused and Problem
        too.
        """
        asked = {"trials": trials, "least": least, "most": most, "priority": priority, "private": private}
        if labels is not None:
            check_labels(labels)
            asked["labels"] = dict(labels)  # type: ignore[assignment]
        given = {name: value for name, value in asked.items() if value is not None}

        def change(run: dict[str, Any]) -> dict[str, Any]:
            if tag and tag_of(run) != tag:
                raise Changed(f"{run['name']} has been changed since", "read it again")
            after = {**run, **given}
            _check_numbers(after["least"], after["most"] or 0, after["priority"])
            return (
                given
                | (self._extended(run, trials) if trials is not None else {})
                | ({"most": None} if most == 0 else {})
            )

        def rights(connection: sa.Connection, run: dict[str, Any]) -> None:
            if priority is not None and priority > run["priority"]:
                self._check_rights(connection, actor, priority, run["name"])

        return self._change(actor, identity, "change", change, rights, **given)

    def _extended(self, run: dict[str, Any], trials: int) -> dict[str, Any]:
        before = run["trials"] or run["content"]["trials"]
        if not before:
            raise WrongState(f"{run['name']} has as many trials as its hours give", "it grows by hours alone")
        if trials < before:
            raise Problem(f"trials = {trials}", f"each study has {before} already: a run only grows", key="trials")
        if trials > 1_000_000:
            raise Problem(f"trials = {trials}", "1000000 are possible", key="trials")
        if run["state"] == "cancelled":
            raise WrongState(f"{run['name']} is cancelled", "resume it first")
        if trials == before:
            return {}
        ended = run["state"] in ENDED
        return {"trials": trials} | ({"state": "queued", "failures": 0, "reason": ""} if ended else {})

    def archive(self, actor: Actor, identity: str, *, purge: bool = False) -> dict[str, Any]:
        """Out of the lists; with ``purge`` the folder goes, and its name is free. Raises WrongState before its end."""
        folders: list[str] = []

        def change(run: dict[str, Any]) -> dict[str, Any]:
            if run["state"] not in ENDED:
                raise WrongState(f"{run['name']} is {run['state']}", "cancel it first")
            folders.append(run["folder"])
            return {"archived": True} | ({"folder": f"purged/{identity}"} if purge else {})

        run = self._change(actor, identity, "purge" if purge else "archive", change)
        if purge and not folders[0].startswith("purged/"):
            self.settings.remove(Path(folders[0]))
        return run

    def _change(
        self,
        actor: Actor,
        identity: str,
        action: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        rights: Callable[[sa.Connection, dict[str, Any]], None] = lambda connection, run: None,
        **said: object,
    ) -> dict[str, Any]:
        """Change a run in one transaction; what is so already is left alone."""
        with self.store.writing() as connection:
            run = self._run(connection, actor, identity)
            actor.check_changes(run)
            if run["archived"] and action not in ("archive", "purge"):
                raise WrongState(f"{run['name']} is archived", "submit another one like it")
            rights(connection, run)
            changes = {name: value for name, value in change(run).items() if run[name] != value}
            if changes:
                changed(connection, run, changes, self.now())
                tell(connection, self.now(), identity, action, {"by": actor.name})
                audit(connection, self.now(), actor.name, action, identity, **said)
        self.wake()
        return run

    def events(self, actor: Actor, after: int, limit: int = 500, run: str = "") -> tuple[list[dict[str, Any]], int]:
        """Events after a number, of runs that he sees, and the number to ask from next."""
        rows = self.told(after, limit, run)
        last = rows[-1]["seq"] if rows else after
        return [shown_event(row) for row in rows if actor.sees(row)], last

    def told(self, after: int, limit: int = 500, run: str = "") -> list[dict[str, Any]]:
        """Events after a number, each with its run's ``owner``, and whether that is ``private``."""
        with self.store.reading() as connection:
            query = sa.select(EVENT, RUN.c.owner, RUN.c.private).join(RUN, RUN.c.id == EVENT.c.run)
            query = query.where(EVENT.c.seq > after, *([EVENT.c.run == run] if run else []))
            return [dict(row) for row in connection.execute(query.order_by(EVENT.c.seq).limit(limit)).mappings()]

    def progress(self, since: float) -> list[dict[str, Any]]:
        """Of runs at work that were changed since then, the figures of their summaries, with owner and privacy."""
        shown = (RUN.c.id, RUN.c.owner, RUN.c.private, RUN.c.state, RUN.c.share, RUN.c.summary)
        with self.store.reading() as connection:
            query = sa.select(*shown).where(RUN.c.changed >= since, RUN.c.state.in_(AT_WORK))
            return [dict(row) for row in connection.execute(query).mappings()]

    def kept_events(self) -> tuple[int, int]:
        """The numbers of the oldest and the newest event that are kept; 0 where there is none."""
        with self.store.reading() as connection:
            ends = sa.select(sa.func.min(EVENT.c.seq), sa.func.max(EVENT.c.seq))
            oldest, newest = connection.execute(ends).one()
            return int(oldest or 0), int(newest or 0)


def tag_of(run: Mapping[str, Any]) -> str:
    """Changes with what people change of a run, and not with its progress."""
    asked = ("trials", "least", "most", "priority", "labels", "private", "wanted", "archived")
    return hashed(json.dumps([run[name] for name in asked], sort_keys=True))[:16]


def shown_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event as those see it who may see its run."""
    return {name: row[name] for name in ("seq", "time", "run", "kind", "content")}


def _masked(run: dict[str, Any]) -> dict[str, Any]:
    """What the queue says of a run that is not for the eyes of who asks: that it is there, and what it takes."""
    shown = ("seq", "owner", "state", "least", "most", "cost", "share", "priority", "created", "since", "backend")
    return {name: run[name] for name in shown} | {"id": "", "name": "(private)", "waits": ""}


def _wheres(
    actor: Actor, cursor: str, *, archived: bool, owner: str = "", state: str = "", text: str = ""
) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [RUN.c.archived == archived]
    if not actor.may("operator"):
        found.append(sa.or_(~RUN.c.private, RUN.c.owner == actor.name))
    if cursor:
        found.append(RUN.c.seq < _seq(cursor))
    if owner:
        found.append(RUN.c.owner == owner)
    if state:
        found.append(RUN.c.state == state)
    if text:
        likes = [column.icontains(text, autoescape=True) for column in (RUN.c.name, RUN.c.owner, RUN.c.reason)]
        found.append(sa.or_(*likes))
    return found


def _labelled(labels: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"r{seq}".encode()).decode().rstrip("=")


def _seq(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if not (text[:1] == "r" and text[1:].isdigit() and len(text) < 18):
            raise ValueError(text)
        return int(text[1:])
    except ValueError:
        raise Problem("this cursor is none of the service's", "begin without one", key="cursor") from None


def refuse(problem: UserError) -> Problem:
    """A mistake of the user's as the problem of a request."""
    return problem if isinstance(problem, Problem) else Problem(str(problem), key=problem.key)
