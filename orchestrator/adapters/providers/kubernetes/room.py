"""Is there room for this offer, without Kueue? Yes or a typed no, at once; one answer per offer id.

Called by the provider where no queue is configured. What runs is read from the cluster; what was promised and has no
pods yet is in memory: an earmark ends when all of its pods are bound to nodes, when it is withdrawn, or when its time
is up. Nothing here is a reservation: other people's pods may be quicker (`firm: none`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec

from orchestrator.adapters.providers.kubernetes import asking
from orchestrator.adapters.providers.kubernetes.capacity import (
    Ask,
    Short,
    count_limits,
    plus,
    requested,
    short_of_quota,
    short_of_word,
)
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.objects import Runtime
from orchestrator.adapters.providers.kubernetes.places import Places, Taken
from orchestrator.adapters.providers.kubernetes.resources import KEY, LimitRange, Node, Pod, Quota
from orchestrator.model.offer import Answer, LaunchOrder, OfferOut, Reason, Receipt, Scope
from orchestrator.model.placement import Terms, largest, parse_terms

EARMARK_US = 600_000_000
"""An accepted offer is launched in the engine's next turn; ten minutes outlast any restart of ours."""
SOON_US = 60_000_000
"""From an acceptance to the first try of its launch, at most: nobody can have launched and stopped it meanwhile. A call
begins under a lease only, and whoever leads anew launches nothing that the ledger has seen end."""
SIZES = 1_000
"""Sizes of launches of which it is remembered what their pods take: building their templates each time is dear."""
_Size: TypeAlias = tuple[int, int, int, int, str, Runtime]
"""Workers; GPUs, CPUs and bytes of memory of each; accelerator; what starts them. Pods alike in all ask the same."""
KEPT = 10_000
"""Answers remembered, so that an offer delivered again has the same one."""


class Stock(msgspec.Struct, frozen=True):
    """What the cluster holds at this moment."""

    nodes: Sequence[Node]
    pods: Sequence[Pod]
    quotas: Sequence[Quota] = ()
    ranges: Sequence[LimitRange] | None = ()
    """Of the namespace; None: we may not read them."""

    @property
    def defaults(self) -> dict[str, Any]:
        """The limits of a container that sets none."""
        rows = (row for one in self.ranges or () for row in one.spec.limits if row.type == "Container")
        return {name: amount for row in rows for name, amount in (row.default or {}).items()}


@dataclass(frozen=True, slots=True)
class Earmark:
    """Room kept for one accepted offer."""

    asks: tuple[Ask, ...]
    until: int
    key: str = ""
    """The launch that used it; empty: none yet."""
    tried: bool = False
    """That launch may be there, whatever the reply to it was."""


class _Plan:
    """Where the pods of every earmark would go, beside those of one stock. Good until the stock changes."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.places = Places(stock.nodes, stock.pods)
        self.asks: dict[str, Sequence[Ask]] = {}
        self.until: float = math.inf
        """When the first earmark ends."""
        self._taken: dict[str, tuple[str, Taken]] = {}
        self.places.take(_waiting(stock.pods))

    def keep(self, offer: str, asks: Sequence[Ask], until: int, taken: tuple[str, Taken] | None = None) -> None:
        """Take the places of an earmark, where they are not `taken` yet."""
        self.asks[offer], self.until = asks, min(self.until, until)
        self._taken[offer] = taken or self.places.take(asks)

    def keeps(self, offer: str) -> bool:
        """Whether all pods of this earmark have places."""
        return offer in self._taken and not self._taken[offer][0]

    def drop(self, offer: str) -> None:
        """Give the places of an earmark back."""
        if self.asks.pop(offer, None) is not None:
            self.places.give_back(self._taken.pop(offer)[1])


class Room:
    """One cluster's answers."""

    def __init__(self, connection: Connection, runtime: Runtime, book: Mapping[str, int] | None = None) -> None:
        """`book`: the price book, accelerator → micro-dollars per GPU-hour."""
        self._connection, self.runtime, self._book = connection, runtime, book or {}
        self._answers: dict[str, Answer] = {}
        self._earmarks: dict[str, Earmark] = {}
        self._used: dict[str, str] = {}
        """Launch key → the offer whose earmark it used."""
        self._plan: _Plan | None = None
        self._asks: dict[_Size, tuple[Ask, ...]] = {}

    def receipt(self, offer: OfferOut, stock: Stock, now_us: int) -> Receipt:
        """The offer's receipt with its answer."""
        answer = self._answers.get(offer.offer)
        if answer is None:
            answer = self._answer(offer, parse_terms(offer.terms), stock, now_us)
            self._answers[offer.offer] = answer
            if len(self._answers) > KEPT:
                del self._answers[next(iter(self._answers))]
        return offer.receipt(offer.offer, answer.provider_at, answer)

    def refused(self, order: LaunchOrder, stock: Stock, now_us: int) -> Short | None:
        """Why this launch has no room any more; its own earmark is not against it."""
        plan = self._planned(stock, now_us)
        asks = self._asked_by(order)
        short = self._short_of_quota(asks, plan, but_for=order.offer)
        if short is not None or (plan.keeps(order.offer) and self._earmarks[order.offer].asks == asks):
            return short
        plan.drop(order.offer)
        return plan.places.short(asks)

    def first(self, offer: str, now_us: int) -> bool:
        """Whether it was accepted here not long ago, and this is the first try of its launch that we make; asked once
        for each. What another server made of it, whose lease had run out in the middle of its call, is the sweep's."""
        earmark = self._earmarks.get(offer)
        if earmark is None or earmark.tried:
            return False
        self._earmarks[offer] = replace(earmark, tried=True)
        return now_us - (earmark.until - EARMARK_US) < SOON_US

    def launched(self, order: LaunchOrder, now_us: int) -> None:
        """The room goes on being kept until the launch's pods have their nodes."""
        before = self._earmarks.pop(order.offer, None)
        asks = self._asked_by(order)
        self._used[order.key] = order.offer
        self._earmarks[order.offer] = Earmark(asks, now_us + EARMARK_US, order.key, tried=True)
        if before is None or before.asks != asks or (self._plan is not None and not self._plan.keeps(order.offer)):
            self._plan = None

    def release(self, offer: str) -> bool:
        """End an earmark; whether there was one. That of a launch ends by itself."""
        earmark = self._earmarks.get(offer)
        if earmark is None or earmark.key:
            return False
        self._forget(offer)
        return True

    def ended(self, key: str) -> bool:
        """Nothing of this launch will come any more; whether room was still kept for it."""
        offer = self._used.get(key, "")
        found = offer in self._earmarks
        self._forget(offer)
        return found

    def _answer(self, offer: OfferOut, terms: Terms, stock: Stock, now_us: int) -> Answer:
        here = asking.candidates(terms, self._connection)
        if not here:
            return asking.unknown_accelerator(offer, terms, self._connection, now_us)
        shorts = []
        plan = self._planned(stock, now_us)
        for accelerator in here:
            fitting = self._most(offer.offer, terms, accelerator, plan, now_us)
            short = self._promise(offer.offer, fitting, accelerator, plan, now_us)
            if short is None:
                asks_for = asking.price(self._book, terms, accelerator, self._connection)
                return asking.yes(offer, fitting, accelerator, now_us, asks=asks_for, ttl_us=EARMARK_US)
            shorts.append((accelerator, short))
        return declined(offer.offer, shorts, now_us)

    def _most(self, offer: str, terms: Terms, accelerator: str, plan: _Plan, now_us: int) -> Terms:
        """In one size: of a range of workers as many as there is room for, or the least of it."""
        if not terms.elastic:
            return terms

        def fits(sized: Terms) -> bool:
            short = self._promise(offer, sized, accelerator, plan, now_us)
            self._forget(offer)
            return short is None

        return largest(terms, fits) or terms.sized(terms.fewest)

    def _promise(self, offer: str, terms: Terms, accelerator: str, plan: _Plan, now_us: int) -> Short | None:
        """Keep room for these terms; or why there is none, and nothing is kept."""
        asks = self._asked(offer, terms, accelerator)
        short = self._short_of_quota(asks, plan)
        if short is not None:
            return short
        short = self._keep(offer, asks, plan, now_us + EARMARK_US)
        more_may_come = terms.gpus_per_worker and self._connection.autoscaled(accelerator)
        return Short(short.detail) if short is not None and more_may_come else short

    def _asked(self, offer: str, terms: Terms, accelerator: str) -> tuple[Ask, ...]:
        size = terms.workers, terms.gpus_per_worker, terms.cpus, terms.memory, accelerator, self.runtime
        known = self._asks.get(size)
        return known or self._learn(size, asking.asked(offer, terms, accelerator, self._connection, self.runtime))

    def _asked_by(self, order: LaunchOrder) -> tuple[Ask, ...]:
        size = order.workers, order.gpus, order.cpus, order.memory, order.accelerator, self.runtime
        return self._asks.get(size) or self._learn(size, asking.asked_by(order, self._connection, self.runtime))

    def _learn(self, size: _Size, asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
        if len(self._asks) >= SIZES:
            self._asks.clear()
        self._asks[size] = asks
        return asks

    def _short_of_quota(self, asks: Sequence[Ask], plan: _Plan, but_for: str = "") -> Short | None:
        quotas = plan.stock.quotas
        if not quotas:
            return None
        # what pods may take at most is added up only where a quota counts it: it is dear
        defaults = plan.stock.defaults if count_limits(quotas) else None
        needs = asking.needs(asks, self.runtime, defaults)
        together = dict(needs)
        for offer, promised in plan.asks.items():
            if offer != but_for:
                together = plus(together, asking.needs(promised, self.runtime, defaults))
        together = {name: amount for name, amount in together.items() if name in needs}
        unsaid = None if plan.stock.ranges is None else short_of_word(quotas, asks, plan.stock.defaults)
        return unsaid or short_of_quota(quotas, needs) or short_of_quota(quotas, together)

    def _keep(self, offer: str, asks: Sequence[Ask], plan: _Plan, until: int) -> Short | None:
        """Keep room for these from now on, if there is."""
        short, taken = plan.places.reserve(asks)
        if short is None:
            self._earmarks[offer] = Earmark(tuple(asks), until)
            plan.keep(offer, asks, until, ("", taken))
        return short

    def _forget(self, offer: str) -> None:
        earmark = self._earmarks.pop(offer, None)
        if earmark is not None:
            self._used.pop(earmark.key, None)
        if self._plan is not None:
            self._plan.drop(offer)

    def _planned(self, stock: Stock, now_us: int) -> _Plan:
        """Earmarks, as far as their pods are not there yet, beside this stock."""
        if self._plan is not None and self._plan.stock is stock and now_us < self._plan.until:
            return self._plan
        self._plan = None
        there: dict[str, int] = {}
        for pod in stock.pods:
            if key := pod.metadata.label(KEY):
                there[key] = there.get(key, 0) + 1
        plan = _Plan(stock)
        for offer, earmark in [*self._earmarks.items()]:
            left = _less(earmark.asks, there.get(earmark.key, 0) if earmark.key else 0)
            if earmark.until <= now_us or not left:
                self._forget(offer)
            else:
                plan.keep(offer, left, earmark.until)
        self._plan = plan
        return plan


def _less(asks: Sequence[Ask], there: int) -> list[Ask]:
    """These without as many pods, from the front, as are there."""
    left = []
    for ask in asks:
        taken = min(ask.count, there)
        there -= taken
        if ask.count > taken:
            left.append(msgspec.structs.replace(ask, count=ask.count - taken))
    return left


def _waiting(pods: Sequence[Pod]) -> list[Ask]:
    """Pods of whomever that wait for a node: they come first."""
    return [
        Ask(1, requested(pod.spec), pod.spec.node_selector or {}, pod.spec.tolerations)
        for pod in pods
        if not pod.spec.node_name and not pod.over and not pod.spec.scheduling_gates
    ]


def declined(offer: str, shorts: Sequence[tuple[str, Short]], now_us: int) -> Answer:
    """No room on any accelerator; `until` and scope are the mildest of all."""
    ever = all(short.ever for _, short in shorts)
    detail = "; ".join(f"{name}: {short.detail}" if name else short.detail for name, short in shorts)
    reason, hold_off = (Reason.SPEC, asking.NEVER_US) if ever else (Reason.CAPACITY, asking.FULL_US)
    scope = Scope.ACCELERATOR if any(name for name, _ in shorts) else Scope.PROVIDER
    return asking.no(offer, reason, detail[:1000], scope, now_us + hold_off, now_us)
