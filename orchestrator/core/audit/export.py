"""What does an exported ledger look like? JSON lines that a standard-library program can verify.

Written by `export` from a ledger's snapshot, read by `parse` and, from outside, by `orchestrator.verify`. Bodies are
verbatim text, so that their bytes are exact. Every line ends with a sum of itself, so that damage is named; the last
says how much there should be: a cut file is refused. Rows and counters are a convenience, no evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from orchestrator.core.audit.redact import Disclosure
from orchestrator.core.chain import genesis

FORMAT = "orchestrator.dev/audit/v1"
_CITES = ("spec", "shape", "terms", "digest", "next")
"""Fields of bodies that name a document."""
Hex: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*\Z")]
LedgerId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class NotAnExport(ValueError):
    """The lines are no whole export: the message says where and what to do."""


class Header(Struct, frozen=True, tag="header", tag_field="line"):
    """First line."""

    ledger: LedgerId
    format: str = FORMAT


class EventLine(Struct, frozen=True, tag="event", tag_field="line"):
    """One event; hashes and salt in hexadecimal, `at` in microseconds UTC; redacted: body null, salt empty."""

    seq: int
    at: int
    kind: str
    project: str
    job: str
    salt: Hex
    body: str | None
    body_hash: Hex
    chain: Hex


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


def export(source: Source, disclosed: Disclosure | None = None) -> Iterator[bytes]:
    """The lines of a ledger, each with its sum and newline; without what `disclosed` does not show."""
    return (sealed(_encoder.encode(line)) for line in lines(source, disclosed))


def sealed(line: bytes) -> bytes:
    """A line with its sum and newline."""
    return line[:-1] + b',"sum":"' + hashlib.sha256(line).hexdigest()[:16].encode() + b'"}\n'


def lines(source: Source, disclosed: Disclosure | None = None) -> Iterator[Line]:
    """The lines of a ledger as values; None: everything is disclosed."""
    yield Header(source.ledger_id)
    cited: dict[str, None] = {}
    hidden: set[str] = set()
    count, head = 0, genesis(source.ledger_id).hex()
    for event in source.events():
        fields = None if event.body is None else msgspec.json.decode(event.body)
        shown = fields is not None and (disclosed is None or disclosed.shows(event.job, fields))
        line = _event_line(event, shown)
        if not shown or fields is None:
            hidden.add(event.job)
        elif disclosed is None or event.job:
            cited.update(dict.fromkeys(_cited(fields)))
        count, head = count + 1, line.chain
        yield line
    yield from _documents(cited, source.spec)
    if disclosed is None:
        yield from _projections(source, hidden)
    yield End(count, head)


def _event_line(e: _Event, shown: bool) -> EventLine:
    body, salt = (e.body.decode(), e.salt.hex()) if shown and e.body is not None else (None, "")
    return EventLine(e.seq, e.at, e.kind, e.project, e.job, salt, body, e.body_hash.hex(), e.chain.hex())


def _projections(source: Source, hidden: set[str]) -> Iterator[Line]:
    """Where everything stands; of a job with a redacted body its row would tell what was redacted."""
    for row in source.rows():
        if row.job not in hidden:
            yield RowLine(row.job, row.project, row.state, row.live, row.body.decode())
    for name, value in sorted(source.counters().items()):
        yield CounterLine(name, value)


def _cited(fields: Mapping[str, Any]) -> Iterator[str]:
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
