"""What the service forgets: events after a month, expired tokens. Never a folder, and no line of the audit."""

import sqlalchemy as sa

from cotuning_tune.service.store import Store
from cotuning_tune.service.tables import DELIVERY, EVENT, TOKEN

EVENTS_S = 30 * 86400.0


def sweep(store: Store, now: float) -> None:
    """Forget what is old; an event that a webhook still waits for stays until that has it."""
    with store.writing() as connection:
        connection.execute(TOKEN.delete().where(TOKEN.c.expires <= now))
        waiting = sa.select(DELIVERY.c.event).where(DELIVERY.c.state == "waiting")
        old = sa.select(EVENT.c.seq).where(EVENT.c.time <= now - EVENTS_S, EVENT.c.seq.not_in(waiting))
        connection.execute(DELIVERY.delete().where(DELIVERY.c.event.in_(old)))
        connection.execute(EVENT.delete().where(EVENT.c.seq.in_(old)))
