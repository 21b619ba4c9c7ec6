"""Who waits, for what, and what wakes them; what survives that the other side changes or talks nonsense."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.engine.wiring import Wiring
from orchestrator.model.documents.errors import DocumentError
from orchestrator.model.job import JobState
from orchestrator.model.offer import Answer, Charge, Reason, Sighting, SightingState
from orchestrator.ports.ledger import LedgerUnavailable
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.simulate.world import agreement, first_right, provider_document, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.agreements import alone, record, told
from tests.stories.words import attempts, kinds, ran, without

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.mark.parametrize("lived", [0.1, 1.0, 10.0])
async def test_a_provider_that_the_operator_removed_is_out_of_reach_and_its_job_left_alone(a_world, lived) -> None:
    """Offered, launched, running: an offer is taken back, an attempt goes on and is found done at its store."""
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=0.5)]), "oracle": Script()}, work=Work(steps=60))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(lived)
    without(world, "azure")
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == ([("oracle", "done")] if lived < 0.5 else [("azure", "done")])


async def test_a_store_may_leave_the_file_once_no_job_needs_it_that_is_not_over(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=60))
    with_main = world.wiring

    def without_main() -> Wiring:
        wiring = with_main()
        return replace(wiring, stores={"other": wiring.stores["main"]})

    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(15)
    world.wiring = without_main
    with pytest.raises(DocumentError, match=f"store 'main' holds the run logs of jobs that are not over: {row.job}"):
        async with world.server():
            pass
    world.wiring = with_main
    async with world.server() as server:
        assert attempts(await until_over(server, row.job)) == [("azure", "done")]
    world.wiring = without_main
    async with world.server() as server:
        assert await server.desk.progress(row.job) is not None
        with pytest.raises(StoreUnavailable, match="name it there again"):
            await server.desk.readable(row)


async def test_a_server_starts_without_a_provider_that_has_refused_a_waiting_job(a_world) -> None:
    """What it said holds nobody back any more, and is kept."""
    oracle = Script(offers=[do.Declines(for_s=60)])
    world = a_world({"azure": Script(offers=[do.Declines(for_s=900)]), "oracle": oracle})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
    without(world, "oracle")
    async with world.server() as server:
        row = await until_over(server, row.job, 2000)
    assert [refusal.provider for refusal in row.refusals] == ["azure", "oracle"]
    assert attempts(row) == [("azure", "done")]


async def test_a_holder_that_frees_capacity_wakes_whoever_it_refused(a_world) -> None:
    """Gated refusals park nobody, but the round is woken all the same: not after 15 minutes."""
    holder = Script(offers=[do.Declines(for_s=4000)] * 5, scenes=[do.Frees(when=do.At(500), gpus=8)])
    world = a_world({"azure": holder}, first_right("azure", tail="1s"))
    row = await ran(world)
    assert 500e6 <= (row.ended_at or 0) - row.submitted_at < 540e6


async def test_a_queue_behind_a_full_market_writes_only_what_somebody_answered(a_world) -> None:
    """The holder has refused each of twelve alike, by contract one by one; from then on one asks for all of them."""
    full = [do.Declines(for_s=290)] * 8
    world = a_world({"azure": Script(offers=[do.Declines(for_s=9000)] * 99), "oracle": Script(offers=full)},
                    first_right("azure"), work=Work(steps=5))  # fmt: skip
    async with world.server() as server:
        made = [(await server.desk.submit(submission()))[0].job for _ in range(12)]
        rows = [await until_over(server, job, 9000) for job in made]
    assert all(row.state is JobState.SUCCEEDED for row in rows)
    assert sum(kinds(world, job).count("RoundEnded") for job in made) <= len(made) + len(full)


NEVER = do.Declines(reason=Reason.SPEC, detail="this machine has 0 GPUs")
DAY = 86_400
DEAR, CHEAP = {("H100", "eu-1"): 5_000_000}, {("H100", "eu-1"): 2_000_000}


@pytest.mark.parametrize("spec", [{}, {"workers": {"gpus": 1}}], ids=["named", "any accelerator"])
async def test_a_job_that_all_decline_for_what_it_is_is_held_and_asked_again_only_when_resumed(a_world, spec) -> None:
    world = a_world({"azure": Script(offers=[NEVER] * 2), "oracle": Script(offers=[NEVER])})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(**spec))
        await asyncio.sleep(4000)
        row = server.engine.core.book.jobs[row.job]
        assert (row.state, row.reason) == (JobState.HELD, "declined_by_all")
        assert told(world, row.job) == ["azure", "oracle"]
        await server.desk.resume(row.job, "somebody")
        row = await until_over(server, row.job)
    assert attempts(row) == [("oracle", "done")]


@pytest.mark.parametrize("price", [2_000_000, 4_000_000])
async def test_whoever_waits_for_its_next_round_is_woken_by_a_price_that_comes_under_its_ceiling(
    a_world, price
) -> None:
    """azure declines in each round, and the next one is far away when oracle asks less than too much."""
    world = a_world({"azure": Script(offers=[do.Declines(for_s=1)] * 9), "oracle": Script()})
    oracle = world.providers["oracle"].stage
    oracle.set_price("H100", 5_000_000)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour=3))
        await asyncio.sleep(1000)
        assert (before := set(told(world, row.job))) == {"azure"}
        oracle.set_price("H100", price)
        await asyncio.sleep(60)
        assert set(told(world, row.job)) - before == ({"oracle"} if price < 3_000_000 else set())


async def test_launches_that_are_refused_for_what_is_missing_there_are_no_attempts_of_its_own(a_world) -> None:
    """maxAttempts counts those that started."""
    lacks = Script(launches=[do.Rejects(reason=Reason.SPEC)] * 11)
    row = await ran(a_world({"azure": lacks}, first_right("azure")))
    assert [how for _, how in attempts(row)] == ["rejected"] * 11 + ["done"]


async def test_a_held_job_that_all_declined_is_asked_again_under_other_providers_and_not_at_each_start(a_world) -> None:
    world = a_world({"azure": Script(offers=[NEVER] * 2), "oracle": Script()})
    everybody = world.providers
    without(world, "oracle")
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
    async with world.server():
        await asyncio.sleep(5)
    assert kinds(world, row.job)[-1] == "Held"
    world.providers = everybody
    without(world, "nobody")
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == [("oracle", "done")]


async def test_each_job_that_all_declined_goes_on_by_what_it_was_told_itself(a_world) -> None:
    """The first was declined by both; of the second nobody could ask oracle while a law of one day kept it out."""
    law = {"id": "law", "type": "residency", "operatorJurisdictionIn": ["EU"]}
    of_a_day = agreement("azure", law, term={"from": "2026-01-02", "to": "2026-01-02"})
    there = provider_document(["azure", "oracle"], azure={"operatorJurisdiction": "EU"})
    world = a_world({"azure": Script(offers=[NEVER] * 3), "oracle": Script(offers=[NEVER])}, of_a_day, providers=there)
    made = []
    for _ in range(2):
        async with world.server() as server:
            made.append((await server.desk.submit(submission()))[0].job)
            await asyncio.sleep(5)
        assert [kinds(world, job)[-1] for job in made] == ["Held"] * len(made)
        await asyncio.sleep(DAY)
    async with world.server() as server:
        assert attempts(await until_over(server, made[1])) == [("oracle", "done")]
    assert told(world, made[1]) == ["azure", "azure", "oracle"] and kinds(world, made[0])[-1] == "Held"


async def test_jobs_that_all_declined_are_not_decided_again_before_something_changes(a_world) -> None:
    """However many wait, and whatever becomes of others of their shape."""
    world = a_world({"azure": Script(offers=[NEVER] * 2)})
    async with world.server() as server:
        book, made, settled = server.engine.core.book, [], []
        for _ in range(2):
            made.append((await server.desk.submit(submission()))[0].job)
            await asyncio.sleep(5)
            [shape] = (book.shapes[key] for key in book.held_shapes)
            settled.append(shape.settled)
        assert len(shape.held["declined_by_all"]) == 2
        assert settled[0] is not None and settled[0] is settled[1]
        for job in made:
            await server.desk.cancel(job, "somebody")
        assert shape.settled is None


@pytest.mark.parametrize(
    ("azure", "oracle"),
    [
        ([NEVER] * 9, [do.Declines()]),
        ([NEVER] * 9, [do.Declines(reason=Reason.SPEC, for_s=50)]),
        ([NEVER] * 9, [do.Accepts(accelerator="A100")]),
        ([NEVER] * 9, [do.Accepts(spot=True)]),
        ([NEVER] * 9, [do.Silent()]),
    ],
)
async def test_while_one_may_yet_say_yes_the_job_is_not_held(a_world, azure, oracle) -> None:
    """Not for want of room alone, not for a while, not where what was said was a yes, not by silence."""
    row = await ran(a_world({"azure": Script(offers=azure), "oracle": Script(offers=oracle)}))
    assert attempts(row) == [("oracle", "done")]


@pytest.mark.parametrize("dear", ["azure", "oracle"])
async def test_a_holder_is_asked_again_although_nobody_else_is_under_the_ceiling(a_world, dear) -> None:
    """R10; and it may accept at the ceiling."""
    azure = Script(offers=[NEVER if dear == "oracle" else do.Declines(for_s=5), do.Accepts(price=2_000_000)])
    world = a_world({"azure": azure, "oracle": Script(offers=[NEVER] * 9)}, first_right("azure", tail="30s"))
    async with world.server() as server:
        await asyncio.sleep(1)
        server.engine.core.book.set_prices(dear, DEAR)
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour=3.0))
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")]


EXEMPT = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 640}}}
RIGHTS = (first_right("azure"), first_right("azure", exempt=[EXEMPT]), alone(), alone("holder_declined"))


@pytest.mark.parametrize("terms", RIGHTS)
async def test_what_an_agreement_is_about_is_never_held_for_what_was_declined(a_world, terms) -> None:
    """Rights and exclusives revive: who is asked changes by itself."""
    azure = Script(offers=[NEVER, NEVER, do.Accepts()])
    world = a_world({"azure": azure, "oracle": Script(offers=[NEVER] * 9)}, terms)
    row = await ran(world)
    assert attempts(row) == [("azure", "done")] and "Held" not in kinds(world, row.job)


async def test_whoever_is_over_the_ceiling_has_not_spoken(a_world) -> None:
    world = a_world({"azure": Script(offers=[NEVER] * 9), "oracle": Script()})
    async with world.server() as server:
        await asyncio.sleep(1)
        server.engine.core.book.set_prices("oracle", DEAR)
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour=3.0))
        await asyncio.sleep(5)
        server.engine.core.book.set_prices("oracle", CHEAP)
        row = await until_over(server, row.job)
    assert attempts(row) == [("oracle", "done")] and "Held" not in kinds(world, row.job)


async def test_a_no_to_other_terms_is_none_to_these(a_world) -> None:
    """The law that confined the job to Europe ends while the second of two is asked."""
    there = provider_document(["azure", "oracle"], azure={"regions": {"eu-1": "EU", "us-1": "US"}})
    law = {"id": "law", "type": "residency", "regionsIn": ["EU"]}
    azure, oracle = Script(offers=[NEVER, do.Accepts()]), Script(offers=[do.Declines(reason=Reason.SPEC, after_s=9)])
    world = a_world({"azure": azure, "oracle": oracle}, agreement("azure", law), providers=there)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.amend(world.document(agreement("azure", {**law, "regionsIn": ["EU", "US"]})), "ann")
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")] and "Held" not in kinds(world, row.job)


async def test_a_no_of_an_earlier_round_is_none_to_an_offer_that_was_taken_back(a_world) -> None:
    world = a_world({"azure": Script(offers=[NEVER, do.Silent(), do.Accepts()])})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.resume(row.job, "somebody")
        await asyncio.sleep(5)
        await record(server, "class", name="api", job=row.job)
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")] and kinds(world, row.job).count("Held") == 1


async def test_a_provider_that_is_back_wakes_whoever_passed_it_over(a_world) -> None:
    part = Script(offers=[do.Declines()] * 6, scenes=[do.Unreachable(when=do.At(940), for_s=500)])
    world = a_world({"azure": part})
    row = await ran(world)
    assert 1440e6 <= (row.ended_at or 0) - row.submitted_at < 1480e6


async def test_a_job_that_avoids_everybody_holds_up_nobody_behind_it(a_world) -> None:
    """Both lost their machines, each at another provider; the first one's memory is not the second one's."""
    azure = Script(offers=[do.Accepts(), do.Declines(for_s=5)], scenes=[do.Kills(when=do.At(12))])
    oracle = Script(scenes=[do.Unreachable(when=do.At(10)), do.DataCut(when=do.At(10))])
    world = a_world({"azure": azure, "oracle": oracle}, work=Work(steps=40))
    async with world.server() as server:
        first, _ = await server.desk.submit(submission())
        second, _ = await server.desk.submit(submission())
        second = await until_over(server, second.job, 300)
        first = await until_over(server, first.job)
    assert attempts(second) == [("oracle", "fenced"), ("azure", "done")]
    assert attempts(first) == [("azure", "fenced"), ("azure", "done")]


async def test_a_job_goes_straight_back_where_nobody_else_may_have_it(a_world) -> None:
    """Its machines died there, while user code ran: a pod that was drained costs no quarter of an hour."""
    world = a_world({"azure": Script(offers=[do.Accepts()] * 2, scenes=[do.Kills(when=do.AtStep(7))])})
    row = await ran(world)
    assert attempts(row) == [("azure", "fenced"), ("azure", "done")] and row.attempts[0].why != "never_started"
    assert (row.ended_at or 0) - row.submitted_at < 300e6


async def test_nor_does_a_launch_that_was_rejected_meanwhile_bring_that_quarter_back(a_world) -> None:
    """Room is told as soon as it is free; what the provider had no room for says nothing about its machines."""
    freed = do.Frees(when=do.At(300), gpus=8)
    azure = Script(launches=[do.Starts(), do.Rejects()], scenes=[do.Kills(when=do.AtStep(7)), freed])
    row = await ran(a_world({"azure": azure}))
    assert attempts(row) == [("azure", "fenced"), ("azure", "rejected"), ("azure", "done")]
    assert (row.ended_at or 0) - row.submitted_at < 600e6


async def test_a_price_below_the_ceiling_lets_a_held_job_go_on(a_world) -> None:
    world = a_world({"azure": Script()})
    async with world.server() as server:
        await asyncio.sleep(1)
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour="1.00"))
        assert (row.state, row.reason) == (JobState.HELD, "over_ceiling")
        world.providers["azure"].stage.set_price("H100", 900_000)
        row = await until_over(server, row.job, 60)
    assert row.state is JobState.SUCCEEDED


async def test_a_feed_that_names_nonsense_stops_nobody(a_world) -> None:
    world = a_world({"azure": Script()})
    stage = world.providers["azure"].stage
    for item in (Answer(offer="nonsense", accepted=True), Charge("x", "nonsense", 1, 1, True),
                 Sighting("nonsense", SightingState.GONE, 1)):  # fmt: skip
        stage.tell(item)
    assert (await ran(world)).state is JobState.SUCCEEDED


async def test_the_final_bill_of_machines_that_died_is_kept_although_it_came_before_the_fence(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Kills(when=do.AtStep(7))]), "oracle": Script()})
    row = await ran(world)
    assert row.attempts[0].charge == 8 * 7 * 2_000_000 // 3600


async def test_a_provider_that_was_away_at_the_start_is_asked_for_its_promises_when_it_is_back(a_world) -> None:
    """Guesses about listings must never confirm an end."""
    world = a_world({"azure": Script()})
    world.providers["azure"].go_unreachable()
    async with world.server() as server:
        assert not server.engine.core.book.providers["azure"].stated
        world.providers["azure"].go_unreachable(False)
        await asyncio.sleep(10)
        assert server.engine.core.book.providers["azure"].stated


async def test_an_engine_that_cannot_commit_does_nothing_more(a_world) -> None:
    """Its book is ahead of the ledger: what follows from it must not reach anybody."""
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=5)])})

    def full(_: object) -> None:
        raise LedgerUnavailable("the disk is full")

    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(2)
        server.engine.wiring.ledger.on_commit = full  # type: ignore[attr-defined]
        await asyncio.sleep(10)
        assert isinstance(server.engine.failed, LedgerUnavailable)
        calls = dict(world.providers["azure"].calls)
        await asyncio.sleep(60)
        assert world.providers["azure"].calls == calls
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert row.state is JobState.SUCCEEDED


async def test_two_submissions_of_one_key_at_the_same_time_are_one_job(a_world) -> None:
    world = a_world({"azure": Script()})
    async with world.server() as server:
        made = await asyncio.gather(*(server.desk.submit(submission("k")) for _ in range(5)))
        await until_over(server, made[0][0].job)
    assert len({row.job for row, _ in made}) == 1
    assert sum(created for _, created in made) == 1


async def test_a_withdrawal_that_a_crash_forgot_is_made_when_the_yes_comes_up_again(a_world) -> None:
    azure = Script(offers=[do.Accepts(after_s=905)], faults=[do.Loses(verb="withdraw", nth=n) for n in (1, 2, 3)])
    world = a_world({"azure": azure, "oracle": Script()}, first_right("azure"), work=Work(steps=300))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(906)
    withdrawn = world.providers["azure"].calls["withdraw"]
    async with world.server() as server:
        await until_over(server, row.job)
    assert world.providers["azure"].calls["withdraw"] > withdrawn
