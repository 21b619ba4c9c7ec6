"""What does an exported ledger look like? JSON lines that a standard-library program can verify.

Written by `export` from a ledger's snapshot, read by `parse`; nothing else knows the format. Bodies are verbatim
text, so that their bytes are exact. The last line says how much there should be: a cut file is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeAlias

import msgspec
from msgspec import Struct

from orchestrator.core.chain import genesis

FORMAT = "orchestrator.dev/audit/v1"
_CITES = ("spec", "shape", "terms", "digest")
"""Fields of bodies that name a document."""


class NotAnExport(ValueError):
    """The lines are no whole export: the message says where and what to do."""


class Header(Struct, frozen=True, tag="header", tag_field="line"):
    """First line."""

    ledger: str
    format: str = FORMAT


class EventLine(Struct, frozen=True, tag="event", tag_field="line"):
    """One event; hashes and salt in hexadecimal, `at` in microseconds UTC; body null where it was redacted."""

    seq: int
    at: int
    kind: str
    project: str
    job: str
    salt: str
    body: str | None
    body_hash: str
    chain: str


class SpecLine(Struct, frozen=True, tag="spec", tag_field="line"):
    """A document that some event cites."""

    digest: str
    text: str


class RowLine(Struct, frozen=True, tag="row", tag_field="line"):
    """Where a job (or, job "", the ledger) stands at the head."""

    job: str
    project: str
    state: str
    live: bool
    body: str


class CounterLine(Struct, frozen=True, tag="counter", tag_field="line"):
    """A counter at the head."""

    name: str
    value: int


class End(Struct, frozen=True, tag="end", tag_field="line"):
    """Last line: how many events there are, and the chain's head."""

    events: int
    head: str


Line: TypeAlias = Header | EventLine | SpecLine | RowLine | CounterLine | End


class Export(Struct, frozen=True):
    """A whole export, parsed. Events in file order."""

    ledger: str
    events: tuple[EventLine, ...]
    specs: Mapping[str, bytes]
    rows: tuple[RowLine, ...]
    counters: Mapping[str, int]
    head: str


class _Event(Protocol):
    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def salt(self) -> bytes: ...
    @property
    def body_hash(self) -> bytes: ...
    @property
    def chain(self) -> bytes: ...


class _Row(Protocol):
    @property
    def job(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def live(self) -> bool: ...
    @property
    def body(self) -> bytes: ...


class Source(Protocol):
    """One moment of a ledger."""

    ledger_id: str

    def events(self) -> Iterator[_Event]:
        """All, in order."""
        ...

    def rows(self) -> Iterator[_Row]:
        """All, live or not."""
        ...

    def counters(self) -> Mapping[str, int]:
        """All."""
        ...

    def spec(self, digest: str) -> bytes | None:
        """A document."""
        ...


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def export(source: Source) -> Iterator[bytes]:
    """The lines of a ledger, each with its newline."""
    return (_encoder.encode(line) + b"\n" for line in lines(source))


def lines(source: Source) -> Iterator[Line]:
    """The lines of a ledger as values."""
    yield Header(source.ledger_id)
    cited: dict[str, None] = {}
    count, head = 0, genesis(source.ledger_id).hex()
    for event in source.events():
        line = _event_line(event)
        cited.update(dict.fromkeys(_cited(line.body)))
        count, head = count + 1, line.chain
        yield line
    yield from _documents(cited, source.spec)
    for row in source.rows():
        yield RowLine(row.job, row.project, row.state, row.live, row.body.decode())
    for name, value in sorted(source.counters().items()):
        yield CounterLine(name, value)
    yield End(count, head)


def _event_line(e: _Event) -> EventLine:
    body = None if e.body is None else e.body.decode()
    return EventLine(e.seq, e.at, e.kind, e.project, e.job, e.salt.hex(), body, e.body_hash.hex(), e.chain.hex())


def _cited(body: str | None) -> Iterator[str]:
    if body is None:
        return
    fields = msgspec.json.decode(body)
    for name in _CITES:
        digest = fields.get(name)
        if isinstance(digest, str) and len(digest) == 64:
            yield digest


def _documents(cited: Iterable[str], spec: Callable[[str], bytes | None]) -> Iterator[SpecLine]:
    for digest in cited:
        data = spec(digest)
        if data is not None:
            yield SpecLine(digest, data.decode())


def parse(text: Iterable[bytes]) -> Export:
    """An export from its lines; `NotAnExport` for anything but a whole one."""
    found: list[Line] = []
    for number, raw in enumerate(text, start=1):
        try:
            found.append(_decoder.decode(raw))
        except msgspec.DecodeError as wrong:
            raise NotAnExport(f"Line {number} is no line of an export: {wrong}. Export the ledger again.") from wrong
    return assemble(found)


def assemble(found: Iterable[Line]) -> Export:
    """An export from its lines as values; `NotAnExport` where header or end is missing or does not fit."""
    kept = list(found)
    if not kept or not isinstance(kept[0], Header) or kept[0].format != FORMAT:
        raise NotAnExport(f"The first line is no header of {FORMAT}. Use `orchestrator audit export` of this version.")
    events = tuple(line for line in kept if isinstance(line, EventLine))
    end = kept[-1]
    if not isinstance(end, End) or end.events != len(events):
        raise NotAnExport("The export is cut: its last line does not say what there is. Export the ledger again.")
    return Export(
        ledger=kept[0].ledger,
        events=events,
        specs={line.digest: line.text.encode() for line in kept if isinstance(line, SpecLine)},
        rows=tuple(line for line in kept if isinstance(line, RowLine)),
        counters={line.name: line.value for line in kept if isinstance(line, CounterLine)},
        head=end.head,
    )
