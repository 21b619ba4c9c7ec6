"""What does a front see, without an engine behind it? A desk in memory whose jobs live the lives that a test tells.

Called by tests of the HTTP API, the SDK and the command line. Rows are folded by the real lifecycle, so a test can
tell no impossible life. With `plays=True` every job runs to its end by itself: offered, accepted, started, done.
It places nothing, checks nothing and forgets everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from orchestrator.core.ledgerfold import fold_ledger
from orchestrator.core.lifecycle import fold_job
from orchestrator.core.moves import may_enter
from orchestrator.core.scaling import why_not, wished
from orchestrator.core.standing import active, open_offer
from orchestrator.model import event as kinds
from orchestrator.model.capacity import Block
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.ids import ENTROPY_BYTES, launch_key, new_job_id
from orchestrator.model.job import TERMINAL, JobRow, JobState, LedgerRow
from orchestrator.model.offer import Answer, OfferOut
from orchestrator.model.placement import Shape
from orchestrator.model.record import Record, same
from orchestrator.ports.desk import (
    Busy,
    Conflict,
    Entered,
    NoShell,
    NothingRuns,
    Outcome,
    Progress,
    ProviderStatus,
    Refused,
    Submission,
    UnknownJob,
    UnknownOffer,
    Visit,
)
from orchestrator.ports.ledger import StoredEvent
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.testing.access import FakeAccess
from orchestrator.testing.builders import a_shape
from orchestrator.testing.clock import STORY_BEGINS_US, FakeClock

_HOUR_US = 3_600_000_000


class FakeDesk:
    """`ports.desk.Desk` in memory. One loop, no threads."""

    def __init__(self, plays: bool = False, seed: int = 0) -> None:
        self._clock = FakeClock(seed)
        self._plays = plays
        self._rows: dict[str, JobRow] = {}
        self._documents: dict[str, bytes] = {}
        self._keys: dict[tuple[str, str], tuple[str, str]] = {}
        self._happened: list[StoredEvent] = []
        self._output: dict[str, list[bytes]] = {}
        self._progress: dict[str, Progress] = {}
        self._changed = asyncio.Event()
        self.busy = 0
        """So many coming submissions are turned away."""
        self.refuses = ""
        """Why every submission is refused."""
        self.forbids: Sequence[Problem] = ()
        """What others' rights forbid of every capacity document."""
        self.not_ready: str | None = None
        self.machines: set[str] = set()
        """Jobs whose machines are not gone when they are over."""
        self.force = LedgerRow()
        self.in_use: dict[str, int] | None = None
        """GPUs that are taken, by blocks' refs; None: this server does not know."""
        self.laid_out: dict[str, list[OfferOut]] = {}
        """Open offers of providers that answer by hand."""
        self.said: dict[str, Answer] = {}
        self.inside: FakeAccess | None = FakeAccess()
        """How to get at what runs; None: the cloud gives no shell."""
        self.statuses: list[ProviderStatus] = [_status("azure"), _status("oracle")]
        self.noticed: dict[str, Sequence[str]] = {}
        """What to know of a job besides where it stands, by job."""
        self.stores: dict[str, Sequence[str]] = {"main": ()}
        """What each store lacks; output of any job is out of reach while one lacks something."""
        self.missing: dict[str, Sequence[str]] = {"azure": (), "oracle": ("no credentials; set ORACLE_KEY",)}

    # ---- what a test tells -------------------------------------------------------------------------------------------

    def tell(self, job: str, *events: kinds.AnyEvent) -> JobRow:
        """These happen to the job, a second apart. Raises `IllegalMove` for an impossible life."""
        for event in events:
            row = self._rows.get(job)
            at = STORY_BEGINS_US + len(self._happened) * 1_000_000
            self._rows[job] = fold_job(row, job, row.project if row else "default", at, event)
            self._append(job, self._rows[job].project, at, event)
        return self._rows[job]

    def say(self, job: str, output: bytes) -> None:
        """User code prints."""
        self._output[job].append(output)
        self._wake()

    def report(self, job: str, progress: Progress) -> None:
        """User code reports."""
        self._progress[job] = progress

    def keep(self, document: bytes) -> str:
        """A document that events may cite; its digest."""
        digest = hashlib.sha256(document).hexdigest()
        self._documents[digest] = document
        return digest

    def play(self, job: str, exit_code: int = 0) -> None:
        """A short life: offered to azure, declined; accepted by oracle; one line of output; ended."""
        self.play_on(job)
        fails = "" if exit_code == 0 else "user_failure"
        self.tell(job, kinds.Ended(epoch=1, how="done", exit=exit_code, charge=1_300_000, ran_ms=1500, fails=fails))

    def play_on(self, job: str, starts: bool = True) -> None:
        """The same up to where it runs at oracle, or is launched there."""
        self.tell(job, _opened(1, "azure"), kinds.OfferDelivered(n=1, ref="r1", sent="0" * 64))
        self.tell(job, kinds.OfferAnswered(n=1, accepted=False, reason="capacity", scope="provider"))
        self.tell(job, _opened(2, "oracle"), kinds.OfferDelivered(n=2, ref="r2", sent="0" * 64))
        accepted = kinds.OfferAnswered(n=2, accepted=True, price=2_600_000, region="us-east", terms="0" * 64)
        self.tell(job, accepted, _intended(), kinds.LaunchConfirmed(epoch=1))
        if starts:
            self.tell(job, kinds.Started(epoch=1, waited_ms=0, cleared=True))
            self.say(job, b"step 1 loss 0.5\n")

    # ---- the desk ----------------------------------------------------------------------------------------------------

    async def submit(self, wish: Submission) -> tuple[JobRow, bool]:
        """See Desk."""
        if self.busy:
            self.busy -= 1
            raise Busy("too much at once")
        if self.refuses:
            raise Refused(self.refuses)
        digest = self.keep(wish.document)
        known = self._keys.get((wish.project, wish.key)) if wish.key else None
        if known and known[1] != digest:
            raise Conflict(f"the key {wish.key!r} was used for job {known[0]} with another body", known[0])
        if known:
            return self._rows[known[0]], False
        job = new_job_id(self._clock.now_us() + len(self._rows) * 1000, self._clock.entropy(ENTROPY_BYTES))
        if wish.key:
            self._keys[wish.project, wish.key] = (job, digest)
        self._take_in(job, wish, digest)
        if self._plays:
            self.play(job)
        return self._rows[job], True

    def _take_in(self, job: str, wish: Submission, digest: str) -> None:
        name = str(json.loads(wish.document).get("metadata", {}).get("name", ""))
        submitted = kinds.Submitted(
            spec=digest,
            shape="0" * 64,
            name=name,
            limit_ms=900_000,
            grace_ms=30_000,
            max_runtime_ms=3_600_000,
            by=wish.by,
        )
        at = STORY_BEGINS_US + len(self._happened) * 1_000_000
        self._rows[job] = fold_job(None, job, wish.project, at, submitted)
        self._output[job] = []
        self._append(job, wish.project, at, submitted)

    async def cancel(self, job: str, by: str) -> JobRow:
        """See Desk."""
        row = await self.job(job)
        if row.cancel_asked or row.state in TERMINAL:
            return row
        self.tell(job, kinds.CancelAsked(by=by))
        if not row.attempts:
            self.tell(job, kinds.Cancelled())
        return self._rows[job]

    async def resume(self, job: str, by: str) -> JobRow:
        """See Desk."""
        row = await self.job(job)
        if row.state is not JobState.HELD:
            raise Refused(f"job {job} is {row.state}, not held: there is nothing to resume")
        return self.tell(job, kinds.Resumed(by=by))

    async def scale(self, job: str, workers: int, least: int, by: str) -> tuple[JobRow, bool]:
        """See Desk; by the rules of the real one."""
        row = await self.job(job)
        now = self._shape(row)
        after = now.ranged(workers, least)
        if row.state not in TERMINAL and after == now:
            return row, False
        if reason := why_not(row, after):
            raise Refused(f"job {job} cannot have another size: {reason}")
        if (offer := open_offer(row)) is not None:
            self.tell(job, kinds.OfferWithdrawn(offer.n, "scaled"))
        return self.tell(job, wished(row, after, (row.size or now).workers, "0" * 64, by)), True

    def _shape(self, row: JobRow) -> Shape:
        """What it is, or is to be, as far as its size goes."""
        asked = json.loads(self._documents[row.spec])["spec"]
        count, size = asked.get("workers", {}).get("count", 1), row.next or row.size
        most, least = (count["max"], count["min"]) if isinstance(count, dict) else (count, 0)
        whole = a_shape(pieces=most if asked.get("divisible") else UNSET)
        return whole.ranged(most, least) if size is None else whole.ranged(size.workers, size.least)

    async def amend(self, document: bytes, by: str) -> LedgerRow:
        """See Desk."""
        digest = self.keep(document)
        if digest != self.force.contract_digest:
            self._happens(kinds.ContractInForce(self.force.contract + 1, digest, by))
        return self.force

    async def own(self, blocks: tuple[Block, ...], by: str) -> LedgerRow:
        """See Desk."""
        if self.forbids:
            raise DocumentError(self.forbids)
        self._happens(kinds.CapacityInForce(blocks, by))
        return self.force

    async def record(self, record: Record) -> Record:
        """See Desk."""
        if record.job:
            await self.job(record.job)
        if known := [r for r in self.force.records if same(r, record)]:
            return known[0]
        self._happens(kinds.Recorded(replace(record, id=f"{record.what}-{len(self.force.records) + 1}", at=0)))
        return self.force.records[-1]

    async def enter(self, visit: Visit) -> Entered:
        """See Desk. What is at `oracle` lets people in."""
        row = await self.job(visit.job)
        attempt = active(row)
        if attempt is None or not may_enter(row, attempt.epoch):
            raise NothingRuns(f"job {row.job} is {row.state}: none of its attempts runs now")
        if self.inside is None:
            raise NoShell(f"the cloud gives no shell: {attempt.provider} has no way into what runs there")
        epoch, what = attempt.epoch, visit.what
        self.tell(row.job, kinds.Accessed(epoch=epoch, what=what, by=visit.by, rank=visit.rank, name=visit.name))
        return Entered(self.inside, launch_key(row.job, epoch))

    async def open_offers(self, provider: str) -> Sequence[OfferOut]:
        """See Desk: what a test has laid out in `laid_out`."""
        return self.laid_out.get(provider, [])

    async def answer(self, provider: str, said: Answer) -> Outcome:
        """See Desk: the first answer stands, a later one is too late."""
        if said.offer not in [offer.offer for offer in self.laid_out.get(provider, ())]:
            raise UnknownOffer(f"there is no offer {said.offer!r} to {provider}")
        first = self.said.setdefault(said.offer, said)
        what = ("accepted" if said.accepted else "declined") if first == said else "closed"
        return Outcome(said.offer, what)

    async def job(self, job: str) -> JobRow:
        """See Desk."""
        if job not in self._rows:
            raise UnknownJob(f"there is no job {job}")
        return self._rows[job]

    async def jobs(
        self, project: str | None, states: Sequence[str], limit: int, before: str | None
    ) -> Sequence[JobRow]:
        """See Desk."""
        rows = sorted(self._rows.values(), key=lambda row: row.job, reverse=True)
        wanted = (
            row
            for row in rows
            if (project is None or row.project == project)
            and (not states or row.state in states)
            and (before is None or row.job < before)
        )
        return list(wanted)[:limit]

    async def in_force(self) -> LedgerRow:
        """See Desk."""
        return self.force

    async def taken(self) -> Mapping[str, int] | None:
        """See Desk."""
        return self.in_use

    async def ending(self, row: JobRow) -> bool:
        """See Desk."""
        return row.job in self.machines

    async def head(self) -> int:
        """See Desk."""
        return len(self._happened)

    async def documents(self, digests: Collection[str]) -> Mapping[str, bytes]:
        """See Desk."""
        return {digest: self._documents[digest] for digest in digests if digest in self._documents}

    async def events(self, job: str | None, after: int, follow: bool) -> AsyncIterator[StoredEvent]:
        """See Desk."""
        at = after
        while True:
            changed = self._changed
            for event in self._happened[at:]:
                at = event.seq
                if job in (None, event.job):
                    yield event
            if not follow or (job is not None and self._ended(job)):
                return
            await changed.wait()

    async def notices(self, row: JobRow) -> Sequence[str]:
        """See Desk."""
        return self.noticed.get(row.job, ())

    async def readable(self, row: JobRow) -> None:
        """See Desk."""
        if why := next((what for lacks in self.stores.values() for what in lacks), ""):
            raise StoreUnavailable(why)

    async def logs(self, job: str, follow: bool) -> AsyncIterator[bytes]:
        """See Desk."""
        at = 0
        while True:
            changed = self._changed
            while at < len(self._output[job]):
                at += 1
                yield self._output[job][at - 1]
            if not follow or self._ended(job):
                return
            await changed.wait()

    async def progress(self, job: str) -> Progress | None:
        """See Desk."""
        return self._progress.get(job)

    async def providers(self) -> Sequence[ProviderStatus]:
        """See Desk."""
        return self.statuses

    async def check_providers(self) -> dict[str, Sequence[str]]:
        """See Desk."""
        return dict(self.missing)

    async def check_stores(self) -> dict[str, Sequence[str]]:
        """See Desk."""
        return dict(self.stores)

    async def ready(self) -> str | None:
        """See Desk."""
        return self.not_ready

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _happens(self, event: kinds.AnyEvent) -> None:
        """To the whole ledger."""
        at = STORY_BEGINS_US + len(self._happened) * 1_000_000
        self._append("", "", at, event)
        self.force = fold_ledger(self.force, at, event)

    def _append(self, job: str, project: str, at: int, event: kinds.AnyEvent) -> None:
        kind, body, nothing = kinds.kind_of(event), kinds.encode(event), b"\0" * 32
        seq = len(self._happened) + 1
        self._happened.append(StoredEvent(seq, at, kind, project, job, body, nothing[:16], nothing, nothing))
        self._wake()

    def _ended(self, job: str) -> bool:
        return self._rows[job].state in TERMINAL

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _status(name: str) -> ProviderStatus:
    return ProviderStatus(name=name, reachable=True, since=STORY_BEGINS_US, open_offers=0, active_attempts=0)


def _opened(n: int, provider: str) -> kinds.OfferOpened:
    clause = "msft/rofr" if provider == "azure" else ""
    return kinds.OfferOpened(
        n=n, provider=provider, episode=1, round=1, contract=1, providers=1, clause=clause, terms="0" * 64,
        window=_HOUR_US,
    )  # fmt: skip


def _intended() -> kinds.Intended:
    return kinds.Intended(
        epoch=1, offer=2, provider="oracle", region="us-east", accelerator="H100", price=2_600_000, contract=1,
        episode=1,
    )  # fmt: skip
