"""What alerts watch is there before anything went wrong, and moves when it does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
import structlog
from structlog.testing import capture_logs

from orchestrator.adapters.telemetry.prometheus import PrometheusTelemetry
from orchestrator.core.counters import count
from orchestrator.core.lifecycle import fold_job
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.engine.wiring import StoreAccess
from orchestrator.model import event as ev
from orchestrator.model.job import AttemptState
from orchestrator.model.wire import StoreRef
from orchestrator.ports.telemetry import Live
from orchestrator.simulate.world import Server, World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.scripts import Script
from orchestrator.testing.stores import MemoryStore
from tests.core.test_explain import STORY


def page(live: Live) -> list[str]:
    return PrometheusTelemetry().page({}, live).body.decode().splitlines()


def test_what_never_happened_is_shown_as_nought() -> None:
    shown = page(Live(providers_up={"azure": True}))
    assert 'orchestrator_swept_launches_total{provider="azure"} 0.0' in shown
    assert 'orchestrator_accept_failed_total{provider="azure"} 0.0' in shown
    assert 'orchestrator_breach_evidence_total{provider="azure"} 0.0' in shown
    assert 'orchestrator_offers_total{answer="lapsed",provider="azure",reason="silence"} 0.0' in shown


def test_a_server_that_does_not_lead_says_nothing_of_its_ledger() -> None:
    assert not [line for line in page(Live()) if "ledger_behind" in line]
    assert "orchestrator_ledger_behind_seconds 2.5" in page(Live(ledger_behind=2.5))


@pytest.mark.parametrize(("end", "failed", "breach"), [
    (ev.Ended(epoch=1, how="rejected"), 1, 0), (ev.Ended(epoch=1, how="rejected", late=True), 0, 0),
    (ev.Ended(epoch=1, how="gone", refused=True), 1, 0), (ev.Ended(epoch=1, how="gone"), 0, 0),
    (ev.Ended(epoch=1, how="rejected", firm="quota"), 1, 1),
    (ev.Ended(epoch=1, how="gone", refused=True, firm="paid_hold"), 1, 1),
])  # fmt: skip
def test_a_launch_that_they_failed_is_breach_evidence_where_firm(end: ev.Ended, failed: int, breach: int) -> None:
    row = None
    for event in STORY[: next(n for n, e in enumerate(STORY) if isinstance(e, ev.Intended)) + 1]:
        row = fold_job(row, "j", "default", 0, event)
        if isinstance(event, ev.OfferOpened):
            row = fold_job(row, "j", "default", 0, ev.OfferDelivered(event.n, "ref", "sent"))
    assert row is not None
    where = row.attempts[0].provider
    added = count(end, 0, row, fold_job(row, "j", "default", 0, end))
    assert added.get(f'orchestrator_accept_failed_total{{provider="{where}"}}', 0) == failed
    assert added.get(f'orchestrator_breach_evidence_total{{provider="{where}"}}', 0) == breach


async def unknown(server: Server, job: str, *, is_so: bool) -> None:
    async with asyncio.timeout(7200):
        while True:
            attempts = (await server.desk.job(job)).attempts
            if (bool(attempts) and attempts[-1].state is AttemptState.UNKNOWN) is is_so:
                return
            async with server.engine.committed:
                await server.engine.committed.wait()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_an_attempt_is_unknown_until_it_is_known() -> None:
    cut = Script(scenes=[do.Unreachable(when=do.AtStep(7)), do.DataCut(when=do.AtStep(7))])
    world = World({"azure": Script(offers=[do.Declines(for_s=300)] * 2), "coreweave": cut, "oracle": Script()},
                  first_right("azure"))  # fmt: skip
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await unknown(server, row.job, is_so=True)
        assert server.desk.live().unknown_attempts == {"azure": 0, "coreweave": 1, "oracle": 0}
        await until_over(server, row.job)
        live = server.desk.live()
        assert set(live.unknown_attempts.values()) == {0}
        assert live.facts_waiting == 0 and live.ledger_behind is not None and live.ledger_behind <= 5


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_store_that_is_not_read_shows_for_how_long() -> None:
    store = MemoryStore()
    access = StoreAccess(StoreRef(name="main", url="memory:", jurisdiction="EU"), store)
    watch = StoreWatch(replace(World({"azure": Script()}).wiring(), stores={"main": access}))
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(1000)
    assert watch.unread()["main"] < watch.limits["main"] / 8
    store.faults.down = True
    await asyncio.sleep(300)
    assert watch.unread()["main"] >= watch.limits["main"] / 4
    store.faults.down = False
    await asyncio.sleep(60)
    assert watch.unread()["main"] <= 60
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.looptime
async def test_a_store_that_cannot_be_read_is_logged_once_and_once_when_it_is_read_again() -> None:
    store = MemoryStore()
    access = StoreAccess(StoreRef(name="main", url="memory:", jurisdiction="EU"), store)
    watch = StoreWatch(replace(World({"azure": Script()}).wiring(), stores={"main": access}))
    structlog.reset_defaults()
    with capture_logs() as said:
        for down in (False, True, True, True, False, False):
            store.faults.down = down
            await watch.look("main", access)
    assert [line["event"] for line in said] == ["store out of reach", "store is read again"]
