"""The telemetry port: how long did our own work take, and what does a scraper see?

The engine reports turns and commits; the API asks for the page. Counters come from the ledger (`core.counters`), so
they survive a restart; live values are asked for at the scrape; only durations of this process are kept here.
Nothing may ever be decided by it, and nothing of it may fail a caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct, field


class Live(Struct, frozen=True, kw_only=True):
    """What is true at the moment of a scrape."""

    queued: Mapping[str, int] = field(default_factory=dict)
    """Jobs that wait, by class."""
    providers_up: Mapping[str, bool] = field(default_factory=dict)
    open_offers: Mapping[str, int] = field(default_factory=dict)
    """By provider."""
    active_attempts: Mapping[str, int] = field(default_factory=dict)
    """By provider."""
    unknown_attempts: Mapping[str, int] = field(default_factory=dict)
    """By provider: attempts of which we do not know whether they run."""
    store_unread: Mapping[str, float] = field(default_factory=dict)
    """By store: seconds since this server last read it."""
    store_limit: Mapping[str, float] = field(default_factory=dict)
    """By store: seconds without a read after which jobs of some policy stop by themselves."""
    ledger_behind: float | None = None
    """Seconds since the ledger last took something in; None: no server leads here."""
    facts_waiting: int = 0
    """What arrived and is in no commit yet."""


class Page(Struct, frozen=True):
    """A scrape's reply."""

    content_type: str
    body: bytes


class Telemetry(Protocol):
    """What this process keeps about itself, and how it shows everything."""

    def turn(self, seconds: float) -> None:
        """One turn of the loop took this long."""
        ...

    def commit(self, seconds: float, events: int) -> None:
        """One durable commit took this long and held so many events."""
        ...

    def page(self, counters: Mapping[str, int], live: Live) -> Page:
        """Everything in Prometheus' text format; `counters` as the ledger holds them."""
        ...


class Silent:
    """Keeps nothing and shows nothing: for tests, benchmarks and the simulation."""

    def turn(self, seconds: float) -> None:
        """Nothing."""

    def commit(self, seconds: float, events: int) -> None:
        """Nothing."""

    def page(self, counters: Mapping[str, int], live: Live) -> Page:
        """An empty page."""
        return Page("text/plain; charset=utf-8", b"")
