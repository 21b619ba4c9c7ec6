"""Does this cloud want the job, where, on what, at which price? Pure.

Called by the cloud for each offer. A no is one of the situations of the profile's error table.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.mockcloud.records import Refusal, Terms
from orchestrator.mockcloud.stock import Stock


@dataclass(frozen=True, slots=True)
class Yes:
    """Where, on what, how many workers, and for how many micro-dollars per GPU-hour (None: no public price)."""

    region: str
    accelerator: str
    price: int | None
    workers: int
    spot: bool = False


def bid(
    terms: Terms, stock: Stock, *, asked: int | None = None, most: int | None = None, need_capacity: bool = True
) -> Yes:
    """The first accelerator and region, in the order of the terms, that fits: of a range of workers as many as do.

    Raises `Refusal`.

    `asked`: micro-dollars per GPU-hour instead of the list price; `most`: what was agreed to cost no more.
    """
    regions = [r for r in terms.regions or stock.regions if r in stock.regions]
    if not regions:
        raise Refusal("no_such_region", ", ".join(terms.regions))
    machine = stock.profile.machine
    if terms.gpus_per_worker > machine.gpus or terms.cpus > machine.cpus or terms.memory > machine.memory:
        raise Refusal("too_large")
    kinds = (terms.accelerators or _sold(stock, regions)) if terms.gpus else ("",)
    places = [(r, kind) for kind in kinds for r in regions if not kind or stock.offers(r, kind)]
    if not places:
        raise Refusal("no_such_sku", ", ".join(kinds))
    ceiling = terms.ceiling_microusd
    priced = [(r, kind, _at_most(stock.price(r, kind) if asked is None else asked, most)) for r, kind in places]
    lawful = [(r, kind, price) for r, kind, price in priced if ceiling is None or price is None or price <= ceiling]
    if not lawful:
        raise Refusal("price", f"asked {min(price or 0 for _, _, price in priced)}, ceiling {ceiling}")
    refusals = []
    for region, kind, price in lawful:
        unbound = not need_capacity or not kind
        workers = terms.workers if unbound else min(terms.workers, stock.room(region, kind) // terms.gpus_per_worker)
        if workers in terms.sizes:
            return Yes(region, kind, price, workers)
        refusals.append(missing(stock, region, kind, terms.gpus_per_worker * terms.sizes[0]))
    raise next((no for no in refusals if no is not None), Refusal("capacity"))


def _sold(stock: Stock, regions: list[str]) -> tuple[str, ...]:
    """Every kind that is sold there, for terms that name none: any will do."""
    return tuple(dict.fromkeys(kind for region in regions for kind in stock.capacity.get(region, {})))


def _at_most(price: int | None, most: int | None) -> int | None:
    return price if price is None or most is None else min(price, most)


def missing(stock: Stock, region: str, kind: str, gpus: int) -> Refusal | None:
    """Why so many GPUs are not to be had there now: a quota, then capacity; None: they are."""
    quota = stock.over_quota(region, kind, gpus)
    if quota is not None:
        return Refusal("quota", kind, hold_off=quota.hold_off)
    return None if stock.free(region, kind) >= gpus else Refusal("capacity", f"{gpus} GPUs")
