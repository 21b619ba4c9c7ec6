"""What does each cloud look like from outside: regions, accelerators, list prices, and the words of its errors?

Called by the cloud when it starts and whenever it must say no. Data only (`data/clouds.json`, `data/prices.json`,
the latter with source and date per row); never decides anything. Prices are micro-dollars per GPU-hour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """How this cloud says one kind of no: its own code, HTTP status and sentence."""

    code: str
    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The largest machine: what one worker may ask for at most. Memory in bytes."""

    gpus: int
    cpus: int
    memory: int


@dataclass(frozen=True, slots=True)
class PriceListing:
    """One row of a public price list."""

    cloud: str
    region: str
    accelerator: str
    machine: str
    gpus: int
    usd_per_hour: Decimal
    source: str
    date: str

    @property
    def per_gpu_hour(self) -> int:
        """Micro-dollars per GPU-hour, rounded half up."""
        return int((self.usd_per_hour * 1_000_000 / self.gpus).quantize(Decimal(1), ROUND_HALF_UP))


@dataclass(frozen=True, slots=True)
class Profile:
    """One cloud."""

    name: str
    regions: Mapping[str, str]
    """Region to jurisdiction."""
    accelerators: Mapping[str, int]
    """Accelerator to GPUs per region."""
    machine: Machine
    errors: Mapping[str, ErrorWords]

    def list_price(self, region: str, accelerator: str) -> int | None:
        """Micro-dollars per GPU-hour on the largest listed machine; None where the cloud publishes none.

        A region without a row of its own has the price of the region that the list was taken in.
        """
        rows = [row for row in price_list() if row.cloud == self.name and row.accelerator == accelerator]
        rows = [row for row in rows if row.region == region] or rows
        return max(rows, key=lambda row: row.gpus).per_gpu_hour if rows else None


@cache
def price_list() -> tuple[PriceListing, ...]:
    """Every row of the public price lists."""
    return tuple(
        PriceListing(
            cloud=row["cloud"],
            region=row["region"],
            accelerator=row["accelerator"],
            machine=row["machine"],
            gpus=row["gpus"],
            usd_per_hour=Decimal(row["usdPerHour"]),
            source=row["source"],
            date=row["date"],
        )
        for row in _data("prices.json")["rows"]
    )


@cache
def names() -> tuple[str, ...]:
    """The clouds that can be played."""
    return tuple(_data("clouds.json")["clouds"])


@cache
def profile(name: str) -> Profile:
    """The cloud of this name. Raises KeyError with the known names."""
    if name not in names():
        raise KeyError(f"no mock cloud is called {name!r}; known: {', '.join(names())}")
    doc = _data("clouds.json")["clouds"][name]
    machine = doc["machine"]
    return Profile(
        name=name,
        regions=doc["regions"],
        accelerators=doc["accelerators"],
        machine=Machine(machine["gpus"], machine["cpus"], machine["memoryGiB"] << 30),
        errors={situation: ErrorWords(*words) for situation, words in doc["errors"].items()},
    )


def _data(name: str) -> Any:
    return json.loads(resources.files(__package__).joinpath("data", name).read_text("utf-8"))
