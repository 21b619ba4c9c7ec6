"""When is running user code asked to end, and why?

Called by the agent's life once user code has started: it passes the time of each good read to the guard, and tells it
to end when the log, maxRuntime or somebody outside says so. The guard signals; where it does not, the agent kills.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.agent.guarded import Guarded
from orchestrator.model.wire import Isolation, ReleaseWhy
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.log import Reading
from orchestrator.runlog.rules import Verdict

POLL_S = 0.1  # how late an outside signal or a deadline may be noticed
BACKUP_MS = 2_000  # how much later than the guard the agent itself kills

Event = Reading | dict[str, Any]  # a reading of the log, or a line of the guard's


@dataclass(frozen=True, slots=True)
class Order:
    """Why user code is being ended, since when, and how long that may take. `why` null: the log is another's now."""

    why: ReleaseWhy | None
    since_ms: int
    grace_ms: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How user code ended. `code` negative: a signal; null: nobody could tell. `order`: only if it was signalled."""

    code: int | None
    order: Order | None
    good_ms: int


@dataclass
class Bounds:
    """What running user code is held to. The callables are asked again at each turn."""

    isolation: Isolation
    verdict: Callable[[], Verdict | None]
    good: Callable[[Reading], int | None]
    terminated: Callable[[], bool]
    runtime_over: Callable[[], bool]
    events: queue.Queue[Event] = field(default_factory=queue.Queue)


def attend(guarded: Guarded, bounds: Bounds, good_ms: int) -> Exit:
    """Until user code has ended, or should long have been killed."""
    order: Order | None = None
    signalled = False
    while True:
        event = _next(bounds.events)
        if isinstance(event, Reading):
            good_ms = max(good_ms, bounds.good(event) or 0)
            guarded.good(good_ms)
        elif event is not None:
            signalled = signalled or "signal" in event
            if event.get("signal") == "limit":
                order = order or Order("limit", boottime_ms(), bounds.isolation.grace_ms)
            if "exit" in event or not event:
                return Exit(event.get("exit"), order if signalled else None, good_ms)
        wanted = wanted_order(bounds, order, boottime_ms())
        if wanted is not None and wanted is not order:
            guarded.end(wanted.grace_ms)
            order = wanted
        if overdue(bounds.isolation, order, good_ms, boottime_ms()):
            return Exit(None, order or Order("limit", boottime_ms(), 0), good_ms)


def _next(events: queue.Queue[Event]) -> Event | None:
    try:
        return events.get(timeout=POLL_S)
    except queue.Empty:
        return None


def wanted_order(bounds: Bounds, order: Order | None, now_ms: int) -> Order | None:
    """The order in force now: a lost right overrides everything; of the others the first stands."""
    if order is not None and order.why is None:
        return order
    verdict, grace_ms = bounds.verdict(), bounds.isolation.grace_ms
    if verdict is not None and not verdict.good:
        return Order(None, now_ms, grace_ms)
    if order is not None:
        return order
    if verdict is not None and verdict.stop is not None:
        return Order("stopped", now_ms, verdict.stop.grace_ms)
    if bounds.runtime_over():
        return Order("max_runtime", now_ms, grace_ms)
    return Order("stopped", now_ms, grace_ms) if bounds.terminated() else None


def overdue(isolation: Isolation, order: Order | None, good_ms: int, now_ms: int) -> bool:
    """Whether the guard should long have killed: it is frozen or gone, and the agent does it instead."""
    if order is not None and now_ms >= order.since_ms + order.grace_ms + BACKUP_MS:
        return True
    limit_ms = isolation.limit_ms
    return limit_ms is not None and now_ms >= good_ms + limit_ms + isolation.grace_ms + BACKUP_MS
