"""Where was a stream when it broke, and what does its next request say? Shared by both clients; no I/O.

A stream that broke is asked for again from where it was, so a server may restart under a reader.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import TypeAlias

from httpx_sse import ServerSentEvent

from orchestrator.model.documents.views import EventView
from orchestrator.sdk.operations import Call

SILENCE_S = 45.0
"""A stream that is silent for longer is asked for anew: event streams are pinged each 15 s."""


class EventCursor:
    """A place among the events of one job, or of all (job None)."""

    def __init__(self, job: str | None, after: int, follow: bool) -> None:
        self.job, self.after, self.follow = job, after, follow

    def call(self) -> Call:
        """The request that goes on from here."""
        path = f"/v1/jobs/{self.job}/events" if self.job else "/v1/events"
        return Call("GET", path, {"after": self.after, "follow": self.follow}, {"Accept": "text/event-stream"})

    def take(self, sent: ServerSentEvent) -> EventView:
        """The event that came."""
        view = EventView.model_validate_json(sent.data)
        self.after = view.seq
        return view


class OutputCursor:
    """A place in a job's output, in bytes."""

    def __init__(self, job: str, follow: bool) -> None:
        self.job, self.offset, self.follow = job, 0, follow

    def call(self) -> Call:
        """The request that goes on from here."""
        return Call("GET", f"/v1/jobs/{self.job}/logs", {"offset": self.offset, "follow": self.follow})

    def take(self, chunk: bytes) -> bytes:
        """The bytes that came."""
        self.offset += len(chunk)
        return chunk


Cursor: TypeAlias = EventCursor | OutputCursor


class Lines:
    """Bytes in, whole lines of text out; what is no UTF-8 is shown as �."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The lines that this chunk completes, without their ends."""
        *lines, self._rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        yield from lines

    def end(self) -> Iterator[str]:
        """The last line, if it had no end."""
        if rest := self._rest + self._decoder.decode(b"", final=True):
            yield rest
