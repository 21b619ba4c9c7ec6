"""How are offers put to Kueue, its answers read, launches let start, and evictions made final?

Called by the provider where a queue is configured. Everything that matters is in the Workloads themselves: a server
that was restarted finds its offers there. An answer is given once. A yes that was reserved before the window's end
counts, for a Workload is deleted only as it was read; a no is given only after that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.adapters.providers.kubernetes import asking, kueue, objects, records
from orchestrator.adapters.providers.kubernetes.capacity import Short
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.errors import Absent, Meaning, Refused, Taken
from orchestrator.adapters.providers.kubernetes.kueue import Asked
from orchestrator.adapters.providers.kubernetes.objects import pod_sets
from orchestrator.adapters.providers.kubernetes.places import short_of_room
from orchestrator.adapters.providers.kubernetes.queues import Serving, timestamp
from orchestrator.adapters.providers.kubernetes.resources import LEDGER, OURS, WORKLOAD, Many, Thing, Workload
from orchestrator.adapters.providers.kubernetes.room import declined
from orchestrator.adapters.providers.kubernetes.scribe import Scribe
from orchestrator.adapters.providers.kubernetes.sightings import EVICTED, LAUNCHED
from orchestrator.model.offer import Answer, OfferOut, Reason, Receipt, Undelivered
from orchestrator.model.placement import Terms, parse_terms
from orchestrator.ports.provider import Misconfigured, ProviderError
from orchestrator.ports.runtime import Tools

TTL_US = 900_000_000
"""An accepted offer is launched in the engine's next turn; quota is kept a while, and not for ever."""
KEPT = 10_000
"""Answers remembered, so that an offer delivered again has the same one."""
LATE_US = 1_000_000
"""After its window an offer has its answer at once, unless its Workload is not as it was last told."""
READY_TRIES = 40
READY_EVERY_S = 0.25
"""Kueue puts a check into a workload's status in its own time; 10 s is long."""


class Reservations:
    """Offers of one queue."""

    def __init__(self, cluster: Cluster, scribe: Scribe, tools: Tools, tell: Callable[[Answer], None]) -> None:
        self._cluster, self._client, self._scribe, self._tell = cluster, cluster.client, scribe, tell
        self._now, self._ledger, self._book = tools.clock.now_us, tools.ledger, tools.prices
        self._open: dict[str, Asked] = {}
        self._closing: dict[str, Answer] = {}
        """By offer, the no that is given once its Workload is deleted. Whoever deletes may be cut off before the reply,
        and a Workload that is missing then was deleted by us."""
        self._answers: dict[str, Answer] = {}
        told = cluster.connection
        self._serving = Serving(cluster.client, told.namespace, told.queue or "", self._now)
        self._ended: set[str] = set()
        self._making: set[str] = set()

    # ---- offers ----------------------------------------------------------------------------------------------------

    async def place(self, offer: OfferOut) -> Receipt | Undelivered:
        """Ask Kueue; where the cluster could never hold it, the answer is in the receipt."""
        if offer.offer in self._open or offer.offer in self._answers:
            return self._receipt(offer)
        queue = await self._serving.queue()
        if not queue.checks:
            raise Misconfigured(
                f"ClusterQueue {queue.cluster_queue} has no admission check of ours; run providers check"
            )
        terms, now = parse_terms(offer.terms), self._now()
        here = asking.candidates(terms, self._cluster.connection)
        if not here:
            return self._at_once(offer, asking.unknown_accelerator(offer, terms, self._cluster.connection, now))
        shorts = [(name, self._never(offer.offer, terms, name)) for name in here]
        able = [name for name, short in shorts if short is None]
        if not able:
            return self._at_once(offer, declined(offer.offer, [(n, s) for n, s in shorts if s is not None], now))
        region = next(iter(terms.regions), asking.HERE)
        asked = Asked(
            offer=offer.offer, terms_hash=offer.terms_hash, accelerator=able[0], region=region,
            until=now + offer.window_us, price=asking.price(self._book, terms, able[0], self._cluster.connection),
            runtime=self._cluster.runtime,
        )  # fmt: skip
        return await self._ask(offer, asked, terms)

    async def _ask(self, offer: OfferOut, asked: Asked, terms: Terms) -> Receipt | Undelivered:
        connection, space = self._cluster.connection, self._cluster.connection.namespace
        sets = pod_sets(asked.offer, terms, asked.accelerator, connection, self._cluster.runtime)
        body = kueue.document(asked, sets, space, connection.queue or "", self._ledger)
        try:
            await self._client.create(WORKLOAD.path(space), body, Thing)
        except Taken:
            found = await self._client.get(WORKLOAD.path(space, kueue.workload_name(asked.offer)), Workload)
            known = kueue.asked_of(found)
            if known is None:
                return Undelivered(asked.offer, f"there is a Workload {space}/{found.metadata.name} that is not ours")
            asked = known
        except Refused as refused:
            means = refused.means
            until = self._now() + means.hold_off_s * 1_000_000
            no = asking.no(asked.offer, means.reason, str(refused), means.scope, until, self._now())
            return self._at_once(offer, no)
        self._open[asked.offer] = asked
        return self._receipt(offer)

    def _never(self, offer: str, terms: Terms, accelerator: str) -> Short | None:
        """Why no node here could ever hold these pods; None: one could, or more nodes may come and Kueue knows."""
        if terms.gpus_per_worker and self._cluster.connection.autoscaled(accelerator):
            return None
        asks = asking.asked(offer, terms, accelerator, self._cluster.connection, self._cluster.runtime)
        short = short_of_room(self._cluster.stock().nodes, (), (), asks)
        return short if short is not None and short.ever else None

    def _at_once(self, offer: OfferOut, answer: Answer) -> Receipt:
        self._keep(answer)
        return self._receipt(offer)

    def _receipt(self, offer: OfferOut) -> Receipt:
        return offer.receipt(kueue.workload_name(offer.offer), None, self._answers.get(offer.offer))

    async def settle(self, *, fresh: bool) -> None:
        """Give every answer that Kueue has given by now (`fresh`: asked for), and a no where a window is over."""
        asked_by_now = [*self._open.values()]  # what is asked during the list is not in it
        if not asked_by_now:
            return
        workloads = self._cluster.workloads
        fresh = fresh or any(self._now() - asked.until >= LATE_US for asked in asked_by_now)
        if fresh:
            path = WORKLOAD.path(self._cluster.connection.namespace)
            workloads = (await self._client.get(path, Many[Workload], labelSelector=OURS)).items
        there = {w.metadata.name: w for w in workloads}
        for asked in asked_by_now:
            workload = there.get(kueue.workload_name(asked.offer))
            if self._open.get(asked.offer) is asked and (workload is not None or fresh):
                await self._settle(asked, workload)
        with contextlib.suppress(ProviderError, Refused, Taken):  # said again when an offer is placed
            waiting = [there[name] for name in map(kueue.workload_name, self._open) if name in there]
            await self._serving.look(inactive=any(map(kueue.inactive, waiting)))

    async def _settle(self, asked: Asked, workload: Workload | None) -> None:
        now = self._now()
        if workload is not None and kueue.reserved(workload):
            self._answer(kueue.yes(asked, TTL_US, now))
        elif workload is None:
            self._answer(self._closing.get(asked.offer) or kueue.no(asked, None, now))
        elif now >= asked.until:
            no = self._closing[asked.offer] = kueue.no(asked, workload, now)
            if await self._delete(workload):
                self._answer(no)

    async def _delete(self, workload: Workload) -> bool:
        """Delete it as it was read; False: it has changed since."""
        meta = workload.metadata
        try:
            path = WORKLOAD.path(meta.namespace, meta.name)
            await self._client.delete(path, uid=meta.uid, version=meta.resource_version)
        except Taken:
            return False
        return True

    def _answer(self, answer: Answer) -> None:
        if self._shut(answer.offer) is None:
            return  # withdrawn, or answered, while its Workload was being deleted
        self._keep(answer)
        self._tell(answer)

    def _shut(self, offer: str) -> Asked | None:
        """Nobody waits for its answer any more; what was asked, if somebody did."""
        self._closing.pop(offer, None)
        return self._open.pop(offer, None)

    def _keep(self, answer: Answer) -> None:
        self._answers[answer.offer] = answer
        if len(self._answers) > KEPT:
            del self._answers[next(iter(self._answers))]

    async def withdraw(self, offer: str, *, quietly: bool = False) -> str:
        """Release what is reserved; one that a launch uses is the launch's. Returns the offer.

        `quietly`: without a notice of room.
        """
        self._shut(offer)
        path = WORKLOAD.path(self._cluster.connection.namespace, kueue.workload_name(offer))
        with contextlib.suppress(Absent):
            found = await self._client.get(path, Workload)
            if self._mine(found) and not kueue.key_of(found):
                if quietly:
                    self._cluster.unheard.add(found.metadata.uid)
                await self._client.delete(path, uid=found.metadata.uid)
        return offer

    def next_deadline(self) -> int | None:
        """When the next window will be over; None: none is open."""
        now = self._now()
        return min((asked.until for asked in self._open.values() if asked.until > now), default=None)

    # ---- launches --------------------------------------------------------------------------------------------------

    async def refused(self, offer: str) -> Meaning | None:
        """Why this offer cannot be launched any more; None: its quota is reserved."""
        try:
            found = await self._client.get(self._path(offer), Workload)
        except Absent:
            return Meaning(Reason.CAPACITY)
        return None if found.metadata.ours and kueue.reserved(found) else Meaning(Reason.CAPACITY)

    @contextlib.contextmanager
    def making(self, offer: str) -> Iterator[None]:
        """Meanwhile the launch of this offer is made: nothing starts it before all that belongs to it is there."""
        self._making.add(offer)
        try:
            yield
        finally:
            self._making.discard(offer)

    async def start(self, offer: str) -> None:
        """Let what was launched be admitted, unless its quota was taken back. Again and again until it is so."""
        for _ in range(READY_TRIES):
            if await self._let_start(offer):
                return
            await asyncio.sleep(READY_EVERY_S)
        raise Misconfigured(f"Kueue does not put our check into {self._path(offer)}; run providers check")

    async def _let_start(self, offer: str) -> bool:
        """Set our checks Ready; whether there was nothing to do (any more)."""
        queue, path = await self._serving.queue(), self._path(offer)
        try:
            found: dict[str, Any] = await self._client.get(path, dict)
        except Absent:
            return True  # it went with its launch
        conditions = {one["type"] for one in found.get("status", {}).get("conditions", ())}
        if "Evicted" in conditions or not kueue.unready(found, queue.checks):
            return True
        change = kueue.ready(found, queue.checks, timestamp(self._now()))
        with contextlib.suppress(Taken):
            await self._client.merge(f"{path}/status", change, Thing)
        return False

    def _mine(self, workload: Workload) -> bool:
        """Whether it is of our ledger: another server may share the queue, and answers for its own."""
        return workload.metadata.ours and workload.metadata.label(LEDGER) == self._ledger

    def _path(self, offer: str) -> str:
        return WORKLOAD.path(self._cluster.connection.namespace, kueue.workload_name(offer))

    # ---- what Kueue does by itself ---------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Find the offers of an earlier server by their Workloads; serve our check from now on."""
        for workload in self._cluster.workloads:  # first: another call, which waits no more, may withdraw some
            asked = kueue.asked_of(workload) if self._mine(workload) else None
            if asked is not None and asked.offer not in self._answers and not kueue.key_of(workload):
                self._open.setdefault(asked.offer, asked)
        with contextlib.suppress(Misconfigured, Refused):  # said again when an offer is placed
            await self._serving.queue()

    async def tend(self) -> None:
        """Make evictions final, and give back what was accepted and never launched, by whomever."""
        workloads = self._cluster.workloads
        for workload in workloads:
            asked = kueue.asked_of(workload)
            if asked is not None:
                with contextlib.suppress(Absent, Taken, Refused):  # looked at again
                    await self._tend(asked, workload)
        self._ended &= {kueue.key_of(workload) for workload in workloads} if self._ended else set()

    async def _tend(self, asked: Asked, workload: Workload) -> None:
        key, why = kueue.key_of(workload), kueue.evicted(workload)
        if key and why and key not in self._ended:
            await self._end(key, why, workload)
        elif key and not why and self._may_start(asked, workload) and await self._held_back(key, workload):
            await self._let_start(asked.offer)
        elif not key and self._idle(asked, workload):
            await self._delete(workload)

    def _idle(self, asked: Asked, workload: Workload) -> bool:
        """Whether its quota is kept for nobody any more: nor for a launch of which Kueue has not written there yet."""
        if self._now() <= asked.until + 2 * TTL_US or asked.offer in self._open:
            return False
        mains = (main for mirror in self._cluster.mains.values() for main in mirror.objects.values())
        return all(main.metadata.label(objects.WORKLOAD) != workload.metadata.name for main in mains)

    def _may_start(self, asked: Asked, workload: Workload) -> bool:
        """Whether its launch is ours, and not being made right now."""
        return self._mine(workload) and asked.offer not in self._making

    async def _held_back(self, key: str, workload: Workload) -> bool:
        """Whether a launch that was ordered is not let start: we were cut off, or Kueue wrote over our word."""
        launch = self._cluster.launch(key)
        waits = {check.name for check in workload.status.admission_checks if check.state != kueue.READY}
        if not waits or launch.state != LAUNCHED or launch.main is None or key in self._cluster.memory.half:
            return False
        with contextlib.suppress(Misconfigured):  # said when an offer is placed
            return not waits.isdisjoint((await self._serving.queue()).checks)
        return False

    async def _end(self, key: str, why: str, workload: Workload) -> None:
        space = self._cluster.connection.namespace
        launch = self._cluster.launch(key)
        if launch.state == LAUNCHED:
            await self._scribe.put(key, launch.ledger, records.with_state(EVICTED, why=why))
        if workload.spec.active:
            body = {"spec": {"active": False}}
            await self._client.merge(WORKLOAD.path(space, workload.metadata.name), body, Thing)
        if launch.state:  # else its object was not told yet, and is to be marked once it is
            self._ended.add(key)
