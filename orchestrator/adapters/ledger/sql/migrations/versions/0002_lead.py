"""Who leads: one row with term, holder and the last sequence number. Used on PostgreSQL; SQLite has its file's lock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Nobody leads yet."""
    op.create_table(
        "lead",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("holder", _TEXT, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("seq", _SEQ, nullable=False),
    )
    op.execute("INSERT INTO lead SELECT 1, 0, '', 0, coalesce(max(seq), 0) FROM events")
