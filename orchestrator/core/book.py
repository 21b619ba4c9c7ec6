"""Where everything stands: rows, shapes, providers and timers, kept in step with the events. Who needs a look now?

Held by the engine, one per process; rebuilt from the ledger's live rows at a restart. `apply` is its only way of
changing a job. It holds ids and numbers. Nothing here walks all jobs except `load`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from orchestrator.core.capacity import Taken, gpus_of
from orchestrator.core.ledgerfold import fold_ledger
from orchestrator.core.lifecycle import fold_job
from orchestrator.core.rulebook import RuleBook
from orchestrator.core.shapebook import Moments, ProviderBook, ShapeBook, ShapeKey, provider_of, urgency
from orchestrator.core.standing import active, open_offer, place_in_line
from orchestrator.core.windows import NEVER, deadline, due_at
from orchestrator.model import event as ev
from orchestrator.model.contract import Contracts, Providers, Trigger
from orchestrator.model.job import AttemptState, JobRow, JobState, LedgerRow, OfferRow, OfferState, RefusalRow
from orchestrator.model.offer import Capabilities
from orchestrator.model.placement import Placement, Rules, Shape, Terms

PROBES = 8
"""Parked shapes that one release of capacity wakes: enough to find one that fits, few enough to cost nothing."""


def trigger_of(row: JobRow, shape: Shape) -> Trigger:
    """Why the job is placed: once it ran, it replaces an attempt that was lost, or is to be larger than that."""
    if row.grown:
        return Trigger.SCALE_UP
    return Trigger.REPLACE if row.episode > 1 else shape.trigger


class Book:
    """The whole picture. Mutable, single-threaded, owned by one engine."""

    def __init__(self, contracts: Contracts | None, providers: Providers, ledger: LedgerRow) -> None:
        """An empty book under one version of contracts and providers."""
        self.rulebook, self.ledger = RuleBook(contracts, providers), ledger
        self.jobs: dict[str, JobRow] = {}
        self.shapes: dict[ShapeKey, ShapeBook] = {}
        self.known_shapes: dict[str, Shape] = {}
        self.providers: dict[str, ProviderBook] = {}
        self.taken = Taken()
        self.head = ""
        """The ledger's head as of the last commit; every offer takes it along."""
        self.woken: set[ShapeKey] = set()
        self.timers: list[tuple[int, str]] = []
        self.sleepers = Moments()
        self.held_shapes: set[ShapeKey] = set()
        self.early: set[str] = set()
        self.unread: set[str] = set()
        """Jobs whose run logs could not be read since the ledger was put back: nothing is decided for them."""
        self._due: dict[str, int] = {}

    # ---- what there is ----

    def shape_of(self, row: JobRow) -> ShapeBook:
        """The queue this job belongs to now."""
        shape = self.known_shapes[row.shape]
        trigger = trigger_of(row, shape)
        key = (row.shape, trigger)
        found = self.shapes.get(key)
        if found is None:
            found = self.shapes[key] = ShapeBook(key, shape if trigger is shape.trigger else shape.triggered(trigger))
        return found

    def placement(self, row: JobRow, now: int) -> tuple[Rules, Placement]:
        """Whom to ask for this job now."""
        return self.rulebook.placement(self.shape_of(row), row, now, self.ledger)

    @property
    def terms(self) -> dict[str, Terms]:
        """Terms by their hash, as far as offers and refusals need them."""
        return self.rulebook.terms

    # ---- what happens ----

    def add_provider(self, name: str, capabilities: Capabilities | None, market_window: int) -> None:
        """Make a provider known, in the order of the file; None: it has not told its capabilities."""
        stated = capabilities is not None
        self.providers[name] = ProviderBook(name, capabilities or Capabilities(), market_window, stated)

    def state_capabilities(self, name: str, capabilities: Capabilities) -> None:
        """A provider tells its capabilities, at first contact and after each time it was away."""
        self.providers[name].capabilities, self.providers[name].stated = capabilities, True

    def load(self, rows: Iterable[JobRow], shapes: Mapping[str, Shape], terms: Mapping[str, Terms]) -> None:
        """Take in the live rows of a restart."""
        self.known_shapes.update(shapes)
        self.terms.update(terms)
        for row in rows:
            self.jobs[row.job] = row
            self._index(None, row)

    def apply(self, job: str, project: str, at: int, event: ev.AnyEvent) -> JobRow:
        """Fold one event in. Raises `IllegalMove` and then has changed nothing."""
        before = self.jobs.get(job)
        after = fold_job(before, job, project, at, event)
        self.jobs[job] = after
        if isinstance(event, ev.OfferOpened):
            self.providers[event.provider].offered = event.ordinal
        self._index(before, after)
        return after

    def apply_ledger(self, at: int, event: ev.AnyEvent) -> LedgerRow:
        """Fold one event of the whole ledger in."""
        self.ledger = fold_ledger(self.ledger, at, event)
        if isinstance(event, ev.ControllerAbsent):
            self._shift_deadlines()
        return self.ledger

    def set_prices(self, provider: str, rows: Mapping[tuple[str, str], int]) -> None:
        """A provider's quoted prices changed: held jobs are looked at again, and whoever it was too dear for."""
        if self.rulebook.quotes.get(provider) == rows:
            return
        dear = [shape for shape in self.shapes.values() if self._too_dear(shape, provider)]
        self.rulebook.set_prices(provider, rows)
        self.woken |= self.held_shapes
        for shape in dear:
            if not self._too_dear(shape, provider):
                self._wake_waiting(shape)

    def _too_dear(self, shape: ShapeBook, provider: str) -> bool:
        """Whether some of its jobs may not be put to this provider for its price."""
        known = ((ruled.rules.ceiling_microusd, ruled.rules) for ruled in shape.ruled.values())
        return any(most is not None and self.rulebook.prices(rules).get(provider, 0) > most for most, rules in known)

    def mark(self, provider: str, *, up: bool, now: int) -> None:
        """Whether a provider answers us."""
        state = self.providers[provider]
        state.up, state.since = up, now

    def wake(self, provider: str, probes: int | None = PROBES) -> None:
        """Capacity may be free at a provider: its most urgent parked shapes may ask again, and waiting jobs too.

        `probes` None: all of them, because the provider is back.
        """
        state = self.providers[provider]
        state.memory.room()
        known = [self.shapes[k] for k in state.parked]
        for shape in known if probes is None else heapq.nsmallest(probes, known, key=urgency):
            state.parked.discard(shape.key)
            shape.parked = {place: end for place, end in shape.parked.items() if provider_of(place) != provider}
            self._wake_waiting(shape)

    def reconsider(self, shape: ShapeBook) -> None:
        """What contracts and law say about this shape may have changed: its jobs are decided anew, waiting ones too."""
        shape.ruled.clear()
        shape.owned.clear()
        shape.limiting = None
        self._wake_waiting(shape)

    def _wake_waiting(self, shape: ShapeBook) -> None:
        """Its jobs are decided now, also those that wait for their next round."""
        for job in shape.waiting - self.early:
            self.early.add(job)
            heapq.heappush(shape.queue, (self.jobs[job].submitted_at, job))
        self.woken.add(shape.key)

    def park(self, shape: ShapeBook, place: str, until: int) -> None:
        """This shape does not ask there, in the open market or in a block, before `until` or a release of capacity."""
        shape.parked[place] = max(shape.parked.get(place, 0), until)
        self.listen(shape, [provider_of(place)])  # which the operator may have removed since

    def listen(self, shape: ShapeBook, providers: Iterable[str]) -> None:
        """A release of capacity at any of these wakes the shape."""
        for name in providers:
            if name in self.providers:
                self.providers[name].parked.add(shape.key)

    def sleep(self, shape: ShapeBook, until: int) -> None:
        """Nobody can serve this shape before `until`: it costs nothing until then."""
        self.sleepers.note(shape.key, until)

    def may_decide(self, row: JobRow, now: int) -> bool:
        """Whether a queued job may be put to somebody now, or waits for its next round."""
        if row.state is not JobState.QUEUED:
            return False
        return row.wait_until is None or row.wait_until <= now or row.job in self.early

    def forget(self, job: str) -> None:
        """Drop a job that is over and gone from the book (never from the ledger)."""
        self.jobs.pop(job, None)
        self._due.pop(job, None)

    # ---- timers and deadlines ----

    def pop_due(self, now: int) -> list[str]:
        """Jobs whose timer has come, each once; shapes whose sleep is over wake up."""
        self.woken.update(self.sleepers.pop(now))
        for key in self.rulebook.expiring.pop(now):
            self.reconsider(self.shapes[key])
        found: list[str] = []
        while self.timers and self.timers[0][0] <= now:
            at, job = heapq.heappop(self.timers)
            if self._due.get(job) == at:
                del self._due[job]
                found.append(job)
        return found

    def next_timer(self) -> int:
        """When `pop_due` will have something; NEVER: not by itself."""
        while self.timers and self._due.get(self.timers[0][1]) != self.timers[0][0]:
            heapq.heappop(self.timers)
        timer = self.timers[0][0] if self.timers else NEVER
        return min(timer, self.sleepers.first(), self.rulebook.expiring.first())

    def next_deadline(self, provider: str) -> int:
        """When the earliest delivered offer at a provider ends; NEVER: none is open."""
        heap = self.providers[provider].deadlines
        while heap and not self._waits(heap[0][1], heap[0][2]):
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def pop_overdue(self, provider: str, polled_at: int) -> list[tuple[str, int, int]]:
        """(job, offer, deadline) of offers at or past their deadline that a poll sent at `polled_at` did not answer."""
        heap = self.providers[provider].deadlines
        found = []
        while heap and heap[0][0] <= polled_at:
            at, job, n = heapq.heappop(heap)
            if self._waits(job, n):
                found.append((job, n, at))
        return found

    def peek_overdue(self, provider: str, polled_at: int) -> list[tuple[int, str, int]]:
        """(deadline, job, offer) of what `pop_overdue` would give; they stay open."""
        heap = self.providers[provider].deadlines
        return [entry for entry in heap if entry[0] <= polled_at and self._waits(entry[1], entry[2])]

    def offered(self, provider: str) -> list[str]:
        """Jobs with a delivered offer at a provider that is still open."""
        return sorted({job for _, job, n in self.providers[provider].deadlines if self._waits(job, n)})

    def _waits(self, job: str, n: int) -> bool:
        row = self.jobs.get(job)
        return (
            row is not None and row.offer is not None and row.offer.n == n and row.offer.state is OfferState.DELIVERED
        )

    def _shift_deadlines(self) -> None:
        for provider in self.providers.values():
            shifted = [(self._deadline(job), job, n) for _, job, n in provider.deadlines if self._waits(job, n)]
            heapq.heapify(shifted)
            provider.deadlines = shifted

    def _deadline(self, job: str) -> int:
        offer = self.jobs[job].offer
        assert offer is not None, "only jobs with an open offer have a deadline"
        return deadline(offer, self.ledger.absences)

    def _index(self, before: JobRow | None, after: JobRow) -> None:
        if before is not None and before.shape != after.shape:
            self._move(before, after)
        self._index_offer(before, after)
        self._index_attempt(before, after)
        if (after.offer is not None and after.offer.block) or self.taken.holds(after.job):
            self.taken.note(after, lambda: gpus_of(after, self.shape_of(after).shape, self.terms))
        if after.state is JobState.QUEUED:
            if before is None or place_in_line(before) != place_in_line(after):
                self.enqueue(after)
                self._park_refused(before, after)
        elif before is not None and before.wait_until is not None:
            self.shape_of(before).waiting.discard(after.job)
            self.early.discard(after.job)
        if after.state is JobState.HELD or (before is not None and before.state is JobState.HELD):
            self._index_held(before, after)
        self._arm(after.job, due_at(after))

    def _move(self, before: JobRow, after: JobRow) -> None:
        """Take a job out of its shape; what it waits for is noted at the new one."""
        old = self.shape_of(before)
        for waiters in (old.waiting, self.early):
            waiters.discard(after.job)
        self._let_go(old, before)
        self.shape_of(after).settled = None  # how its jobs were last decided says nothing of one that comes to them
        offer = open_offer(before)
        if offer is not None:
            old.among(offer)[offer.provider] -= 1
            asking = self.shape_of(after).among(offer)
            asking[offer.provider] = asking.get(offer.provider, 0) + 1

    def _index_held(self, before: JobRow | None, after: JobRow) -> None:
        shape = self.shape_of(after)
        if before is not None:
            self._let_go(shape, before)
        if after.state is JobState.HELD:
            shape.held.setdefault(after.reason, set()).add(after.job)
            self.held_shapes.add(shape.key)
            self.woken.add(shape.key)

    def _let_go(self, shape: ShapeBook, row: JobRow) -> None:
        """Its shape holds the job no longer, for the reason for which it was held."""
        if row.job in (jobs := shape.held.get(row.reason, set())):
            jobs.discard(row.job)
            if not jobs:
                del shape.held[row.reason]
                shape.settled = None
        if not shape.held:
            self.held_shapes.discard(shape.key)

    def _arm(self, job: str, due: int) -> None:
        if self._due.get(job, NEVER) == due:
            return
        if due == NEVER:
            self._due.pop(job, None)
        else:
            self._due[job] = due
            heapq.heappush(self.timers, (due, job))

    def enqueue(self, row: JobRow) -> None:
        """Put a queued job where its shape will find it: in the queue, or among those between two rounds."""
        shape = self.shape_of(row)
        if row.wait_until is None:
            heapq.heappush(shape.queue, (row.submitted_at, row.job))
            self.woken.add(shape.key)
        else:
            shape.waiting.add(row.job)
            self.early.discard(row.job)

    def _park_refused(self, before: JobRow | None, row: JobRow) -> None:
        """What was refused just now, or is all we know at a restart: an older no may have been taken back since."""
        last = row.refusals[-1] if row.refusals else None
        if last is None or last.until is None or last.clause or last.episode != row.episode:
            return
        if (before is None or before.refusals is not row.refusals) and self._of_this_size(last, row):
            self.park(self.shape_of(row), last.provider, last.until)

    def _of_this_size(self, refusal: RefusalRow, row: JobRow) -> bool:
        """Whether that was a no to what the job is now, and not to the size that it had before it was scaled."""
        terms, size = self.terms.get(refusal.terms), row.size
        return (
            size is None or terms is None or (terms.workers, terms.fewest) == (size.workers, size.least or size.workers)
        )

    def next_round(self, row: JobRow, now: int) -> None:
        """A job's time between two rounds is over; its other timers run on."""
        self._arm(row.job, due_at(row, now))
        shape = self.shape_of(row)
        shape.waiting.discard(row.job)
        heapq.heappush(shape.queue, (row.submitted_at, row.job))
        self.woken.add(shape.key)

    def set_aside(self, shape: ShapeBook, entry: tuple[int, str]) -> None:
        """This job waits, at no cost, for whoever is the first of those set aside to find somebody."""
        shape.waiting.discard(entry[1])
        heapq.heappush(shape.aside, entry)

    def _index_offer(self, before: JobRow | None, after: JobRow) -> None:
        if before is not None and before.offer is after.offer:
            return
        was = open_offer(before) if before is not None else None
        now = open_offer(after)
        if was is not None and now is None and before is not None:
            self._count(before, was, -1)
        if now is None:
            return
        if was is None:
            self._count(after, now, +1)
        if now.delivered_at is not None and (was is None or was.delivered_at is None):
            provider = self.providers[now.provider]
            heapq.heappush(provider.deadlines, (deadline(now, self.ledger.absences), after.job, now.n))

    def _count(self, row: JobRow, offer: OfferRow, by: int) -> None:
        shape, name = self.shape_of(row), offer.provider
        asking, provider = shape.among(offer), self.providers[name]
        provider.open_offers += by
        (provider.asked.add if by > 0 else provider.asked.discard)(row.job)
        asking[name] = asking.get(name, 0) + by
        if by < 0:
            self.woken.add(shape.key)
            self.woken |= provider.waiters
            provider.waiters.clear()

    def _index_attempt(self, before: JobRow | None, after: JobRow) -> None:
        if before is not None and before.attempts is after.attempts:
            return
        was = active(before) if before is not None else None
        now = active(after)
        self._index_totals(after, was is None, now is None)
        for attempt, by in ((was, -1), (now, +1)):
            if attempt is not None and attempt.state is AttemptState.UNKNOWN:
                self.providers[attempt.provider].unknown += by
        if was is not None and now is None:
            self.providers[was.provider].jobs.discard(after.job)
            self.wake(was.provider)
        elif now is not None and was is None:
            self.providers[now.provider].jobs.add(after.job)

    def _index_totals(self, row: JobRow, before: bool, after: bool) -> None:
        """Volume under exemptions changes when an attempt begins (it was not active before) and when it ends."""
        last = row.attempts[-1] if row.attempts else None
        if last is not None and last.freed and before is not after:
            self.rulebook.totals.note(row, last, self.shape_of(row).shape)
