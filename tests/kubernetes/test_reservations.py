"""Offers put to Kueue, whatever comes between two calls. The cluster is on paper, and a test plays Kueue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.bills import Bills
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.objects import WORKLOAD as PREBUILT
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.queues import CONTROLLER
from orchestrator.adapters.providers.kubernetes.reservations import KEPT, Reservations
from orchestrator.adapters.providers.kubernetes.resources import (
    ADMISSION_CHECK,
    CLUSTER_QUEUE,
    JOB,
    KEY,
    LEDGER,
    LOCAL_QUEUE,
    MANAGED_BY,
    RECORD,
    US,
    WORKLOAD,
)
from orchestrator.adapters.providers.kubernetes.scribe import Scribe
from orchestrator.adapters.providers.kubernetes.sightings import EVICTED
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.model.offer import Answer, Reason, Receipt
from orchestrator.ports.provider import Misconfigured
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_offer, some_terms
from orchestrator.testing.clock import FakeClock
from tests.kubernetes.paper import PaperApi

pytestmark = pytest.mark.looptime
SPACE = "team"
CONNECTION = parse_connection(
    "k",
    {
        "image": "i",
        "agentImage": "a",
        "runtime": "job",
        "namespace": SPACE,
        "queue": "ours",
        "accelerators": {"H100": {"autoscaled": True}},
    },
)
CHECK, BEHIND = ADMISSION_CHECK.path(name="check"), CLUSTER_QUEUE.path(name="behind")
WORKLOADS = WORKLOAD.path(SPACE)


class Site:
    """A queue of ours with its check, offers put to it, and what was answered."""

    def __init__(self) -> None:
        self.api, self.clock, self.told = PaperApi(), FakeClock(), list[Answer]()
        self.api.put(LOCAL_QUEUE.path(SPACE, "ours"), spec={"clusterQueue": "behind"})
        self.check("check")
        self.queue("check")
        self.restart()

    def restart(self, ledger: str = "l") -> None:
        """As after a crash: nothing is remembered. `ledger`: whose server it is."""
        self._begun = False
        self.cluster = Cluster(self.api, CONNECTION, self.clock.now_us)  # type: ignore[arg-type]
        scribe = Scribe(self.cluster, Bills(ledger, lambda _: None), self.clock.now_us)
        tools = Tools(runtime=RayJobs(), clock=self.clock, ledger=ledger)
        self.offers = Reservations(self.cluster, scribe, tools, self.told.append)

    async def begin(self) -> None:
        """Everything was read, as before a provider's first call."""
        await self.cluster.ready()
        if not self._begun:
            await self.offers.restore()
        self._begun = True

    def check(self, name: str) -> None:
        """The operator makes it (anew), and nobody has served it yet."""
        if (path := ADMISSION_CHECK.path(name=name)) in self.api.objects:
            self.api.drop(path)
        self.api.put(path, spec={"controllerName": CONTROLLER})

    def queue(self, *checks: str) -> None:
        """The operator has the ClusterQueue ask for these checks."""
        named = [{"name": name} for name in checks]
        self.api.put(BEHIND, spec={"admissionChecksStrategy": {"admissionChecks": named}})

    async def place(self, n: int) -> str:
        """Put an offer to Kueue; its Workload."""
        await self.begin()
        receipt = await self.offers.place(an_offer(n=n))
        assert isinstance(receipt, Receipt)
        return WORKLOAD.path(SPACE, an_offer(n=n).offer.lower())

    def served(self) -> bool:
        """Whether Kueue may take it that somebody serves the check."""
        conditions = self.api.objects[CHECK].get("status", {}).get("conditions", ())
        return any((one["type"], one["status"]) == ("Active", "True") for one in conditions)

    def says(self, workload: str, status: str, message: str = "", **more: Any) -> None:
        """What Kueue says of quota for it."""
        reserved = {"type": "QuotaReserved", "status": status, "reason": "Kueue", "message": message}
        self.api.put(workload, status={"conditions": [reserved], **more})

    async def accepted(self, n: int) -> str:
        """An offer for which Kueue has reserved quota."""
        asked = await self.place(n)
        self.says(asked, "True")
        await self.offers.settle(fresh=True)
        return asked

    def launched(self, workload: str, key: str = "k-e1") -> None:
        """A launch is made that is to use this Workload."""
        name = workload.rsplit("/", 1)[1]
        labels = {MANAGED_BY: US, LEDGER: "l", KEY: key, PREBUILT: name}
        meta = {"name": name_of(key), "namespace": SPACE, "uid": f"uid-{key}", "labels": labels}
        self.api.put(JOB.path(SPACE, name_of(key)), metadata=meta)

    def used(self, workload: str, key: str = "k-e1") -> None:
        """Kueue has the launch own it."""
        owner = {"kind": "Job", "name": name_of(key), "uid": f"uid-{key}"}
        meta = self.api.objects[workload]["metadata"] | {"ownerReferences": [owner]}
        self.api.put(workload, metadata=meta)

    async def waits(self) -> str:
        """A launch that waits for our word; its Workload."""
        asked = await self.accepted(1)
        self.launched(asked)
        self.used(asked)
        self.says(asked, "True", admissionChecks=[{"name": "check", "state": "Pending"}])
        await asyncio.sleep(1)
        return asked

    def state(self, workload: str) -> str:
        """Where our check of it stands."""
        found: str = self.api.objects[workload]["status"]["admissionChecks"][0]["state"]
        return found

    def evicted(self, workload: str) -> None:
        """Kueue takes its quota back."""
        self.says(workload, "False")
        evicted = {"type": "Evicted", "status": "True", "reason": "ClusterQueueStopped", "message": "stopped"}
        conditions = self.api.objects[workload]["status"]["conditions"]
        self.api.put(workload, status={"conditions": [*conditions, evicted]})


@pytest.fixture
def site() -> Site:
    return Site()


async def test_an_offer_put_to_kueue_while_a_list_is_on_its_way_is_not_judged_by_that_list(site: Site) -> None:
    await site.place(1)
    with site.api.late(f"GET {WORKLOADS}"):
        looking = asyncio.ensure_future(site.offers.settle(fresh=True))
        await asyncio.sleep(1)
        second = await site.place(2)
    await looking
    assert site.told == []
    site.says(second, "True")
    await site.offers.settle(fresh=True)
    assert [answer.accepted for answer in site.told] == [True]


async def test_an_offer_that_is_withdrawn_while_it_is_judged_has_no_answer(site: Site) -> None:
    with site.api.late("DELETE"):
        asked = [await site.place(n) for n in (1, 2)]
        await asyncio.sleep(60)
        looking = asyncio.ensure_future(site.offers.settle(fresh=True))
        await asyncio.sleep(1)
        withdrawing = [asyncio.ensure_future(site.offers.withdraw(an_offer(n=n).offer)) for n in (1, 2)]
        await asyncio.sleep(1)
    await asyncio.gather(looking, *withdrawing)
    assert site.told == [] and not {*asked} & {*site.api.objects}


async def test_an_offer_that_is_withdrawn_while_another_call_finds_it_after_a_restart_is_not_found(site: Site) -> None:
    await site.place(1)
    site.restart()
    await site.cluster.ready()
    with site.api.late(f"WATCH {WORKLOADS}"):
        with site.api.late(f"GET {LOCAL_QUEUE.path(SPACE)}"):
            finding = asyncio.ensure_future(site.offers.restore())
            await asyncio.sleep(1)
            await site.offers.withdraw(an_offer(n=1).offer)
        await finding
        await site.offers.settle(fresh=True)
    assert site.told == []


async def test_a_window_that_is_over_is_a_no_once_whoever_looks(site: Site) -> None:
    asked = await site.place(1)
    site.says(asked, "False", "insufficient unused quota")
    await asyncio.sleep(60)
    await asyncio.gather(*(site.offers.settle(fresh=fresh) for fresh in (True, False)))
    assert [(answer.accepted, answer.reason) for answer in site.told] == [(False, Reason.CAPACITY)]


async def test_whoever_is_cut_off_after_our_own_deletion_leaves_kueue_s_words_to_the_next(site: Site) -> None:
    asked = await site.place(1)
    site.says(asked, "False", "insufficient unused quota")
    await asyncio.sleep(60)
    with site.api.late("DELETE"):
        looking = asyncio.ensure_future(site.offers.settle(fresh=True))
        await asyncio.sleep(1)
        looking.cancel()
    assert asked not in site.api.objects and site.told == []
    await site.offers.settle(fresh=True)
    assert [answer.reason for answer in site.told] == [Reason.CAPACITY]
    assert "insufficient unused quota" in site.told[0].detail


async def test_an_offer_whose_workload_somebody_deleted_is_declined_soon_after_its_window_whoever_looks(
    site: Site,
) -> None:
    site.api.drop(await site.place(1))
    await asyncio.sleep(62)
    await site.offers.settle(fresh=False)
    assert [(answer.accepted, answer.reason) for answer in site.told] == [(False, Reason.ERROR)]


async def test_a_window_that_is_over_is_not_waited_for_again(site: Site) -> None:
    await site.place(1)
    await asyncio.sleep(30)
    await site.place(2)
    due = site.offers.next_deadline()
    await asyncio.sleep(30)
    later = site.offers.next_deadline()
    assert due is not None and later is not None and later > due


async def test_answers_that_were_given_at_once_are_remembered_and_not_for_ever(site: Site) -> None:
    async def answered(n: int) -> int | None:
        receipt = await site.offers.place(an_offer(n=n, terms=some_terms(accelerators=("B200",))))
        assert isinstance(receipt, Receipt) and receipt.answer is not None
        return receipt.answer.provider_at

    first = await answered(1)
    await asyncio.sleep(1)
    assert await answered(1) == first
    for n in range(KEPT):
        await answered(2 + n)
    assert await answered(1) != first


# ---- the queue and its check -----------------------------------------------------------------------------------------


async def test_a_check_that_the_operator_adds_is_served_at_the_next_offer(site: Site) -> None:
    site.queue()
    with pytest.raises(Misconfigured, match="no admission check of ours; run providers check"):
        await site.place(1)
    site.queue("check")
    await site.place(1)
    assert site.served()


async def test_a_queue_that_names_no_cluster_queue_is_the_operator_s_to_mend(site: Site) -> None:
    site.api.put(LOCAL_QUEUE.path(SPACE, "ours"), spec={})
    with pytest.raises(Misconfigured, match="names no ClusterQueue"):
        await site.place(1)


async def test_a_check_that_is_made_anew_is_served_at_once_where_kueue_says_that_the_queue_is_inactive(
    site: Site,
) -> None:
    asked = await site.place(1)
    await asyncio.sleep(5)
    site.check("check")
    site.says(asked, "False", "ClusterQueue behind is inactive")
    await site.offers.settle(fresh=True)
    assert site.served() and site.told == []


async def test_a_check_that_is_made_anew_is_served_within_a_minute_while_an_offer_waits(site: Site) -> None:
    asked = await site.place(1)
    site.says(asked, "False", "insufficient unused quota")
    site.check("check")
    await asyncio.sleep(30)
    await site.offers.settle(fresh=True)
    assert not site.served()
    await asyncio.sleep(30)
    await site.offers.settle(fresh=False)
    assert site.served()


async def test_a_queue_is_read_once_a_minute_however_many_offers_there_are(site: Site) -> None:
    for n in range(1, 30):
        await site.place(n)
        await site.offers.settle(fresh=True)
        await asyncio.sleep(4)
    assert site.api.asked.count(f"GET {BEHIND}") == 2
    assert site.api.asked.count(f"PATCH {CHECK}/status") == 1


async def test_a_queue_that_is_gone_is_told_to_the_next_offer_and_breaks_no_look(site: Site) -> None:
    await site.place(1)
    await asyncio.sleep(60)
    site.api.drop(BEHIND)
    await site.offers.settle(fresh=True)
    with pytest.raises(Misconfigured, match="create LocalQueue team/ours"):
        await site.place(2)


# ---- launches --------------------------------------------------------------------------------------------------------


async def test_quota_of_a_launch_that_kueue_has_not_looked_at_yet_is_kept(site: Site) -> None:
    asked = await site.accepted(1)
    site.launched(asked)
    await asyncio.sleep(7200)
    await site.offers.tend()
    assert asked in site.api.objects


async def test_quota_that_nobody_launched_is_given_back_in_the_end(site: Site) -> None:
    asked = await site.accepted(1)
    await asyncio.sleep(1800)
    await site.offers.tend()
    assert asked in site.api.objects
    await asyncio.sleep(1800)
    await site.offers.tend()
    assert asked not in site.api.objects


async def test_a_launch_that_was_evicted_before_its_object_was_told_is_marked_once_it_is(site: Site) -> None:
    asked = await site.accepted(1)
    site.used(asked)
    site.evicted(asked)
    await asyncio.sleep(1)
    await site.offers.tend()
    await asyncio.sleep(1)
    site.launched(asked)
    await asyncio.sleep(1)
    await site.offers.tend()
    assert site.api.objects[RECORD.path(SPACE, "k-e1")]["data"]["state"] == EVICTED


async def test_a_launch_that_is_being_made_is_let_start_by_nobody_else(site: Site) -> None:
    asked = await site.waits()
    with site.offers.making(an_offer(n=1).offer):
        await site.offers.tend()
        assert site.state(asked) == "Pending"
    await site.offers.tend()
    assert site.state(asked) == "Ready"


# ---- another server, whose ledger is another ------------------------------------------------------------------------


async def test_offers_of_a_server_before_us_are_answered_and_those_of_another_ledger_are_not(site: Site) -> None:
    site.says(await site.place(1), "True")
    site.restart(ledger="theirs")
    await site.begin()
    await site.offers.settle(fresh=True)
    assert site.told == []
    site.restart()
    await site.begin()
    await site.offers.settle(fresh=True)
    assert [answer.offer for answer in site.told] == [an_offer(n=1).offer]


async def test_an_offer_of_another_ledger_is_not_ours_to_withdraw(site: Site) -> None:
    asked = await site.accepted(1)
    site.restart(ledger="theirs")
    await site.offers.withdraw(an_offer(n=1).offer)
    assert asked in site.api.objects


async def test_a_launch_of_another_ledger_is_started_by_who_ordered_it(site: Site) -> None:
    asked = await site.waits()
    for ledger, state in (("theirs", "Pending"), ("l", "Ready")):
        site.restart(ledger)
        await site.begin()
        await site.offers.tend()
        assert site.state(asked) == state
