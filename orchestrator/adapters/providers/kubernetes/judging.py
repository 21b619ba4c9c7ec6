"""Would the cluster take what we are going to make, before anything is? One line for each thing that it would not.

Called by `checking`, for `orchestrator providers check`. Whole objects are put to the API server as a dry run in which
no field may be unknown: an older KubeRay or Kueue drops in silence what it does not know, and a launch would lack it.
Quotas that no launch could keep to are named too. Nothing is made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from orchestrator.adapters.providers.kubernetes import asking, kueue, records
from orchestrator.adapters.providers.kubernetes.capacity import short_of_quota, short_of_word
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused, Taken
from orchestrator.adapters.providers.kubernetes.kueue import Asked
from orchestrator.adapters.providers.kubernetes.objects import Runtime, example, sets_of, some_need
from orchestrator.adapters.providers.kubernetes.resources import (
    JOB,
    LIMIT_RANGE,
    QUOTA,
    RAY_JOB,
    RECORD,
    WORKLOAD,
    Kind,
    LimitRange,
    Many,
    Quota,
)
from orchestrator.adapters.providers.kubernetes.room import Stock
from orchestrator.adapters.providers.kubernetes.sightings import LAUNCHED
from orchestrator.ports.provider import Misconfigured, ProviderError

RAY_REMEDY = "install KubeRay 1.6 or later, its CRDs too, or set `connection.runtime: job`"
KUEUE_REMEDY = "install Kueue 0.15 or later, its CRDs too, or leave `connection.queue` out"


async def refused(client: Client, connection: Connection, runtime: Runtime) -> AsyncIterator[str]:
    """What of a launch the API server would refuse, or drop."""
    kind, remedy = (RAY_JOB, RAY_REMEDY) if runtime == "kuberay" else (JOB, "")
    bodies: list[tuple[Kind, Mapping[str, Any], str]] = [(kind, example(connection, runtime), remedy)]
    if connection.queue:
        asked = Asked(offer="example", terms_hash="", accelerator="", region="", until=0, runtime=runtime)
        sets = sets_of(some_need(connection), connection, runtime)
        workload = kueue.document(asked, sets, connection.namespace, connection.queue, "example")
        bodies.append((WORKLOAD, workload, KUEUE_REMEDY))
    bodies.append((RECORD, records.new("example", "example", records.with_state(LAUNCHED)), ""))
    for kind, body, remedy in bodies:
        if line := await _judged(client, kind, kind.path(connection.namespace), body, remedy):
            yield line


async def _judged(client: Client, kind: Kind, path: str, body: Mapping[str, Any], remedy: str) -> str:
    """What the server has against this; empty: nothing. `remedy`: where it does not know a field."""
    try:
        await client.judge(path, body)
    except Refused as no:
        if "does not support dry run" in str(no):  # somebody's webhook: nothing is known
            return ""
        unknown = "strict decoding error" in str(no)
        mend = (
            f"correct `connection.podTemplate` if that is from there{remedy and f', else {remedy}'}"
            if unknown
            else "change what refuses it"
        )
        return f"a {kind.name} like ours would not be made as it is: {no}; {mend}"
    except (Absent, Taken, Misconfigured):
        return ""  # the namespace, the kind or the right is missing, and named elsewhere; or one of that name is there
    except ProviderError as error:  # a webhook that does not answer, say
        return f"whether a {kind.name} like ours would be made is not known: {error}; try again"
    return ""


async def too_old(client: Client) -> str:
    """That Kueue is there and serves other versions only; empty: it is not so."""
    try:
        found: dict[str, Any] = await client.get(f"/apis/{WORKLOAD.group}", dict)
    except Absent:
        return ""
    serves = [str(one["version"]) for one in found.get("versions", ())]
    if WORKLOAD.version in serves:
        return ""
    return f"Kueue serves {', '.join(serves)} of {WORKLOAD.group}, and not {WORKLOAD.version}; {KUEUE_REMEDY}"


async def quotas(client: Client, connection: Connection, runtime: Runtime) -> AsyncIterator[str]:
    """Quotas of the namespace, as far as we may read them, to which not even a small launch could keep."""
    space = connection.namespace
    try:
        found = (await client.get(QUOTA.path(space), Many[Quota])).items
        ranges = (await client.get(LIMIT_RANGE.path(space), Many[LimitRange])).items
    except Misconfigured:
        return  # with a queue nobody asks for that right
    defaults = Stock((), (), ranges=ranges).defaults
    said: dict[str, None] = {}
    for accelerator in connection.accelerators or ("",):
        asks = asking.asks(sets_of(some_need(connection, accelerator, workers=1), connection, runtime))
        needs = asking.needs(asks, runtime, defaults)
        for quota in found:
            if short := short_of_word([quota], asks, defaults):
                said[short.detail] = None
            elif (short := short_of_quota([quota], needs)) and short.ever:
                said[f"{short.detail}, even for a small launch; raise it, or use another namespace"] = None
    for line in said:
        yield line
