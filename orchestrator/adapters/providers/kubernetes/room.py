"""Is there room for this offer, without Kueue? Yes or a typed no, at once; one answer per offer id.

Called by the provider where no queue is configured. What runs is read from the cluster; what was promised and has no
pods yet is in memory: an earmark ends when all of its pods are bound to nodes, when it is withdrawn, or when its time
is up. Nothing here is a reservation: other people's pods may be quicker (`firm: none`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from orchestrator.adapters.providers.kubernetes import asking
from orchestrator.adapters.providers.kubernetes.capacity import (
    Amounts,
    Ask,
    Short,
    plus,
    requested,
    short_of_quota,
    short_of_room,
)
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.objects import Runtime
from orchestrator.adapters.providers.kubernetes.resources import KEY, Node, Pod, Quota
from orchestrator.model.offer import Answer, LaunchOrder, OfferOut, Reason, Receipt, Scope
from orchestrator.model.placement import Terms, parse_terms

EARMARK_US = 600_000_000
"""An accepted offer is launched in the engine's next turn; ten minutes outlast any restart of ours."""
KEPT = 10_000
"""Answers remembered, so that an offer delivered again has the same one."""


class Stock(msgspec.Struct, frozen=True):
    """What the cluster holds at this moment."""

    nodes: Sequence[Node]
    pods: Sequence[Pod]
    quotas: Sequence[Quota] = ()


@dataclass(frozen=True, slots=True)
class Earmark:
    """Room kept for one accepted offer."""

    asks: tuple[Ask, ...]
    until: int
    key: str = ""
    """The launch that used it; empty: none yet."""


class Room:
    """One cluster's answers."""

    def __init__(self, connection: Connection, runtime: Runtime) -> None:
        self._connection, self._runtime = connection, runtime
        self._answers: dict[str, Answer] = {}
        self._earmarks: dict[str, Earmark] = {}

    def receipt(self, offer: OfferOut, stock: Stock, now_us: int) -> Receipt:
        """The offer's receipt with its answer."""
        answer = self._answers.get(offer.offer)
        if answer is None:
            answer = self._answer(offer, parse_terms(offer.terms), stock, now_us)
            self._answers[offer.offer] = answer
            if len(self._answers) > KEPT:
                del self._answers[next(iter(self._answers))]
        return Receipt(offer.offer, offer.offer, answer.provider_at, answer)

    def refused(self, order: LaunchOrder, stock: Stock, now_us: int) -> Short | None:
        """Why this launch has no room any more, its own earmark aside."""
        asks = asking.asked_by(order, self._connection, self._runtime)
        return self._short(asks, stock, now_us, but_for=order.offer)

    def launched(self, order: LaunchOrder, now_us: int) -> None:
        """The room goes on being kept until the launch's pods have their nodes."""
        asks = asking.asked_by(order, self._connection, self._runtime)
        self._earmarks[order.offer] = Earmark(asks, now_us + EARMARK_US, order.key)

    def release(self, offer: str) -> bool:
        """End an earmark; whether there was one. That of a launch ends by itself."""
        earmark = self._earmarks.get(offer)
        if earmark is None or earmark.key:
            return False
        del self._earmarks[offer]
        return True

    def ended(self, key: str) -> None:
        """Nothing of this launch will come any more."""
        for offer in [offer for offer, earmark in self._earmarks.items() if earmark.key == key]:
            del self._earmarks[offer]

    def _answer(self, offer: OfferOut, terms: Terms, stock: Stock, now_us: int) -> Answer:
        here = asking.candidates(terms, self._connection)
        if not here:
            return asking.unknown_accelerator(offer, terms, self._connection, now_us)
        shorts = []
        for accelerator in here:
            asks = asking.asked(offer.offer, terms, accelerator, self._connection, self._runtime)
            short = self._short(asks, stock, now_us)
            if short is None:
                self._earmarks[offer.offer] = Earmark(asks, now_us + EARMARK_US)
                return asking.yes(offer, terms, accelerator, EARMARK_US, now_us)
            shorts.append((accelerator, short))
        return declined(offer.offer, shorts, now_us)

    def _short(self, asks: Sequence[Ask], stock: Stock, now_us: int, but_for: str = "") -> Short | None:
        before = self._promised(stock.pods, now_us, but_for)
        promised: Amounts = {}
        for ask in before:
            promised = plus(promised, asking.needs([ask], self._runtime, self._connection))
        needs = asking.needs(asks, self._runtime, self._connection)
        together = {name: amount + promised.get(name, 0) for name, amount in needs.items()}
        short = short_of_quota(stock.quotas, needs) or short_of_quota(stock.quotas, together)
        return short or short_of_room(stock.nodes, stock.pods, [*before, *_waiting(stock.pods)], asks)

    def _promised(self, pods: Sequence[Pod], now_us: int, but_for: str) -> list[Ask]:
        """Earmarks, as far as their pods are not there yet."""
        there: dict[str, int] = {}
        for pod in pods:
            if key := pod.metadata.label(KEY):
                there[key] = there.get(key, 0) + 1
        asks: list[Ask] = []
        for offer, earmark in [*self._earmarks.items()]:
            left = _less(earmark.asks, there.get(earmark.key, 0) if earmark.key else 0)
            if earmark.until <= now_us or not left:
                del self._earmarks[offer]
            elif offer != but_for:
                asks += left
        return asks


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
