"""Who may write? SQLite: whoever has the file's lock. PostgreSQL: whoever holds the lease, checked in every append.

Called by `writer` inside its transactions, and by `ledger` to renew and to resign. The lease is one row: term, holder,
the last sequence number, and until when by the database's own clock. Every transaction of the writer moves that row by
compare-and-set on term and sequence, so what a deposed leader still sends is refused whole, however late it comes.
"""

from __future__ import annotations

import os
from typing import Protocol

from sqlalchemy import Connection, text

from orchestrator.adapters.ledger.sql import statements
from orchestrator.ports.ledger import Deposed, LedgerLocked

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_TAKE = text(
    f"UPDATE lead SET term = term + 1, holder = :holder, expires = {_NOW} + :life "
    f"WHERE id = 1 AND (holder = :holder OR expires < {_NOW}) RETURNING term"
)
_END = text("UPDATE lead SET seq = (SELECT coalesce(max(seq), 0) FROM events) WHERE id = 1")
_RENEW = text(f"UPDATE lead SET expires = {_NOW} + :life WHERE id = 1 AND term = :term AND holder = :holder")
_RESIGN = text("UPDATE lead SET expires = 0 WHERE id = 1 AND term = :term AND holder = :holder")
_CLAIM = "UPDATE lead SET seq = %s WHERE id = 1 AND term = %s AND holder = %s AND seq = %s"
_WAIT = text("SELECT seq FROM lead WHERE id = 1 FOR UPDATE")


class Lead(Protocol):
    """How one server is the only one that writes."""

    @property
    def life_us(self) -> int | None:
        """How long a lead lasts after it was taken or renewed; None: as long as the process."""
        ...

    def take(self, connection: Connection) -> int:
        """A term higher than any before; `LedgerLocked` while another server leads."""
        ...

    def settle(self, connection: Connection) -> None:
        """Wait until no transaction of an earlier connection is under way any more."""
        ...

    def claim(self, connection: Connection, before: int, after: int) -> None:
        """Move the ledger's end from one sequence number to another, or `Deposed`."""
        ...

    def renew(self, connection: Connection) -> None:
        """Hold on for another life, or `Deposed`."""
        ...

    def resign(self, connection: Connection) -> None:
        """Let another server lead at once."""
        ...


class Lock:
    """The file's lock was taken when the ledger was opened, and lasts as long as the process."""

    life_us = None

    def take(self, connection: Connection) -> int:
        """One more than the last."""
        term = int(connection.execute(text("SELECT value FROM meta WHERE name = 'term'")).scalar() or 0) + 1
        statements.put(connection, statements.META, [("term", str(term))])
        return term

    def settle(self, connection: Connection) -> None:
        """Nobody else writes."""

    def claim(self, connection: Connection, before: int, after: int) -> None:
        """Nobody else writes."""

    def renew(self, connection: Connection) -> None:
        """Lasts."""

    def resign(self, connection: Connection) -> None:
        """The lock is let go with the ledger."""


class Lease:
    """The row of `lead`, for a life of so many microseconds at a time."""

    def __init__(self, life_us: int) -> None:
        """Holds nothing yet."""
        self.life_us = life_us
        self._holder = os.urandom(8).hex()
        self.term = 0

    def take(self, connection: Connection) -> int:
        """Take a lease that is free, over or ours."""
        term = connection.execute(_TAKE, {"holder": self._holder, "life": self.life_us}).scalar()
        if term is None:
            raise LedgerLocked(
                "Another server leads on this database. It takes wishes and answers questions; this one leads when "
                "that one is gone."
            )
        connection.execute(_END)  # a statement of its own: the one above may have waited, and sees what was before
        self.term = int(term)
        return self.term

    def settle(self, connection: Connection) -> None:
        """Every append holds the row until it is decided: whoever gets it sees what became of them."""
        connection.execute(_WAIT)

    def claim(self, connection: Connection, before: int, after: int) -> None:
        """Compare-and-set on the sequence, under our term."""
        done = connection.exec_driver_sql(_CLAIM, (after, self.term, self._holder, before))
        if done.rowcount != 1:
            raise Deposed(
                f"This server does not lead any more (its term was {self.term or 'none'}), or the ledger no longer "
                f"ends at {before}: nothing of the batch was kept. Read the ledger again before anything else."
            )

    def renew(self, connection: Connection) -> None:
        """Good also for a lease that is over, as long as nobody took it."""
        if connection.execute(_RENEW, self._mine()).rowcount != 1:
            raise Deposed(f"Another server leads: the lease of term {self.term} was not renewed in time.")

    def resign(self, connection: Connection) -> None:
        """The lease is over, if it is ours."""
        connection.execute(_RESIGN, {"term": self.term, "holder": self._holder})

    def _mine(self) -> dict[str, object]:
        return {"life": self.life_us, "term": self.term, "holder": self._holder}
