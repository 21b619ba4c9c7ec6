"""The runtime port: how is an entrypoint run on machines that a provider made? And what is every provider handed?

`Runtime` is called by provider adapters alone; implemented over Ray's Jobs REST API. A run is named by its launch key,
so that repeating a submission is harmless. What a runtime says is a hint and never proof: neither its status nor an
exit code ends an attempt, only the run log and the provider's listings do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, field

from orchestrator.ports.clock import Clock


class RuntimeFailure(Exception):
    """The runtime gave no trustworthy reply, or refused; says what was being done. Nothing is known of the run."""


class Head(Struct, frozen=True):
    """Where a cluster's runtime listens, and the token that it wants."""

    address: str
    token: str


class Run(Struct, frozen=True, kw_only=True):
    """One entrypoint to be run once on a cluster."""

    key: str
    entrypoint: tuple[str, ...]
    """Program and arguments; never a shell's text."""
    environment: Mapping[str, str] = field(default_factory=dict)


class RunState(StrEnum):
    """What the runtime says of a run."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


OVER = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED})


class RunStatus(Struct, frozen=True):
    """A run as the runtime sees it. `exit` is the entrypoint's, None while unknown."""

    state: RunState
    exit: int | None = None
    detail: str = ""


class Runtime(Protocol):
    """Runs entrypoints on clusters. Every verb may raise `RuntimeFailure`."""

    async def submit(self, head: Head, run: Run) -> None:
        """Have it run under its key; the same key again is the same run.

        Crash before: nothing. During: it may run. After: it runs once; submit again to be sure.
        """
        ...

    async def status(self, head: Head, key: str) -> RunStatus | None:
        """What became of it; None: the runtime answers, and never had it (its records die with the head)."""
        ...

    async def stop(self, head: Head, key: str) -> bool:
        """Ask for its end; whether it was asked. One that waits for a place may start all the same."""
        ...

    def logs(self, head: Head, key: str) -> AsyncIterator[bytes]:
        """Its output so far."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; stops nothing that runs."""
        ...


class Tools(Struct, frozen=True, kw_only=True):
    """What bootstrap hands to every provider factory: `factory(name, connection, tools) -> Provider`."""

    runtime: Runtime
    clock: Clock
    ledger: str
    """Our ledger's id: the label on everything that is made for us."""
    term: Callable[[], int] = lambda: 0
    """The lease under which effects are made, asked at each call."""
    prices: Mapping[str, int] = field(default_factory=dict)
    """The operator's price book for this provider: accelerator → micro-dollars per GPU-hour. For adapters of suppliers
    that say no price themselves; the engine has it anyway."""
