"""What leaves us is evidence: the ledger's head and a dense ordinal per provider, the same at every delivery."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest

from orchestrator.cli.audit import audit
from orchestrator.model import event as ev
from orchestrator.model.offer import OfferOut, Receipt, Undelivered
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripted import ScriptedProvider
from orchestrator.testing.scripts import Script

NO, LATER = do.Declines(for_s=300), do.Declines(for_s=300, after_s=10)


class Collector(ScriptedProvider):
    """Keeps the bytes of every delivery."""

    got: defaultdict[str, list[bytes]]

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        self.__dict__.setdefault("got", defaultdict(list))
        for offer in offers:
            self.got[offer.offer].append(msgspec.json.encode(offer))
        return await super().place_offers(offers)


def world(azure: Script) -> tuple[World, Collector]:
    made = World({"azure": azure, "oracle": Script()}, first_right("azure"))
    collector = Collector("azure", azure, clock=made.clock, crew=made.site)
    made.providers["azure"] = collector
    return made, collector


@pytest.mark.fault("receipt lost")
@pytest.mark.looptime
async def test_an_offer_delivered_again_after_a_restart_is_the_same_bytes() -> None:
    told, azure = world(Script(offers=[LATER], faults=[do.Loses(verb="place_offers", nth=1, reply=True)]))
    async with told.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(0.5)  # it was taken, and we do not know it yet
    async with told.server() as server:
        await until_over(server, row.job)
    [deliveries] = azure.got.values()
    assert len(deliveries) == 2 and len(set(deliveries)) == 1
    assert audit(MemoryLedger(told.disk).snapshot()).findings == ()


@pytest.mark.looptime
async def test_ordinals_are_dense_over_a_restart_and_each_head_is_an_earlier_place_of_the_chain() -> None:
    told, azure = world(Script(offers=[NO] * 3))
    for _ in range(3):
        async with told.server() as server:
            row, _ = await server.desk.submit(submission())
            await until_over(server, row.job)
    offers = [msgspec.json.decode(said[0], type=OfferOut) for said in azure.got.values()]
    assert [offer.ordinal for offer in offers] == [1, 2, 3]
    chains = [event.chain.hex() for event in told.disk.events]
    opened = [at for at, event in enumerate(told.disk.events) if event.kind == "OfferOpened" and b"azure" in event.body]
    assert all(chains.index(offer.ledger_head) < at for offer, at in zip(offers, opened, strict=True))


@pytest.mark.looptime
async def test_a_receipt_that_echoes_something_else_is_kept_as_it_is_and_found_by_the_audit() -> None:
    class Stranger(Collector):
        async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
            return [msgspec.structs.replace(r, ordinal=7) for r in await super().place_offers(offers)]

    told, _ = world(Script())
    told.providers["azure"] = Stranger("azure", Script(), clock=told.clock, crew=told.site)
    async with told.server() as server:
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
    [delivered] = [e for e in told.events() if isinstance(e, ev.OfferDelivered)]
    assert delivered.echo is not None and delivered.echo[0] == 7
    assert {f.sentence for f in audit(MemoryLedger(told.disk).snapshot()).findings} == {39}


def test_an_offer_holds_its_allow_list_and_nothing_else() -> None:
    fields = [field.name for field in msgspec.structs.fields(OfferOut)]
    assert fields == [
        "offer", "clause", "contract_version", "version", "workload", "trigger", "terms", "terms_hash", "window_us",
        "ledger_head", "ordinal",
    ]  # fmt: skip
