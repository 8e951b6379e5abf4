"""A creating request counts once, however often it comes: its key (Idempotency-Key) and its answer are remembered."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from cotuning_tune.service.people import Actor, hashed
from cotuning_tune.service.problems import Problem
from cotuning_tune.service.store import Store
from cotuning_tune.service.tables import IDEMPOTENCY

KEPT_S = 7 * 86400.0


def once(
    store: Store,
    actor: Actor,
    key: str,
    asked: Mapping[str, object],
    make: Callable[[], dict[str, Any]],
    now: float,
    *secret: str,
) -> dict[str, Any]:
    """What ``make`` gives; for the same ``key`` (Idempotency-Key) with the same ``asked`` what it gave then.

    All in one transaction. Names in ``secret`` are not kept: a repeated answer has null there. Raises Problem where
    the key came with another request.
    """
    body = hashed(json.dumps(asked, sort_keys=True))
    with store.writing() as connection:
        if found := answered(connection, actor, key, body):
            return found
        answer = make()
        keep_answer(connection, actor, key, body, 201, answer | dict.fromkeys(secret), now)
        return answer


def answered(connection: sa.Connection, actor: Actor, key: str, body: str) -> dict[str, Any] | None:
    """The answer that a request with this key was given. Raises Problem where its body was another one."""
    if not key:
        return None
    if len(key) > 200:
        raise Problem("the Idempotency-Key is too long", "200 characters are possible", key="Idempotency-Key")
    where = sa.and_(IDEMPOTENCY.c.user == actor.name, IDEMPOTENCY.c.key == key)
    found = connection.execute(sa.select(IDEMPOTENCY).where(where)).mappings().first()
    if found is None:
        return None
    if found["body"] != body:
        raise Problem(
            "this Idempotency-Key came with another request", "take a new key for each", key="Idempotency-Key"
        )
    return dict(found["answer"])


def keep_answer(
    connection: sa.Connection, actor: Actor, key: str, body: str, status: int, answer: Mapping[str, Any], now: float
) -> None:
    """Remember the answer to a request with a key, in its own transaction; forget those that are old."""
    if key:
        connection.execute(IDEMPOTENCY.delete().where(IDEMPOTENCY.c.time < now - KEPT_S))
        row = {"user": actor.name, "key": key, "body": body, "status": status, "answer": dict(answer), "time": now}
        connection.execute(IDEMPOTENCY.insert().values(**row))
