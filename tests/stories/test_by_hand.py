"""A holder whose people answer by hand: what they see, say in time and too late, and what the ledger keeps."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from orchestrator.adapters.byhand import ByHand
from orchestrator.cli.audit import audit
from orchestrator.engine.lanes import AT_ONCE
from orchestrator.model import event as ev
from orchestrator.model.offer import Answer, OfferOut, Reason, Receipt, Undelivered
from orchestrator.model.placement import MOST_PRICE
from orchestrator.ports.desk import Mistaken, Refused, UnknownOffer
from orchestrator.simulate.world import Server, World, first_right, submission, until_over
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script

pytestmark = pytest.mark.looptime
AWAY = "0" * 64
H100: dict[str, Any] = {"workers": {"count": 1, "gpus": 1, "accelerator": ["H100"]}}


def world(**terms: Any) -> World:
    """azure has the first right and answers by hand; oracle is the market."""
    told = World({"azure": Script(), "oracle": Script()}, first_right("azure", **terms))
    told.providers["azure"] = ByHand(told.providers["azure"])
    told.by_hand = frozenset({"azure"})
    return told


async def asked(server: Server, **spec: Any) -> tuple[str, OfferOut]:
    row, _ = await server.desk.submit(submission(**spec))
    await asyncio.sleep(1)
    return row.job, (await server.desk.open_offers("azure"))[-1]


def yes(offer: OfferOut, **said: Any) -> Answer:
    return Answer(offer=offer.offer, accepted=True, terms_hash=offer.terms_hash, by="ann", **said)


def no(offer: OfferOut) -> Answer:
    return Answer(offer=offer.offer, accepted=False, reason=Reason.CAPACITY, by="ann")


def clean(told: World) -> None:
    assert audit(MemoryLedger(told.disk).snapshot()).findings == ()


class Picky(ByHand):
    """Tells its people of no more offers than the newest ones."""

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        told = await super().place_offers(offers)
        return [
            one if offer.ordinal > AT_ONCE else Undelivered(offer.offer, "no such ticket")
            for offer, one in zip(offers, told, strict=True)
        ]


async def test_offers_that_nobody_can_be_told_of_keep_no_later_one_back() -> None:
    told = world()
    told.providers["azure"] = Picky(told.providers["azure"])
    async with told.server() as server:
        jobs = [(await server.desk.submit(submission()))[0].job for _ in range(AT_ONCE + 1)]
        await asyncio.sleep(120)
        delivered = [(await server.desk.job(job)).offer.delivered_at for job in jobs]
    assert [at is None for at in delivered] == [True] * AT_ONCE + [False]
    clean(told)


async def test_a_yes_by_hand_is_launched_by_the_providers_own_adapter() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        assert offer.clause == "agreement/rofr" and offer.ordinal == 1
        outcome = await server.desk.answer("azure", yes(offer, price=2_000_000))
        assert (outcome.what, await server.desk.open_offers("azure")) == ("accepted", [])
        row = await until_over(server, job)
    assert (row.state, row.attempts[0].provider, row.attempts[0].price) == ("succeeded", "azure", 2_000_000)
    [answered] = [e for e in told.events(job) if isinstance(e, ev.OfferAnswered)]
    assert (answered.accepted, answered.by) == (True, "ann")
    clean(told)


async def test_an_answer_that_overtakes_its_receipt_keeps_what_was_answered() -> None:
    told = world()

    async def hangs(_: object) -> list[Any]:
        await asyncio.sleep(60)
        return []

    told.providers["azure"].place_offers = hangs  # type: ignore[method-assign, assignment]
    async with told.server() as server:
        job, offer = await asked(server)
        assert (await server.desk.answer("azure", yes(offer))).what == "accepted"
        await until_over(server, job)
    [delivered] = [e for e in told.events(job) if isinstance(e, ev.OfferDelivered)]
    assert (delivered.ref, delivered.sent) == ("answer", hashlib.sha256(msgspec.json.encode(offer)).hexdigest())
    clean(told)


async def test_a_no_by_hand_opens_the_market() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        assert (await server.desk.answer("azure", no(offer))).what == "declined"
        row = await until_over(server, job)
    assert row.attempts[0].provider == "oracle"
    clean(told)


async def test_silence_by_hand_lapses_at_the_windows_end_and_a_late_yes_is_closed_and_kept() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        await asyncio.sleep(15 * 60)
        outcome = await server.desk.answer("azure", yes(offer))
        again = await server.desk.answer("azure", yes(offer))
        row = await until_over(server, job)
    assert (outcome.what, again.what, row.attempts[0].provider) == ("closed", "closed", "oracle")
    [late] = [e for e in told.events(job) if isinstance(e, ev.LateAnswer)]
    assert (late.accepted, late.by) == (True, "ann")
    clean(told)


async def test_an_answer_to_a_job_that_is_long_over_is_evidence_all_the_same() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        await asyncio.sleep(15 * 60)
        await until_over(server, job)
        server.engine.core.book.forget(job)
        assert (await server.desk.answer("azure", no(offer))).what == "closed"
        assert job not in server.engine.core.book.jobs
    assert any(isinstance(e, ev.LateAnswer) for e in told.events(job))
    clean(told)


async def test_the_same_answer_again_changes_nothing_and_another_one_is_closed() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        said = [await server.desk.answer("azure", answer) for answer in (no(offer), no(offer), yes(offer))]
        await until_over(server, job)
    assert [outcome.what for outcome in said] == ["declined", "declined", "closed"]
    assert sum(isinstance(e, ev.OfferAnswered) and e.n == 1 for e in told.events(job)) == 1
    clean(told)


async def test_a_yes_to_other_terms_is_a_counter_and_declines() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        outcome = await server.desk.answer("azure", msgspec.structs.replace(yes(offer), terms_hash=AWAY))
        row = await until_over(server, job)
    assert (outcome.what, outcome.reason, row.attempts[0].provider) == ("declined", "counter", "oracle")
    clean(told)


@pytest.mark.parametrize(("given", "field"), [
    ({"price": MOST_PRICE + 1}, "price"), ({"price": 10**4300}, "price"), ({"price": -1}, "price"),
    ({"accelerator": "T4"}, "accelerator"), ({"region": "us-1"}, "region"),
    ({"accelerator": "x" * 10**6}, "accelerator"),
])  # fmt: skip
async def test_a_yes_to_something_else_is_none(given: dict[str, Any], field: str) -> None:
    told = world()
    async with told.server() as server:
        _, offer = await asked(server, **H100)
        with pytest.raises(Mistaken, match=f"^{field}: it is n"):
            await server.desk.answer("azure", yes(offer, **given))
        assert [one.offer for one in await server.desk.open_offers("azure")] == [offer.offer]


async def test_names_that_the_terms_leave_open_are_short_all_the_same() -> None:
    told = world()
    async with told.server() as server:
        _, offer = await asked(server)
        with pytest.raises(Mistaken, match=r"^accelerator"):
            await server.desk.answer("azure", yes(offer, accelerator="x" * 65))


async def test_the_dearest_yes_to_the_largest_job_fits_into_a_ledger() -> None:
    told = world()
    async with told.server() as server:
        largest = {"workers": {"count": 512, "gpus": 128, "accelerator": ["H100"]}, "maxRuntime": "366d"}
        _, offer = await asked(server, **largest)
        assert (await server.desk.answer("azure", yes(offer, price=MOST_PRICE))).what == "accepted"
        assert server.engine.failed is None


async def test_people_say_how_many_of_an_elastic_job_they_take() -> None:
    told = world()
    size = {"count": {"min": 2, "max": 8}, "gpus": 1, "accelerator": ["H100"]}
    async with told.server() as server:
        job, offer = await asked(server, workers=size)
        with pytest.raises(Mistaken, match="workers: this offer is for 2 to 8"):
            await server.desk.answer("azure", yes(offer, workers=9))
        assert (await server.desk.answer("azure", yes(offer, workers=3))).what == "accepted"
        row = await until_over(server, job)
    assert (row.attempts[0].provider, row.attempts[0].workers) == ("azure", 3)
    clean(told)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"region": "mars"}, r"region: it is none of this offer's \(eu-1\)"),
        ({"price": 9_000_000}, "ceiling, 3.00 USD"),
    ],
)
async def test_a_slip_in_a_yes_is_no_answer_at_all(said: dict[str, Any], told: str) -> None:
    made = world()
    async with made.server() as server:
        job, offer = await asked(server, ceilingUsdPerGpuHour="3.00")
        with pytest.raises(Mistaken, match=told):
            await server.desk.answer("azure", yes(offer, **said))
        assert not any(isinstance(e, ev.OfferAnswered) for e in made.events(job))
        assert (await server.desk.answer("azure", yes(offer, price=2_000_000, region="eu-1"))).what == "accepted"
        assert (await until_over(server, job)).attempts[0].provider == "azure"
    clean(made)


@pytest.mark.parametrize(
    ("first", "then"),
    [({"price": 2_000_000}, {"price": 2_500_000}), ({"price": None}, {"price": 2_000_000})],
)
async def test_a_different_second_yes_is_not_told_as_taken(first: dict[str, Any], then: dict[str, Any]) -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        said = [await server.desk.answer("azure", yes(offer, **one)) for one in (first, first, then)]
        await until_over(server, job)
    assert [outcome.what for outcome in said] == ["accepted", "accepted", "closed"]
    clean(told)


async def test_another_reason_after_a_no_is_not_told_as_taken() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        other = msgspec.structs.replace(no(offer), reason=Reason.PRICE)
        said = [await server.desk.answer("azure", one) for one in (no(offer), other)]
        await until_over(server, job)
    assert [outcome.what for outcome in said] == ["declined", "closed"]


async def test_what_is_open_is_open_after_a_restart_with_the_same_bytes() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
    async with told.server() as server:
        assert await server.desk.open_offers("azure") == [offer]
        await server.desk.answer("azure", yes(offer))
        row = await until_over(server, job)
    assert row.attempts[0].provider == "azure"
    clean(told)


async def test_nobody_answers_for_another_or_what_does_not_exist_or_where_an_adapter_answers() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        await server.desk.answer("azure", no(offer))
        await asyncio.sleep(1)
        for unknown in (f"{job}-o2", f"{job}-o9", "no-offer"):
            with pytest.raises(UnknownOffer):
                await server.desk.answer("azure", Answer(offer=unknown, accepted=False, reason=Reason.PRICE))
        with pytest.raises(Refused, match="by_hand"):
            await server.desk.open_offers("oracle")


async def test_a_cancelled_job_leaves_nothing_open() -> None:
    told = world()
    async with told.server() as server:
        job, offer = await asked(server)
        await server.desk.cancel(job, "me")
        await until_over(server, job)
        assert await server.desk.open_offers("azure") == []
        assert (await server.desk.answer("azure", yes(offer))).what == "closed"
    clean(told)


async def test_people_take_a_part_of_a_divisible_job_and_the_rest_goes_on() -> None:
    told = world()
    size = {"count": 8, "gpus": 1, "accelerator": ["H100"]}
    async with told.server() as server:
        job, offer = await asked(server, workers=size, divisible=True)
        with pytest.raises(Mistaken, match="workers: this offer is for 1 to 8"):
            await server.desk.answer("azure", yes(offer, workers=9))
        assert (await server.desk.answer("azure", yes(offer, workers=3))).what == "accepted"
        assert (await server.desk.answer("azure", yes(offer, workers=3))).what == "accepted", "said once more"
        row = await until_over(server, job)
        rest = await until_over(server, row.rest)
    assert [(one.attempts[0].provider, one.part) for one in (row, rest)] == [("azure", 3), ("oracle", 5)]
    clean(told)
