"""The desk: what a front (HTTP API, demo, benchmark) may ask of a server, whether it leads or follows.

Implemented by `engine.desk` (of one that leads) and `engine.follower`; called by `api`. Wishes are durable when the
call returns; reads are projections and change nothing. Errors: `Conflict` (same idempotency key, other body),
`UnknownJob`, `Refused` (bad wish, says why), `Mistaken` (a slip of its author's), `Busy` (back-pressure: try again
after `retry_after_s`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from orchestrator.model.capacity import Block
from orchestrator.model.job import JobRow, LedgerRow
from orchestrator.model.offer import Answer, OfferOut
from orchestrator.model.record import Record
from orchestrator.ports.access import Access
from orchestrator.ports.ledger import StoredEvent


class DeskError(Exception):
    """A wish could not be granted."""


class UnknownJob(DeskError):
    """No such job in this project."""


class Conflict(DeskError):
    """The idempotency key was used with another body; `job` is the id of the job that it made."""

    def __init__(self, message: str, job: str) -> None:
        super().__init__(message)
        self.job = job


class Refused(DeskError):
    """The wish makes no sense now; the message says whose fault and what to do."""


class Mistaken(DeskError):
    """What was said names something that is not there, or not agreed; nothing was kept. It says which field."""


class NothingRuns(DeskError):
    """No attempt of the job is held by a provider now: there is nothing to get at."""


class NoShell(DeskError):
    """The job's provider gives no way into what runs there."""


class UnknownOffer(DeskError):
    """No such offer to this provider."""


class Busy(DeskError):
    """Too much at once; nothing was kept."""

    retry_after_s: float = 1.0


class Submission(Struct, frozen=True, kw_only=True):
    """A validated job, ready for the ledger."""

    project: str
    document: bytes
    """Canonical bytes of the TrainingJob; their sha256 is the spec digest."""
    key: str = ""
    """Idempotency key; empty: none."""
    by: str = ""


class Visit(Struct, frozen=True, kw_only=True):
    """Somebody wants to get at a running job. What is written down of it is here, and nothing else."""

    job: str
    by: str
    what: str
    """exec | logs | dump | forward"""
    rank: int | None = None
    """None: every rank."""
    name: str = ""
    """The command's name without its arguments, or the port."""


class Entered(Struct, frozen=True):
    """The way in, once it is written down who goes."""

    access: Access
    key: str
    """The launch that runs."""


class Outcome(Struct, frozen=True):
    """What became of an answer that was given by hand."""

    offer: str
    what: str
    """accepted | declined | closed (it came too late: evidence, nothing else)"""
    reason: str = ""
    """Why a yes was taken for a no: counter, price, region, spec."""


class ProviderStatus(Struct, frozen=True, kw_only=True):
    """How a provider looks from here."""

    name: str
    reachable: bool
    since: int
    """Microseconds UTC since when it is so."""
    open_offers: int
    active_attempts: int
    detail: str = ""


class Progress(Struct, frozen=True, kw_only=True):
    """What user code last reported, read from beside the run log; never in the ledger."""

    epoch: int
    step: int | None = None
    loss: str | None = None
    checkpoint_step: int | None = None
    at: int | None = None


class Desk(Protocol):
    """A server as its fronts see it."""

    async def submit(self, wish: Submission) -> tuple[JobRow, bool]:
        """Take a job in; (row, created). The same key and body again gives the same job and False."""
        ...

    async def cancel(self, job: str, by: str) -> JobRow:
        """Ask for the job's end; idempotent."""
        ...

    async def resume(self, job: str, by: str) -> JobRow:
        """Let a held job go on; `Refused` if it is not held."""
        ...

    async def scale(self, job: str, workers: int, least: int, by: str) -> tuple[JobRow, bool]:
        """Give the job another number of workers, `least` (0: all) to `workers`; (row, whether that is a change).

        What runs with none of these is asked to save and stop. `Refused` if the job has ended or is ending, is
        divisible, or runs in owned capacity.
        """
        ...

    async def amend(self, document: bytes, by: str) -> LedgerRow:
        """Let a contract set (canonical bytes) take effect; gives what is in force. The same again changes nothing."""
        ...

    async def own(self, blocks: tuple[Block, ...], by: str) -> LedgerRow:
        """Let these blocks of owned capacity, and no others, take effect; the same again changes nothing.

        `DocumentError`, and nothing of it is kept, where somebody else has a right to what a block is prolonged by.
        """
        ...

    async def record(self, record: Record) -> Record:
        """Put something on record; what decisions know from then on, with its id. `UnknownJob`, `Refused`."""
        ...

    async def enter(self, visit: Visit) -> Entered:
        """Write down who goes in where, then give the way; `NothingRuns`, `NoShell`."""
        ...

    async def open_offers(self, provider: str) -> Sequence[OfferOut]:
        """What waits for the word of a provider that answers by hand, as it left us; `Refused` for any other."""
        ...

    async def answer(self, provider: str, said: Answer) -> Outcome:
        """A provider's people answer; durable, and the same answer again changes nothing. `UnknownOffer`, `Refused`."""
        ...

    async def job(self, job: str) -> JobRow:
        """Where the job stands, live or archived."""
        ...

    async def jobs(
        self, project: str | None, states: Sequence[str], limit: int, before: str | None
    ) -> Sequence[JobRow]:
        """Newest first."""
        ...

    async def in_force(self) -> LedgerRow:
        """The ledger's own row: which contract set and provider set decide now, who leads, absences."""
        ...

    async def taken(self) -> Mapping[str, int] | None:
        """GPUs that are offered or in use, by the refs of the blocks that are owned; None: nobody here knows."""
        ...

    async def ending(self, row: JobRow) -> bool:
        """Whether the job is over and something of it may be left: no provider that had it has said otherwise yet."""
        ...

    async def head(self) -> int:
        """Sequence number of the newest event; 0: nothing happened yet."""
        ...

    async def documents(self, digests: Collection[str]) -> Mapping[str, bytes]:
        """By their digests what events or rows cite: job, contract set, provider set, terms, shape. In one read; what
        is not there is left out."""
        ...

    def events(self, job: str | None, after: int, follow: bool) -> AsyncIterator[StoredEvent]:
        """Events of one job (or all) after a sequence number; `follow` goes on until the job ended (or for ever)."""
        ...

    async def notices(self, row: JobRow) -> Sequence[str]:
        """Sentences on what to know of a job besides where it stands; empty for most."""
        ...

    async def readable(self, row: JobRow) -> None:
        """Raises `runlog.results.StoreUnavailable` where the job's output cannot be read now."""
        ...

    def logs(self, job: str, follow: bool) -> AsyncIterator[bytes]:
        """Output of user code over all attempts, in order, as shipped beside the run log."""
        ...

    async def progress(self, job: str) -> Progress | None:
        """The latest report of the running (or last) attempt."""
        ...

    async def providers(self) -> Sequence[ProviderStatus]:
        """All providers in file order."""
        ...

    async def check_providers(self) -> dict[str, Sequence[str]]:
        """Per provider what is missing, with remedies."""
        ...

    async def check_stores(self) -> dict[str, Sequence[str]]:
        """Per checkpoint store what is missing, with remedies; each is read now."""
        ...

    async def ready(self) -> str | None:
        """None when ready to serve; else why not."""
        ...
