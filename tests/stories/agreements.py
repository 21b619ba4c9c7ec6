"""Short words for stories about clauses that something frees."""

from __future__ import annotations

from typing import Any

from orchestrator.model import event as ev
from orchestrator.model.record import Record
from orchestrator.simulate.world import Server, World, agreement
from orchestrator.testing import scripts as do
from orchestrator.testing.scripts import Script

HOUR = 3600
FULL = Script(offers=[do.Declines(for_s=60)] * 30)
SILENT = Script(offers=[do.Silent()] * 200)


def alone(*release: str, **more: Any) -> dict[str, Any]:
    """Everything is azure's, until one of these."""
    clause = {"id": "alone", "type": "exclusive", "release": list(release), **more.pop("clause", {})}
    return agreement("azure", clause, **more)


def right(*exempt: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A first right of zeus, who comes last in the market, with exemptions."""
    return agreement("zeus", {"id": "rofr", "type": "first_right", "window": "15m", "exempt": list(exempt)}, **more)


def beside(release: str, window: str = "15m", **more: Any) -> dict[str, Any]:
    """Everything is zeus', until this; then azure has the first right to it."""
    both = agreement("zeus", {"id": "alone", "type": "exclusive", "release": [release], **more})
    term = both["spec"]["contracts"][0]["term"]
    clause = {"id": "rofr", "type": "first_right", "window": window}
    both["spec"]["contracts"].append({"id": "second", "holder": "azure", "term": term, "clauses": [clause]})
    return both


def rights(*holders: str) -> dict[str, Any]:
    """First rights to everything, one after the other."""
    first = agreement(holders[0], {"id": "rofr", "type": "first_right", "window": "15m"})
    (one,) = first["spec"]["contracts"]
    first["spec"]["contracts"] = [
        {**one, "id": f"of-{holder}", "holder": holder, "clauses": [{**one["clauses"][0], "rank": rank}]}
        for rank, holder in enumerate(holders, 1)
    ]
    return first


def told(world: World, job: str) -> list[str]:
    """Who was offered the job, in order."""
    return [e.provider for e in world.events(job) if isinstance(e, ev.OfferOpened)]


def freed(world: World, job: str) -> list[tuple[str, str]]:
    """(provider, why it could be asked) of each offer that a freed clause made possible."""
    return [
        (e.provider, f.exemption or f.how) for e in world.events(job) if isinstance(e, ev.OfferOpened) for f in e.freed
    ]


async def record(server: Server, what: str, by: str = "registrar", **more: Any) -> Record:
    return await server.desk.record(Record(id="", what=what, by=by, **more))
