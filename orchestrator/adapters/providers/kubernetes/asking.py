"""What would an offer's pods ask of the cluster, and how is a no put into an answer?

Called when offers are answered, with Kueue or without. Pure: the pods come from the same templates that are launched
later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from orchestrator.adapters.providers.kubernetes.capacity import Amounts, Ask, quota_needs, requested
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.objects import Runtime, pod_sets
from orchestrator.adapters.providers.kubernetes.resources import PodSpec
from orchestrator.model.offer import Answer, LaunchOrder, OfferOut, Reason, Scope
from orchestrator.model.placement import Terms

HERE = "cluster"
"""The region of a cluster that has none."""
FULL_US = 60_000_000
"""How long a cluster that is full is not asked again; room that comes free is told sooner."""
NEVER_US = 3_600_000_000
"""How long a cluster that could never hold it is not asked again: nodes come and go."""


def asks(sets: Iterable[Mapping[str, Any]]) -> tuple[Ask, ...]:
    """Pod sets as they want places."""
    found = []
    for one in sets:
        spec = one["template"]["spec"]
        read = msgspec.convert(spec, PodSpec, strict=False)
        tolerations = tuple(spec.get("tolerations", ()))
        found.append(Ask(int(one["count"]), requested(read), spec.get("nodeSelector", {}), tolerations, read))
    return tuple(found)


def asked(offer: str, terms: Terms, accelerator: str, connection: Connection, runtime: Runtime) -> tuple[Ask, ...]:
    """What a launch on these terms takes."""
    return asks(pod_sets(offer, terms, accelerator, connection, runtime))


def asked_by(order: LaunchOrder, connection: Connection, runtime: Runtime) -> tuple[Ask, ...]:
    """What this launch takes."""
    terms = Terms(
        accelerators=(order.accelerator,) if order.accelerator else (),
        gpus_per_worker=order.gpus, workers=order.workers, cpus=order.cpus, memory=order.memory,
        ceiling_microusd=None, max_runtime_ms=order.delete_after_ms,
        start_by_ms=None, regions=(order.region,), residency=None,
    )  # fmt: skip
    return asked(order.offer, terms, order.accelerator, connection, runtime)


def needs(sets: Iterable[Ask], runtime: Runtime, defaults: Mapping[str, Any] | None) -> Amounts:
    """The same as the namespace's quotas count it (`quota_needs`), the objects around the pods included."""
    found = quota_needs(sets, defaults)
    found |= {
        "secrets": 1,
        "count/secrets": 1,
        "configmaps": 1,
        "count/configmaps": 1,
        "count/pods": found.get("pods", 0),
    }
    if runtime == "job":
        return found | {"count/jobs.batch": 1, "services": 1, "count/services": 1}
    return found | {"count/rayjobs.ray.io": 1, "count/rayclusters.ray.io": 1, "services": 1, "count/services": 1}


def candidates(terms: Terms, connection: Connection) -> list[str]:
    """Accelerators of the offer that the operator says this cluster has, in the offer's order ("": any, or none)."""
    wanted = terms.accelerators if terms.gpus_per_worker else ()
    if not wanted:
        return [""]
    return [name for name in wanted if connection.accelerator(name) is not None]


def price(book: Mapping[str, int], terms: Terms, accelerator: str, connection: Connection) -> int | None:
    """What the price book asks for this accelerator, micro-dollars per GPU-hour; None: it says nothing of it.

    An accelerator that nobody named is the connection's first, or the only one in the book.
    """
    if not terms.gpus_per_worker:
        return None
    name = accelerator or next(iter(connection.accelerators), "") or (next(iter(book)) if len(book) == 1 else "")
    return book.get(name)


def yes(offer: OfferOut, terms: Terms, accelerator: str, now_us: int, *, asks: int | None, ttl_us: int) -> Answer:
    """Accepted, as many workers as these terms say, for what the price book asks."""
    return Answer(
        offer=offer.offer, accepted=True, terms_hash=offer.terms_hash, region=next(iter(terms.regions), HERE),
        accelerator=accelerator, workers=terms.workers, price=asks, ttl_us=ttl_us, provider_at=now_us,
    )  # fmt: skip


def no(offer: str, reason: Reason, detail: str, scope: Scope, until: int | None, now_us: int) -> Answer:
    """Declined."""
    return Answer(
        offer=offer, accepted=False, reason=reason, scope=scope, until=until, detail=detail, provider_at=now_us
    )


def unknown_accelerator(offer: OfferOut, terms: Terms, connection: Connection, now_us: int) -> Answer:
    """None of the offer's accelerators is here."""
    has = ", ".join(connection.accelerators) or "none"
    detail = f"accelerators here: {has}; asked for {' or '.join(terms.accelerators)}"
    return no(offer.offer, Reason.SPEC, detail, Scope.ACCELERATOR, now_us + NEVER_US, now_us)
