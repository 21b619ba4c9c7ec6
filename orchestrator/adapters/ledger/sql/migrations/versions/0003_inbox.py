"""Wishes that another server than the leader has taken in. Used on PostgreSQL; SQLite serves one server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Empty."""
    op.create_table(
        "inbox",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("taken", sa.BigInteger, nullable=False),
        sa.Column("reply", sa.LargeBinary, nullable=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
