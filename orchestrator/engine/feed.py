"""What does a provider say? One long poll after another, turned into facts; deadlines get a poll of their own.

One per provider. A reply is told and folded before the next call is sent, so that a closing poll sent at or after a
deadline really closes it. Silence of the provider is told once, when it has lasted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from orchestrator.core.facts import (
    Billed,
    CapacityReleased,
    Fact,
    Polled,
    PollFailed,
    Priced,
    ProviderDown,
    ProviderUp,
    ReclaimSeen,
)
from orchestrator.core.windows import NEVER
from orchestrator.engine.core import Core, log
from orchestrator.engine.stranger import calling
from orchestrator.model.ids import is_launch_key, is_offer_id, parse_launch_key
from orchestrator.model.offer import Charge, Notice, Observation, Sighting
from orchestrator.ports.provider import Provider, ProviderError, Throttled

RETRY_S = (0.2, 0.5, 1.0, 2.0)
"""Pauses between polls that fail: short, because a closing poll may be due."""


class Feed:
    """The feed of one provider."""

    def __init__(self, core: Core, provider: Provider) -> None:
        """Nothing runs yet."""
        self._core, self._provider, self._name = core, provider, provider.name
        self._cursor: str | None = None
        self._until = NEVER
        self._sooner = asyncio.Event()
        self._failing_since: int | None = None
        self._failures = 0
        self.bills: dict[str, dict[str, Charge]] = {}
        """launch key → charges by id, as the provider last said."""

    def nudge(self) -> None:
        """A deadline nearer than the running poll's end may have come up."""
        if self._core.book.next_deadline(self._name) < self._until:
            self._sooner.set()

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            sent_at = self._core.now
            try:
                await self._get_to_know()
                sent_at = self._core.now
                observation = _readable(await self._poll(sent_at), self._name)
            except ProviderError as error:
                await self._failed(sent_at, error)
                continue
            if observation is None:
                continue
            self._failing_since, self._failures = None, 0
            self._core.answered_at[self._name] = self._core.now
            self._cursor = observation.cursor
            billed = [parse_launch_key(charge.key)[0] for charge in observation.charges]
            recalled = [job for job in billed if await self._core.recall(job)]
            await self._core.told(self._facts(observation, sent_at))
            for job in recalled:
                self._core.book.forget(job)

    async def _get_to_know(self) -> None:
        """Ask for its capabilities where it never told them, or was away since."""
        state = self._core.book.providers[self._name]
        if not (state.stated and state.up):
            with calling(self._provider):
                stated = await self._provider.capabilities()
            self._core.book.state_capabilities(self._name, stated)

    async def _poll(self, sent_at: int) -> Observation | None:
        """One call; None when it was given up because a nearer deadline needs a call of its own."""
        self._sooner.clear()
        deadline = self._core.book.next_deadline(self._name)
        away = not self._core.book.providers[self._name].up  # ask for a sign of life, not for news
        wait = 0 if away else max(0, min(deadline - sent_at, self._core.wiring.pace.long_poll))
        self._until = sent_at + wait
        call = asyncio.ensure_future(self._provider.observe(self._cursor, wait))
        sooner = asyncio.ensure_future(self._sooner.wait())
        try:
            await asyncio.wait({call, sooner}, return_when=asyncio.FIRST_COMPLETED)
            with calling(self._provider):
                return call.result() if call.done() else None
        finally:
            sooner.cancel()
            call.cancel()
            await asyncio.gather(call, sooner, return_exceptions=True)

    def _facts(self, observation: Observation, sent_at: int) -> list[Fact]:
        name = self._name
        facts: list[Fact] = [] if self._core.book.providers[name].up else [ProviderUp(name)]
        facts.append(Polled(name, sent_at, observation.answers))
        if observation.prices:
            facts.append(Priced(name, observation.prices))
        facts.extend(CapacityReleased(name) for notice in observation.notices if notice.kind == "capacity")
        facts.extend(_reclaims(name, observation.notices))
        for charge in observation.charges:
            self.bills.setdefault(charge.key, {})[charge.id] = charge
        facts.extend(self._core.sighted(name, filter(self._ours, observation.sightings)))
        facts.extend(_bill(self, charge.key) for charge in observation.charges if charge.final)
        return facts

    def _ours(self, sighting: Sighting) -> bool:
        return sighting.ledger in ("", self._core.ledger_id)

    async def _failed(self, sent_at: int, error: ProviderError) -> None:
        now = self._core.now
        facts: list[Fact] = []
        if self._core.book.next_deadline(self._name) <= sent_at:
            facts.append(PollFailed(self._name, sent_at, self._core.others_answer(self._name)))
        if isinstance(error, Throttled):
            await self._core.told(facts)
            await asyncio.sleep(error.retry_after_us / 1e6)
            return
        if self._failing_since is None:
            self._failing_since = sent_at
            log.info("provider does not answer", provider=self._name, why=str(error))
        lasting = now - self._failing_since >= self._core.wiring.pace.down_after
        if lasting and self._core.book.providers[self._name].up:
            facts.append(ProviderDown(self._name))
        await self._core.told(facts)
        await asyncio.sleep(RETRY_S[min(self._failures, len(RETRY_S) - 1)])
        self._failures += 1

    def final_bill(self, key: str) -> tuple[int, int] | None:
        """The same once the provider has called it final; None: not yet."""
        return self.bill(key) if any(c.final for c in self.bills.get(key, {}).values()) else None

    def bill(self, key: str) -> tuple[int, int] | None:
        """(micro-dollars, GPU-seconds) that the provider charges for a key so far; None: it has not said."""
        charges = self.bills.get(key)
        if not charges:
            return None
        return sum(c.microdollars for c in charges.values()), sum(c.gpu_seconds for c in charges.values())


def _reclaims(provider: str, notices: Iterable[Notice]) -> Iterator[ReclaimSeen]:
    for notice in notices:
        if notice.kind == "reclaim" and notice.until is not None and is_launch_key(notice.key):
            yield ReclaimSeen(*parse_launch_key(notice.key), provider, notice.until)


def _bill(feed: Feed, key: str) -> Billed:
    job, epoch = parse_launch_key(key)
    microdollars, gpu_seconds = feed.bill(key) or (0, 0)
    return Billed(job, epoch, microdollars, gpu_seconds)


def _readable(observation: Observation | None, provider: str) -> Observation | None:
    """Without what names nothing of ours: it must not stop the server, however often it comes."""
    if observation is None:
        return None
    made = replace(
        observation,
        answers=tuple(a for a in observation.answers if is_offer_id(a.offer)),
        sightings=tuple(s for s in observation.sightings if is_launch_key(s.key)),
        charges=tuple(c for c in observation.charges if is_launch_key(c.key)),
    )
    if made != observation:
        log.warning("the feed names what is none of ours", provider=provider)
    return made
