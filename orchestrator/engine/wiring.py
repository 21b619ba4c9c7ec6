"""What does the engine stand on? Everything it is handed by the composition root, in one value.

Built by `bootstrap.build` (real adapters) and by stories (fakes on virtual time); read by all files of the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from orchestrator.model.capacity import Block
from orchestrator.model.contract import Contracts, Providers
from orchestrator.model.event import Submitted
from orchestrator.model.placement import Shape
from orchestrator.model.wire import StoreRef
from orchestrator.ports.clock import Clock
from orchestrator.ports.ledger import Ledger
from orchestrator.ports.provider import Provider
from orchestrator.ports.telemetry import Silent, Telemetry
from orchestrator.runlog.store import Store

SECOND = 1_000_000
T = TypeVar("T")


class Io(Protocol):
    """Runs one blocking call of the run log without blocking the loop."""

    def __call__(self, call: Callable[..., T], *args: Any) -> Awaitable[T]:
        """The call's result."""
        ...


async def inline(call: Callable[..., T], *args: Any) -> T:
    """For stores in memory, on virtual time: just call."""
    return call(*args)


def threaded(workers: int = 16) -> Io:
    """For real stores: a pool of its own, so that a store that hangs never takes the loop's other threads."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="runlog")

    async def run(call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call, *args)

    return run


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """One named store: how an agent finds it, and our own access to it."""

    ref: StoreRef
    store: Store


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the engine looks, in microseconds; demo and stories are faster than real clouds need."""

    long_poll: int = 10 * SECOND
    sweep: int = 30 * SECOND
    presence: int = 5 * SECOND
    absent_after: int = 15 * SECOND
    down_after: int = 5 * SECOND
    """A provider counts as unreachable after this long without a reply that we can trust."""
    retry: int = 1 * SECOND
    retry_most: int = 30 * SECOND


@dataclass(frozen=True, slots=True)
class Incoming:
    """What the engine needs of a job's document. `event` and `shape` go into the ledger."""

    event: Submitted
    shape: Shape
    shape_document: bytes


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What a launch needs of a job's document and no decision does."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    requirements: tuple[str, ...]
    package: str | None
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Agreed:
    """A contract set that may take effect: compiled, and how jobs are read under it."""

    contracts: Contracts | None
    document: bytes
    intake: Callable[[bytes], Incoming]


@dataclass(frozen=True, slots=True)
class Wiring:
    """Adapters, documents in force, and how to run blocking calls."""

    ledger: Ledger
    clock: Clock
    providers: Mapping[str, Provider]
    """By name, in the order of the providers file."""
    contracts: Contracts | None
    contract_document: bytes
    provider_set: Providers
    provider_document: bytes
    stores: Mapping[str, StoreAccess]
    intake: Callable[[bytes], Incoming]
    launch_spec: Callable[[bytes], LaunchSpec]
    io: Io
    agreed: Callable[[bytes], Agreed]
    """Reads the canonical bytes of a contract set that was applied (or is in the ledger); `Refused` where it cannot."""
    blocks: tuple[Block, ...] = ()
    """Capacity that is owned, by the server's own file."""
    by_hand: frozenset[str] = frozenset()
    """Providers whose people answer offers themselves."""
    pace: Pace = field(default_factory=Pace)
    telemetry: Telemetry = field(default_factory=Silent)
