"""What a launch on a cluster costs, without a cluster: from pods' own times, to the second, never more than ordered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes import asking, billing, records
from orchestrator.adapters.providers.kubernetes.bills import Bills
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.feed import Feed
from orchestrator.adapters.providers.kubernetes.machines import Fate, Machine, began, moment
from orchestrator.adapters.providers.kubernetes.memory import Memory
from orchestrator.adapters.providers.kubernetes.resources import (
    KEY,
    LEDGER,
    MANAGED_BY,
    US,
    Main,
    Meta,
    Node,
    Pod,
    Record,
)
from orchestrator.adapters.providers.kubernetes.room import Room, Stock
from orchestrator.adapters.providers.kubernetes.sightings import Launch
from orchestrator.model.offer import Charge, LaunchOrder
from orchestrator.testing.builders import an_offer, an_order, some_terms

PRICE = 2_490_000
NODE = msgspec.convert(
    {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}, Node
)
ORDER = an_order(workers=2, gpus=4, price=PRICE)
LABELS = {MANAGED_BY: US, LEDGER: "l1", KEY: ORDER.key}


def at(clock: str) -> str:
    return f"2026-03-01T{clock}Z"


def pod(uid: str, bound: str, ended: str = "", *, on: str = "n1") -> Pod:
    state = {"terminated": {"exitCode": 0, "finishedAt": at(ended)}} if ended else {"running": {}}
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(bound)}]
    status = {
        "phase": "Succeeded" if ended else "Running",
        "conditions": conditions,
        "containerStatuses": [{"name": "ray", "state": state}],
    }
    meta = {"name": uid, "uid": uid, "labels": LABELS}
    return msgspec.convert({"metadata": meta, "spec": {"nodeName": on}, "status": status}, Pod)


class Seen:
    """What a server has seen of one launch; `restart` keeps what its record says and no more."""

    def __init__(self, order: LaunchOrder = ORDER) -> None:
        self.memory, self.order, self.main = Memory(), order, None
        self.agreed = billing.on_main(order).get(billing.ANNOTATION, "")
        unrecorded = billing.unrecorded(Launch(key=order.key, record=None, main=None, agreed=self.agreed))
        self.data: dict[str, str] = records.new(order.key, "l1", {"data": unrecorded})["data"]
        self.memory.node(NODE, False, 0)
        self.there: dict[str, Pod] = {}

    def pods(self, *pods: Pod) -> Seen:
        for one in pods:
            self.there[one.metadata.uid] = one
            self.memory.pod(one, {"n1": NODE})
        return self

    def missing(self, uid: str, now: str) -> Seen:
        del self.there[uid]
        assert self.launch(now).fates[uid] is Fate.LOST
        return self

    def finished(self, clock: str) -> Seen:
        status = {"jobDeploymentStatus": "Complete", "endTime": at(clock)}
        self.main = msgspec.convert({"metadata": {"name": "run"}, "kind": "RayJob", "status": status}, Main)
        return self

    def restart(self) -> Seen:
        self.data |= records.with_machines(self.memory.machines[self.order.key])["data"]
        memory, self.memory = self.memory, Memory()
        assert memory.machines
        self.memory.node(NODE, False, 0)
        self.memory.record(self.order.key, records.machines_of(self.record))
        return self

    @property
    def record(self) -> Record:
        return msgspec.convert({"metadata": {"name": self.order.key, "labels": LABELS}, "data": self.data}, Record)

    def launch(self, now: str) -> Launch:
        fates = self.memory.fates(self.order.key, self.there.values(), {"n1": NODE}, moment(at(now)))
        machines = dict(self.memory.machines[self.order.key])
        return Launch(key=self.order.key, record=self.record, main=self.main, machines=machines, fates=fates)

    def bill(self, now: str = "23:00:00") -> Charge:
        charge = billing.bill(self.launch(now))
        assert charge is not None
        return charge


def test_a_bill_is_gpu_seconds_from_binding_to_the_containers_end_times_the_price() -> None:
    seen = Seen().pods(pod("a", "10:00:00"), pod("b", "10:00:30"))
    bill = seen.pods(pod("a", "10:00:00", "10:30:00"), pod("b", "10:00:30", "10:30:01")).bill()
    assert bill.gpu_seconds == 4 * 1800 + 4 * 1771
    assert bill.microdollars == bill.gpu_seconds * PRICE // 3600 == 9_879_766
    assert (bill.id, bill.key, bill.final) == (f"{ORDER.key}-bill", ORDER.key, True)


def test_a_time_that_nobody_knows_is_none() -> None:
    unknown = {"type": "PodScheduled", "status": "True", "lastTransitionTime": None}
    status = {"conditions": [unknown], "startTime": at("10:00:00")}
    told = msgspec.convert({"metadata": {}, "spec": {"nodeName": "n1"}, "status": status}, Pod)
    assert began(told) == moment(at("10:00:00")) > 0 == moment(None) == moment("soon")


def test_a_server_that_was_restarted_says_the_same() -> None:
    told = [pod("a", "10:00:00", "10:30:00"), pod("b", "10:00:30", "10:30:01")]
    once = Seen().pods(*told).bill()
    assert Seen().pods(pod("a", "10:00:00"), pod("b", "10:00:30")).restart().pods(*told).bill("23:59:00") == once
    again = Seen().pods(*told).restart()
    again.there.clear()  # deleted while no server was there
    assert again.bill("23:59:00") == once


def test_a_machine_that_vanished_counts_until_it_was_missed_also_after_a_restart() -> None:
    seen = Seen().pods(pod("a", "10:00:00")).missing("a", "10:10:00")
    assert seen.bill().gpu_seconds == 4 * 600
    assert seen.restart().bill("23:59:00").gpu_seconds == 4 * 600


def test_a_machine_that_ended_while_no_server_was_there_counts_until_its_job_was_over() -> None:
    seen = Seen().pods(pod("a", "10:00:00")).restart().finished("10:20:00")
    seen.there.clear()
    assert seen.bill("20:00:00").gpu_seconds == 4 * 1200


def test_a_watch_that_lags_behind_a_listing_ends_nothing() -> None:
    seen = Seen().pods(pod("a", "10:00:00"))
    seen.missing("a", "10:00:01").pods(pod("a", "10:00:00")).launch("10:00:02")
    assert seen.pods(pod("a", "10:00:00", "10:30:00")).bill().gpu_seconds == 4 * 1800


def test_no_more_is_billed_than_was_ordered_at_once_and_in_time() -> None:
    three = [pod(uid, "10:00:00", "10:10:00") for uid in "abc"]
    assert Seen().pods(*three).bill().gpu_seconds == 8 * 600
    long = [pod("a", "02:00:00", "10:00:00"), pod("b", "02:00:00", "10:00:00")]
    assert ORDER.delete_after_ms == 3_600_000
    assert Seen().pods(*long).bill().gpu_seconds == 8 * 3600


@pytest.mark.parametrize("seconds", [1, 7, 59, 3599])
@pytest.mark.parametrize("price", [0, 1, 999_999, 12_290_000])
def test_a_bill_never_passes_what_the_auditor_allows(price: int, seconds: int) -> None:
    clock = f"10:{seconds // 60:02}:{seconds % 60:02}"
    bill = Seen(an_order(workers=1, gpus=3, price=price)).pods(pod("a", "10:00:00", clock)).bill()
    assert bill.gpu_seconds == 3 * seconds
    assert bill.microdollars <= price * bill.gpu_seconds / 3600 < bill.microdollars + 1


def test_what_never_had_a_machine_costs_nothing_and_what_has_no_price_is_not_billed() -> None:
    assert billing.bill(Launch(key=ORDER.key, record=Seen().record, main=None)) == Charge(
        f"{ORDER.key}-bill", ORDER.key, 0, 0, final=True
    )
    free = Seen(an_order(price=None)).pods(pod("a", "10:00:00", "10:30:00"))
    assert billing.bill(free.launch("11:00:00")) is None


def test_what_was_agreed_is_read_from_whatever_is_there_the_record_first() -> None:
    on_main, dear = billing.on_main(ORDER), billing.on_main(an_order(workers=2, gpus=4, price=9 * PRICE))
    main = msgspec.convert({"metadata": {"name": "run", "annotations": on_main}}, Main)
    ran = {"a": Machine("a", "n1", ended=True, began=moment(at("10:00:00")), over=moment(at("10:30:00")))}
    of_main = Launch(key=ORDER.key, record=None, main=main, machines=ran)
    remembered = Launch(key=ORDER.key, record=None, main=None, machines=ran, agreed=on_main[billing.ANNOTATION])
    recorded = Launch(key=ORDER.key, record=Seen().record, main=None, machines=ran, agreed=dear[billing.ANNOTATION])
    bill = billing.bill(of_main)
    assert bill is not None and bill.microdollars == 4 * 1800 * PRICE // 3600
    assert billing.bill(remembered) == billing.bill(recorded) == bill
    assert billing.unrecorded(of_main) == billing.unrecorded(remembered) == {billing.AGREED: Seen().agreed}
    assert billing.unrecorded(recorded) == billing.unrecorded(Launch(key="k", record=None, main=None)) == {}


def test_what_a_main_object_said_is_remembered_until_its_launch_is_closed() -> None:
    memory, meta = Memory(), {"name": "run", "labels": LABELS, "annotations": billing.on_main(ORDER)}
    memory.main(msgspec.convert(meta, Meta))
    assert memory.agreed == {ORDER.key: Seen().agreed}
    memory.main(msgspec.convert(meta | {"annotations": {}, "labels": LABELS | {KEY: "other"}}, Meta))
    memory.forget(ORDER.key)
    assert memory.agreed == {} and billing.on_main(an_order(price=None)) == {}


def test_a_launch_has_one_bill_however_often_it_is_settled_and_whatever_is_left_of_it_by_then() -> None:
    told: list[Charge] = []
    bills = Bills("l1", told.append)
    gone = Seen().pods(pod("a", "10:00:00", "10:30:00")).launch("11:00:00")
    first = bills.settle(gone)
    assert bills.settle(replace(gone, machines={})) == first and told == [first]
    assert Bills("l2", told.append).settle(gone) is None and told == [first]


def test_a_bill_from_a_closed_record_is_told_again_as_it_is_and_not_worked_out_anew() -> None:
    told: list[Charge] = []
    bills, first = Bills("l1", told.append), Seen().pods(pod("a", "10:00:00", "10:30:00")).bill()
    closed = {"metadata": {"name": ORDER.key, "labels": LABELS}, "data": records.closed(7, bill=first)["data"]}
    bills.restore([msgspec.convert(closed, Record)])
    assert bills.settle(Launch(key=ORDER.key, record=Seen().record, main=None)) == first and told == [first]


def test_a_closed_record_holds_the_bill_and_one_that_somebody_spoilt_holds_none() -> None:
    bill = Seen().pods(pod("a", "10:00:00", "10:30:00")).bill()
    doc: dict[str, Any] = {"metadata": {"name": ORDER.key}, "data": records.closed(7, bill=bill)["data"]}
    closed = msgspec.convert(doc, Record)
    assert billing.told(closed) == bill and records.closed_at(closed) == 7
    spoilt = msgspec.convert({"metadata": {}, "data": {billing.BILL: "much", billing.AGREED: "{}"}}, Record)
    assert billing.told(spoilt) is None and billing.bill(Launch(key="k", record=spoilt, main=None)) is None


def test_the_feed_tells_one_bill_of_each_launch() -> None:
    feed, bill = Feed("f"), Charge("k-bill", "k", 5, 1, final=True)
    feed.tell(bill)
    feed.tell(bill)
    assert feed.since(None, 0).charges == (bill,)


# ---- prices ----------------------------------------------------------------------------------------------------------


def price(book: dict[str, int], accelerator: str, *, has: tuple[str, ...] = (), gpus: int = 4) -> int | None:
    told = {"image": "i", "agentImage": "a", "accelerators": {name: {} for name in has}}
    return asking.price(book, some_terms(gpus_per_worker=gpus), accelerator, parse_connection("k", told))


def test_a_yes_names_what_the_price_book_asks_for_that_accelerator() -> None:
    book = {"H100": 3_000_000, "A100": 1_000_000}
    assert price(book, "A100", has=("H100", "A100")) == 1_000_000
    assert price(book, "B200") is None and price({}, "H100") is None
    assert price(book, "", has=("H100", "A100")) == 3_000_000
    assert price(book, "") is None and price({"H100": 5}, "") == 5
    assert price(book, "H100", gpus=0) is None


def test_a_room_accepts_at_the_price_of_what_it_gives() -> None:
    told = parse_connection("k", {"image": "i", "agentImage": "a", "accelerators": {"A100": {}}})
    status = {"allocatable": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    node = msgspec.convert({"metadata": {"name": "n1"}, "status": status | ready}, Node)
    offer = an_offer(terms=some_terms(memory=0, accelerators=("H100", "A100")))
    answer = Room(told, "kuberay", {"A100": 1_100_000}).receipt(offer, Stock([node], []), 0).answer
    assert answer is not None and (answer.accepted, answer.accelerator, answer.price) == (True, "A100", 1_100_000)
