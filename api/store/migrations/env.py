"""Runs the migrations on the connection that `api.store.migrate` hands over; imports Alembic."""

from alembic import context

from api.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
