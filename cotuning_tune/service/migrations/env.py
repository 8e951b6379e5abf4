"""Alembic runs this: migrate by the connection that ``upgrade`` has opened."""

from alembic import context

from cotuning_tune.service.tables import META

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=META,
    render_as_batch=True,
    transaction_per_migration=False,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
