"""What does the cloud have to sell, where, at which price, and how much of it is free? Numbers only.

Called by the cloud and its switchboard. Prices are micro-dollars per GPU-hour; capacity is GPUs per region and kind.
A cloud with spot machines has a second stock for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.mockcloud.config import CloudConfig, Quota
from orchestrator.mockcloud.profiles import profile


class Stock:
    """Regions, capacity, quotas and prices of one cloud. `tell` puts a line on the cloud's feed."""

    percent = 100
    """Of the list price."""

    def __init__(self, config: CloudConfig, tell: Callable[..., None]) -> None:
        self.profile = profile(config.cloud)
        self.regions = config.regions or dict(self.profile.regions)
        self.capacity = config.capacity or {region: dict(self.profile.accelerators) for region in self.regions}
        self.quotas = {region: dict(kinds) for region, kinds in config.quotas.items()}
        self._prices = dict(config.prices)
        self._used: Counter[tuple[str, str]] = Counter()
        self._tell = tell

    def offers(self, region: str, accelerator: str) -> bool:
        """Whether it is sold there at all, free or not."""
        return accelerator in self.capacity.get(region, {})

    def free(self, region: str, accelerator: str) -> int:
        """GPUs neither earmarked nor taken; below 0 after the capacity was cut."""
        return self.capacity.get(region, {}).get(accelerator, 0) - self._used[region, accelerator]

    def room(self, region: str, accelerator: str) -> int:
        """GPUs that are free and inside the account's quota."""
        quota, free = self.quotas.get(region, {}).get(accelerator), self.free(region, accelerator)
        return free if quota is None else min(free, quota.gpus - self._used[region, accelerator])

    def over_quota(self, region: str, accelerator: str, gpus: int) -> Quota | None:
        """The quota that so many GPUs more would exceed, earmarks counted; None: there is room."""
        quota = self.quotas.get(region, {}).get(accelerator)
        return quota if quota is not None and self._used[region, accelerator] + gpus > quota.gpus else None

    def take(self, region: str, accelerator: str, gpus: int) -> None:
        """So many GPUs are taken (given back, where negative)."""
        self._used[region, accelerator] += gpus
        if gpus < 0:
            self._tell_free(region, accelerator)

    def set_capacity(self, region: str, accelerator: str, gpus: int) -> None:
        """So many GPUs of this kind exist there now."""
        self.capacity.setdefault(region, {})[accelerator] = gpus
        self._tell_free(region, accelerator)

    def set_quota(self, region: str, accelerator: str, quota: Quota) -> None:
        """So many may be used there from now on; what runs beyond it runs on."""
        self.quotas.setdefault(region, {})[accelerator] = quota
        self._tell_free(region, accelerator)

    def price(self, region: str, accelerator: str) -> int | None:
        """Micro-dollars per GPU-hour; None: not published."""
        listed = self._prices.get(accelerator) or self.profile.list_price(region, accelerator)
        return None if listed is None else listed * self.percent // 100

    def set_price(self, accelerator: str, price: int) -> None:
        """A new price; open and accepted offers keep theirs."""
        self._prices[accelerator] = price
        self.tell_prices(accelerator)

    def tell_prices(self, only: str | None = None) -> None:
        """Put the prices (of one kind) on the feed."""
        for row in self.rows():
            if only in (None, row["accelerator"]):
                self._tell("price", **row)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every published price."""
        for region, kinds in self.capacity.items():
            for accelerator in kinds:
                price = self.price(region, accelerator)
                if price is not None:
                    yield {"region": region, "accelerator": accelerator, "price": price}

    def _tell_free(self, region: str, accelerator: str) -> None:
        free = self.free(region, accelerator)
        self._tell("notice", kind="capacity", detail=f"{free} {accelerator} free in {region}")


class SpotStock(Stock):
    """The spot machines: their own capacity, cheaper, and under no quota."""

    def __init__(self, config: CloudConfig, tell: Callable[..., None]) -> None:
        super().__init__(config, tell)
        assert config.spot is not None, "a cloud without spot machines has no stock of them"
        self.capacity = {region: dict(kinds) for region, kinds in config.spot.gpus.items()}
        self.quotas = {}
        self.percent = config.spot.percent
