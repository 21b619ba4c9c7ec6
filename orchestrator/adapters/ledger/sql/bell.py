"""Has something come into the inbox, or out of it? PostgreSQL's NOTIFY, told to whoever waits on the loop.

One connection and thread of its own for each server. A bell that is not heard costs a second: whoever waits looks again
by itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import psycopg

PAUSE_S = 0.5
"""Between two tries to hear again."""


class Bell(threading.Thread):
    """Rings for every NOTIFY, for those who wait for its payload; lives on the loop that made it."""

    def __init__(self, connect: Callable[[], Any], channel: str) -> None:
        """`connect` gives a connection of the driver; starts to listen with `start`."""
        super().__init__(name="ledger-bell", daemon=True)
        self._connect, self._channel = connect, channel
        self._loop = asyncio.get_running_loop()
        self._rung: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._over = threading.Event()

    def next(self, payload: str) -> asyncio.Event:
        """What is set when it rings with this payload from now on, once."""
        return self._rung.setdefault(payload, asyncio.Event())

    def run(self) -> None:
        """Listen, again and again, until told to stop."""
        while not self._over.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {self._channel}")
                    while not self._over.is_set():
                        for note in connection.notifies(timeout=PAUSE_S, stop_after=1):
                            self._ring(note.payload)
            except psycopg.Error:
                self._over.wait(PAUSE_S)

    def stop(self) -> None:
        """Listen no more. Blocks for a moment."""
        self._over.set()
        self.join(5 * PAUSE_S)

    def _ring(self, payload: str) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, payload)

    def _wake(self, payload: str) -> None:
        if (rung := self._rung.pop(payload, None)) is not None:
            rung.set()
