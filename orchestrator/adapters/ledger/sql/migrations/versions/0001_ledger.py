"""The first ledger: events with their chain, bodies, documents, rows, counters, keys, presence, meta."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Create everything; a ledger is never downgraded."""
    _append_only()
    _projections()
    _server()


def _append_only() -> None:
    op.create_table(
        "events",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("project", _TEXT, nullable=False),
        sa.Column("job", _TEXT, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("chain", sa.LargeBinary, nullable=False),
    )
    op.create_index("events_of_job", "events", ["job", "seq"])
    op.create_table(
        "bodies",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "specs",
        sa.Column("digest", _TEXT, primary_key=True),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
    )


def _projections() -> None:
    op.create_table(
        "jobs_live",
        sa.Column("job", _TEXT, primary_key=True),
        sa.Column("project", _TEXT, nullable=False),
        sa.Column("state", _TEXT, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("applied_seq", _SEQ, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    live = sa.text("live")
    op.create_index("jobs_live_only", "jobs_live", ["job"], sqlite_where=live, postgresql_where=live)
    op.create_table(
        "counters",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )


def _server() -> None:
    op.create_table(
        "keys",
        sa.Column("project", _TEXT, primary_key=True),
        sa.Column("key", _TEXT, primary_key=True),
        sa.Column("body_digest", _TEXT, nullable=False),
        sa.Column("job", _TEXT, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "presence",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "meta",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("value", _TEXT, nullable=False),
    )
