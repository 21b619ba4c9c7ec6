"""What every story checks at its end, whatever it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from orchestrator.cli.audit import audit
from orchestrator.core.ledgerfold import fold_ledger
from orchestrator.core.lifecycle import fold_job
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, LedgerRow, row_bytes
from orchestrator.simulate.witness import witnesses
from orchestrator.simulate.world import World
from orchestrator.testing.ledgers import MemoryLedger
from tests import faults


def fold_all(world: World) -> tuple[dict[str, JobRow], LedgerRow]:
    """Everything folded from event 1."""
    rows: dict[str, JobRow] = {}
    own = LedgerRow()
    for stored in world.disk.events:
        event = ev.decode(stored.body or b"")
        if stored.job:
            rows[stored.job] = fold_job(rows.get(stored.job), stored.job, stored.project, stored.at, event)
        else:
            own = fold_ledger(own, stored.at, event)
    return rows, own


def check(world: World) -> None:
    """What holds in every story: no sentence is violated, the fold is the live table, user code ran once at a time."""
    report = audit(MemoryLedger(world.disk).snapshot(), witnesses(world))
    assert not report.findings, report.findings[:5]
    rows, own = fold_all(world)
    assert {job: row_bytes(row) for job, row in rows.items()} == {
        job: row.body for job, row in world.disk.rows.items() if job
    }
    assert row_bytes(own) == world.disk.rows[""].body
    for job in rows:
        runs = sorted((r.from_s, r.to_s) for r in world.site.runs if r.job == job and not r.frozen)
        assert all(a_to is not None and a_to <= b_from for (_, a_to), (b_from, _) in pairwise(runs)), runs


def befell(world: World) -> Iterator[tuple[str, str]]:
    """What a test's report says of the faults that its world saw: one property for each time."""
    yield from (("befell", name) for p in world.providers.values() for name in faults.befell(p.stage.spoken).elements())


@pytest.fixture
def a_world(request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Makes worlds; each is checked at the end of its story."""
    made: list[World] = []

    def make(*args: object, **more: object) -> World:
        made.append(World(*args, **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for world in made:
        check(world)
        request.node.user_properties.extend(befell(world))
