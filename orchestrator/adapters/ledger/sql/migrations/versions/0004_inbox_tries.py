"""In how many terms a wish was taken, so that one which ends servers is not taken for ever."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """What lies there counts from here on."""
    op.add_column("inbox", sa.Column("tries", sa.BigInteger, nullable=False, server_default="0"))
