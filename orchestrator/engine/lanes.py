"""How do decided acts reach a provider? A lane per provider and verb: batches, one call in flight, repeated until done.

Fed by the loop after each commit; tells the replies as facts. A lane never decides: before each call it asks whether
the act is still wanted, and an act that fails waits a little and is tried again for as long as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from orchestrator.core.book import trigger_of
from orchestrator.core.effects import Act, Effect
from orchestrator.core.facts import Delivery, Fact, Launched
from orchestrator.core.standing import open_offer
from orchestrator.core.windows import undeliverable_at
from orchestrator.engine.core import Core, log
from orchestrator.engine.forgetful import SentOrders
from orchestrator.engine.orders import order_for
from orchestrator.engine.stranger import calling
from orchestrator.model.contract import Trigger
from orchestrator.model.ids import launch_key, offer_id
from orchestrator.model.job import JobRow
from orchestrator.model.offer import LaunchOrder, LaunchReply, OfferOut, OutcomeUnknown, Undelivered
from orchestrator.model.placement import Shape, terms_bytes
from orchestrator.ports.provider import Misconfigured, Provider, ProviderError, Throttled

Loop = Callable[[], Awaitable[None]]
"""Work for ever; begun by the call."""
BATCH = 256
"""Acts in one call: enough that a burst costs few calls, small enough that one call stays short."""
AT_ONCE = 16
"""Calls under way together where each tells people of one offer: its window runs from its own acknowledgement, which
no slow one beside it may put off."""


class Lane:
    """One verb at one provider."""

    def __init__(
        self,
        core: Core,
        call: Callable[[list[Effect]], Awaitable[list[Effect]]],
        most: int = BATCH,
        rank: Callable[[Effect], int] | None = None,
    ) -> None:
        """`call` does a batch, at `most` so many acts, and returns what must be tried again.

        `rank`: the least goes first, however late it came or often it was tried; None: first come, first done.
        """
        self._core, self._call, self._most, self._rank = core, call, most, rank
        self._queue: list[Effect] = []
        self._some = asyncio.Event()

    def want(self, effect: Effect) -> None:
        """Do this soon."""
        self._queue.append(effect)
        self._some.set()

    async def run(self) -> None:
        """Work for ever; several may run over one queue."""
        failures = 0
        while True:
            await self._some.wait()
            if self._rank is not None:
                self._queue.sort(key=self._rank)
            batch, self._queue = self._queue[: self._most], self._queue[self._most :]
            if not self._queue:
                self._some.clear()
            again = await self._call([e for e in batch if self._wanted(e)])
            failures = failures + 1 if again else 0
            if again:
                pace = self._core.wiring.pace
                pause = min(pace.retry << min(failures - 1, 6), pace.retry_most)
                await asyncio.sleep(min([pause, *self._sooner(again)]) / 1e6)
                for effect in again:
                    self.want(effect)

    def _sooner(self, again: list[Effect]) -> list[int]:
        """Microseconds until a try that fails would settle an offer, where that is still to come."""
        offers = [o for e in again if e.act is Act.DELIVER and (o := open_offer(self._core.book.jobs[e.job]))]
        limits = (undeliverable_at(offer, self._core.book.ledger.absences) for offer in offers)
        return [limit - self._core.now for limit in limits if limit > self._core.now]

    def _wanted(self, effect: Effect) -> bool:
        if self._core.wanted(effect):
            return True
        self._core.pending.discard(effect)
        return False


class ProviderLanes:
    """All lanes of one provider."""

    def __init__(self, core: Core, provider: Provider) -> None:
        """Nothing runs yet."""
        self._core, self._provider = core, provider
        self._by_hand = provider.name in core.wiring.by_hand
        most, rank = (1, None) if self._by_hand else (BATCH, self._ordinal)
        self._lanes = {
            Act.DELIVER: Lane(core, self._deliver, most, rank),
            Act.LAUNCH: Lane(core, self._launch),
            Act.END: Lane(core, self._end),
        }
        self._sent = SentOrders(core, provider)
        self._withdrawn: set[str] = set()
        self._some = asyncio.Event()
        self.acknowledged: set[str] = set()
        """Launch keys whose stop was acknowledged in this process's life, as long as something of them may be left."""

    def want(self, effect: Effect) -> None:
        """Hand an act to its lane."""
        if effect.act is Act.END:
            self._core.leaving[self._provider.name].order(launch_key(effect.job, effect.n))
        self._lanes[effect.act].want(effect)

    def release(self, offer: str) -> None:
        """Give an offer's earmark back, again and again until acknowledged."""
        self._withdrawn.add(offer)
        self._some.set()

    def loops(self) -> list[Loop]:
        """What must run."""
        more = [self._lanes[Act.DELIVER].run] * (AT_ONCE - 1 if self._by_hand else 0)
        return [*(lane.run for lane in self._lanes.values()), *more, self._withdraw]

    def _ordinal(self, effect: Effect) -> int:
        """Offers leave us in the order in which they were opened, whichever job is the older: the first to arrive may
        take the last room. Not where people answer: many are under way at a time there, and those that cannot be told
        would keep all later ones back."""
        row = self._core.row(effect.job)
        return row.offer.ordinal if row is not None and row.offer is not None else 0

    async def _deliver(self, batch: list[Effect]) -> list[Effect]:
        if not batch:
            return []
        outs = [offer_out(self._core, self._core.book.jobs[e.job]) for e in batch]
        sent = [hash_sent(out) for out in outs]
        await self._core.lead.check()
        try:
            with calling(self._provider):
                answered = list(zip(await self._provider.place_offers(outs), sent, strict=True))
        except ProviderError as error:
            answered = [(Undelivered(out.offer, _words(error)), s) for out, s in zip(outs, sent, strict=True)]
        name, others = self._provider.name, self._core.others_answer(self._provider.name)
        await self._core.told([Delivery(name, reply, s, others) for reply, s in answered])
        again = [e for e, (reply, _) in zip(batch, answered, strict=True) if isinstance(reply, Undelivered)]
        return self._settle(batch, again)

    async def _launch(self, batch: list[Effect]) -> list[Effect]:
        if not batch:
            return []
        orders = await self._orders(batch)
        sent_at = self._core.now
        facts: list[Fact]
        try:
            facts = [Launched(reply, sent_at) for reply in await self._launched(orders)]
        except (Throttled, Misconfigured) as error:
            log.warning("launch put off", provider=self._provider.name, why=_words(error))
            return batch
        except ProviderError as error:
            facts = [Launched(OutcomeUnknown(order.key, _words(error)), sent_at) for order in orders]
        await self._core.told(facts)
        return self._settle(batch, [e for e in batch if self._core.wanted(e)])

    async def _launched(self, orders: list[LaunchOrder]) -> Sequence[LaunchReply]:
        if self._core.book.providers[self._provider.name].capabilities.idempotency:
            await self._core.lead.check()
            with calling(self._provider):
                return await self._provider.launch(orders)
        new, there = await self._sent.sort(orders)
        await self._core.lead.check()
        try:
            with calling(self._provider):
                return [*there, *(await self._provider.launch(new) if new else ())]
        finally:
            self._sent.note(new, self._core.now)

    async def _orders(self, batch: list[Effect]) -> list[LaunchOrder]:
        """What is still wanted once the jobs' documents are read, all of them in one question."""
        core = self._core
        documents = await core.wiring.ledger.specs({core.book.jobs[e.job].spec for e in batch})
        rows = [core.book.jobs[e.job] for e in batch if core.wanted(e)]
        return [order_for(core, row, documents[row.spec]) for row in rows]

    async def _end(self, batch: list[Effect]) -> list[Effect]:
        keys = {launch_key(e.job, e.n): e for e in batch}
        if not keys:
            return []
        await self._core.lead.check()
        try:
            with calling(self._provider):
                replies = await self._provider.stop(list(keys))
        except ProviderError as error:
            log.info("stop not acknowledged", provider=self._provider.name, keys=len(keys), why=_words(error))
            return batch
        done = {reply.key for reply in replies if reply.acknowledged}
        self.acknowledged |= done
        return [effect for key, effect in keys.items() if key not in done]

    async def _withdraw(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            offers = sorted(self._withdrawn)
            await self._core.lead.check()
            try:
                with calling(self._provider):
                    self._withdrawn.difference_update(await self._provider.withdraw(offers))
            except ProviderError as error:
                log.info("withdrawal not acknowledged", provider=self._provider.name, why=_words(error))
            if self._withdrawn:
                await asyncio.sleep(self._core.wiring.pace.retry / 1e6)
                self._some.set()

    def _settle(self, batch: Sequence[Effect], again: list[Effect]) -> list[Effect]:
        self._core.pending.difference_update(set(batch) - set(again))
        return again


def offer_out(core: Core, row: JobRow) -> OfferOut:
    """The open offer of a job as it leaves us: the allow-list and nothing more."""
    assert row.offer is not None, "only open offers are delivered"
    return offer_sent(row, core.book.known_shapes[row.shape], terms_bytes(core.book.terms[row.offer.terms]))


def offer_sent(row: JobRow, shape: Shape, terms: bytes) -> OfferOut:
    """The same from what the ledger holds: the shape and the terms that the row cites."""
    offer = row.offer
    assert offer is not None, "only open offers are delivered"
    return OfferOut(
        offer=offer_id(row.job, offer.n), clause=offer.clause or None, contract_version=offer.contract, version=1,
        workload=shape.job_class, trigger=(Trigger.OWNED if offer.block else trigger_of(row, shape)).value, terms=terms,
        terms_hash=offer.terms, window_us=offer.window, ledger_head=offer.head, ordinal=offer.ordinal,
    )  # fmt: skip


def hash_sent(offer: OfferOut) -> str:
    """The sha256 of an offer's bytes, by which the ledger says what left us."""
    return hashlib.sha256(msgspec.json.encode(offer)).hexdigest()


def _words(error: ProviderError) -> str:
    return f"{type(error).__name__}: {error}"
