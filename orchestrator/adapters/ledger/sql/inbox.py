"""Wishes on their way to the leader: a table beside the ledger (`ports.inbox`), on PostgreSQL alone.

Made by `ledger`. A wish is taken once a term, by that term's leader alone; the replies of an ex-leader are refused with
the commit that they are in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection, text

from orchestrator.ports.inbox import Wished

if TYPE_CHECKING:  # the driver is an extra
    from orchestrator.adapters.ledger.sql.bell import Bell

T = TypeVar("T")
CHANNEL = "orchestrator"
_NOTIFY = f"NOTIFY {CHANNEL}"
_TELL = f"SELECT pg_notify('{CHANNEL}', wish::text) FROM unnest(%b::bigint[]) AS f(wish)"
_LOOK_S = 1.0
"""Between two looks when no bell rings."""
_KEPT_US = 3_600_000_000
"""How long a reply waits for somebody who does not ask any more."""
_PUT = text("INSERT INTO inbox (kind, body, taken, tries, at) VALUES (:kind, :body, 0, 0, :at) RETURNING id")
_REPLY = text("DELETE FROM inbox WHERE id = :id AND reply IS NOT NULL RETURNING reply")
_WITHDRAW = text("DELETE FROM inbox WHERE id = :id AND taken = 0 AND reply IS NULL RETURNING id")
_TAKE = text(
    "UPDATE inbox SET taken = lead.term, tries = tries + 1 FROM lead WHERE lead.id = 1 AND lead.term = :term "
    "AND taken < :term AND reply IS NULL RETURNING inbox.id, kind, body, tries"
)
_OLD = text("DELETE FROM inbox WHERE reply IS NOT NULL AND at < :at")
_REPLIES = (
    "UPDATE inbox SET reply = f.reply FROM unnest(%b::bigint[], %b::bytea[]) AS f(id, reply) WHERE inbox.id = f.id"
)
_CLOCK = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class Asking(Protocol):
    """Runs one piece of database work on a thread, in a transaction of its own."""

    def __call__(self, act: Callable[[Connection], T]) -> Awaitable[T]:
        """What the work gives."""
        ...


def write_replies(connection: Connection, replies: Sequence[tuple[int, bytes]]) -> None:
    """Reply to wishes in the transaction that grants them."""
    connection.exec_driver_sql(_REPLIES, ([wish for wish, _ in replies], [reply for _, reply in replies]))
    connection.exec_driver_sql(_TELL, ([wish for wish, _ in replies],))


async def heard(rung: asyncio.Event, patience_s: float) -> None:
    """Until it rings, or for so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await rung.wait()


class SqlInbox:
    """The table, as one server sees it."""

    def __init__(self, ask: Asking, bell: Bell, term: Callable[[], int]) -> None:
        """`term`: of our own lead, 0 before it."""
        self._ask, self._bell, self._term = ask, bell, term

    async def put(self, kind: str, body: bytes) -> int:
        """Insert, commit, ring."""

        def there(connection: Connection) -> int:
            values = {"kind": kind, "body": body, "at": connection.execute(_CLOCK).scalar_one()}
            wish = int(connection.execute(_PUT, values).scalar_one())
            connection.exec_driver_sql(_NOTIFY)
            return wish

        return await self._ask(there)

    async def reply(self, wish: int, patience_s: float) -> bytes | None:
        """Look at each ring of its own."""

        def there(connection: Connection) -> Any:
            return connection.execute(_REPLY, {"id": wish}).scalar()

        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            rung = self._bell.next(str(wish))  # before the look: a ring between the two is not lost
            found, left = await self._ask(there), until - loop.time()
            if found is not None or left <= 0:
                return None if found is None else bytes(found)
            await heard(rung, min(_LOOK_S, left))

    async def withdraw(self, wish: int) -> bool:
        """Delete what nobody has taken."""

        def there(connection: Connection) -> bool:
            return connection.execute(_WITHDRAW, {"id": wish}).scalar() is not None

        return await self._ask(there)

    async def take(self) -> Sequence[Wished]:
        """Mark with our term; replies that nobody fetched for long go."""

        def there(connection: Connection) -> list[Wished]:
            connection.execute(_OLD, {"at": connection.execute(_CLOCK).scalar_one() - _KEPT_US})
            taken = connection.execute(_TAKE, {"term": self._term()})
            return sorted(
                (Wished(wish, kind, bytes(body), tries) for wish, kind, body, tries in taken), key=lambda w: w.id
            )

        return await self._ask(there)

    async def wait(self, patience_s: float) -> None:
        """The bell."""
        await heard(self._bell.next(""), patience_s)
