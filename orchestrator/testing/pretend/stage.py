"""What do all parts of a pretended supplier share? Its script, stock, feed, free GPUs, journal and timers.

Called by `pretend.offers` and `pretend.machines`, read by `testing.scripted`. Everything happens synchronously on the
running loop's timers, so a cancelled call leaves either all of an effect or nothing. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct, field

from orchestrator.model.offer import Answer, Capabilities, Charge, Notice, PriceRow, Sighting
from orchestrator.ports.clock import Clock
from orchestrator.testing.scripts import Script

News: TypeAlias = Answer | Sighting | Charge | Notice | PriceRow
RELEASED = "capacity"
"""The kind of notice that tells of capacity come free."""
CONSIDERING = "considering"


RECLAIM = "reclaim"
"""The kind of notice that tells of machines to be taken back."""


class Stock(Struct, frozen=True, kw_only=True):
    """What the supplier sells."""

    region: str = "eu-1"
    prices: Mapping[str, int] = field(default_factory=lambda: {"H100": 2_000_000})
    """Accelerator → micro-dollars per GPU-hour, until `Stage.set_price`."""
    gpus: int | None = None
    """GPUs in all; None: endless."""
    foreign: tuple[str, ...] = ()
    """Keys of machines that others run under our account, without our label."""


class Stage:
    """One supplier's world; survives any number of servers that talk to it."""

    def __init__(self, name: str, script: Script, stock: Stock, capabilities: Capabilities, clock: Clock) -> None:
        self.name, self.script, self.stock = name, script, stock
        self.capabilities, self.clock = capabilities, clock
        self.prices = dict(stock.prices)
        self.feed: list[News] = []
        self.journal: list[dict[str, Any]] = []
        """What really happened here, for the audit of the world: {at, boottime, cloud, kind, key, …}, microseconds."""
        self.spoken: list[object] = []
        """The lines of the script that were really spoken, in order."""
        self.news = asyncio.Event()
        """Set at the next news; take it anew for each wait."""
        self.gpus = stock.gpus
        self.used = 0
        """GPUs earmarked or in machines."""
        for accelerator, price in self.prices.items():
            self.tell(PriceRow(accelerator, stock.region, price))

    def tell(self, item: News) -> None:
        """Add to the feed."""
        self.feed.append(item)
        self.wake()

    def wake(self) -> None:
        """Whoever waits for news looks again."""
        self.news.set()
        self.news = asyncio.Event()

    def note(self, kind: str, key: str, **more: Any) -> None:
        """One line of the journal."""
        now = self.clock.now_us()
        self.journal.append({"at": now, "boottime": now, "cloud": self.name, "kind": kind, "key": key, **more})

    def later(self, seconds: float, act: Callable[..., object], *args: object) -> None:
        """Do it so many seconds from now."""
        asyncio.get_running_loop().call_later(seconds, act, *args)

    def until(self, seconds: float | None) -> int | None:
        """The moment so many seconds from now, microseconds UTC; None stays None."""
        return None if seconds is None else self.clock.now_us() + round(seconds * 1_000_000)

    def fits(self, gpus: int) -> bool:
        """Whether so many GPUs are free."""
        return self.gpus is None or self.used + gpus <= self.gpus

    def take(self, gpus: int) -> None:
        """So many GPUs are spoken for."""
        self.used += gpus

    def release(self, gpus: int) -> None:
        """So many are free again; told where GPUs are finite."""
        self.used -= gpus
        if gpus and self.gpus is not None:
            self.tell(Notice(RELEASED, detail=f"{gpus} GPUs"))

    def grow(self, gpus: int) -> None:
        """So many GPUs more are sold from now on; a notice tells it."""
        if self.gpus is not None:
            self.gpus += gpus
        self.tell(Notice(RELEASED, detail=f"{gpus} GPUs"))

    def set_price(self, accelerator: str, price: int) -> None:
        """The price from now on, micro-dollars per GPU-hour; the feed tells it."""
        self.prices[accelerator] = price
        self.tell(PriceRow(accelerator, self.stock.region, price))
