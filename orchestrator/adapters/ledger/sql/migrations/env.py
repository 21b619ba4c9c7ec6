"""Alembic's entry: run the missing steps on the connection that `schema.upgrade` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from orchestrator.adapters.ledger.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
