"""The cloud by itself, on a clock that the test moves: offers, capacity, clusters, listings, bills, faults."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.mockcloud.config import Faults
from orchestrator.mockcloud.records import Refusal
from tests.mockcloud.conftest import Played, an_offer


def broken(c: Played, **faults: Any) -> None:
    c.cloud.break_with(Faults.model_validate(faults), c.now)


def test_an_offer_that_fits_is_accepted_and_earmarked() -> None:
    c = Played()
    yes = c.offer()
    assert yes and yes["accepted"] and (yes["region"], yes["accelerator"], yes["ttlMs"]) == ("eastus", "H100", 60_000)
    assert yes["termsHash"] == an_offer().terms_hash and yes["price"] == 12_290_000
    assert c.cloud.stock.free("eastus", "H100") == 0


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"workers": 3}, "SkuNotAvailable"),
        ({"accelerators": ["GB200"]}, "InvalidParameter"),
        ({"regions": ["swedencentral"]}, "LocationNotAvailableForResourceType"),
        ({"gpusPerWorker": 16, "workers": 1}, "InvalidRequestContent"),
        ({"ceilingMicrousd": 12_000_000}, "MaxPriceExceeded"),
    ],
)
def test_a_no_is_in_the_clouds_own_words(terms: dict[str, Any], code: str) -> None:
    no = Played().offer(**terms)
    assert no and not no["accepted"] and no["code"] == code and no["message"]


def test_what_is_owned_already_is_had_for_what_was_agreed() -> None:
    c = Played()
    owned = an_offer(ceilingMicrousd=2_100_000).model_copy(update={"trigger": "owned"})
    yes = c.cloud.offer(owned, c.now).answer
    assert yes and (yes["accepted"], yes["price"]) == (True, 2_100_000)


def test_terms_that_name_no_accelerator_take_any_that_is_free() -> None:
    yes = Played(capacity={"eastus": {"A100": 1, "H100": 16}}).offer(accelerators=[])
    assert yes and (yes["accepted"], yes["accelerator"]) == (True, "H100")


def test_of_an_elastic_job_as_much_is_taken_as_there_is_room_for() -> None:
    c = Played()
    yes = c.offer(workers=8, minWorkers=1)
    assert yes and (yes["accepted"], yes["workers"]) == (True, 2)
    no = c.offer("k-o1", workers=8, minWorkers=1)
    assert no and not no["accepted"]


def test_the_same_offer_id_is_the_same_offer() -> None:
    c = Played()
    assert c.offer() == c.offer()
    assert len(c.told("answer")) == 1
    with pytest.raises(Refusal, match="mismatch"):
        c.offer(workers=1)


def test_an_earmark_ends_with_its_time_or_its_withdrawal() -> None:
    c = Played()
    c.offer("j-o1")
    assert not c.offer("k-o1")["accepted"]  # type: ignore[index]
    c.cloud.withdraw("j-o1", c.now)
    assert c.offer("k-o2")["accepted"]  # type: ignore[index]
    c.wait(61)
    assert c.cloud.stock.free("eastus", "H100") == 8


def test_a_cluster_uses_the_earmark_and_keeps_the_accepted_price() -> None:
    c = Played()
    c.offer("j-o1")
    c.cloud.stock.set_price("H100", 99_000_000)
    cluster = c.launch(offer="j-o1")
    assert cluster.price == 12_290_000
    with pytest.raises(Refusal, match="capacity"):
        c.launch("k-e1")


def test_an_acceptance_without_capacity_fails_at_the_launch() -> None:
    c = Played(policies=[{"bid": "accept"}], capacity={"eastus": {"H100": 4}})
    assert c.offer("j-o1")["accepted"]  # type: ignore[index]
    with pytest.raises(Refusal, match="allocation"):
        c.launch(offer="j-o1")


@pytest.mark.fault("acceptance late", "holder silent for the whole window")
def test_answers_come_after_a_while_late_or_never() -> None:
    soon, late = {"delay": {"low": 5000, "high": 5000}, "times": 1}, {"late": 1000, "times": 1}
    c = Played(policies=[soon, late, {"bid": "silent"}], capacity={"eastus": {"H100": 80}})
    assert c.offer("a-o1") is c.offer("b-o1", workers=1) is c.offer("c-o1", workers=1) is None
    c.wait(6)
    assert [event["offer"] for event in c.told("answer")] == ["a-o1"]
    c.wait(60)
    assert [event["offer"] for event in c.told("answer")] == ["a-o1", "b-o1"]
    c.wait(3600)
    assert len(c.told("answer")) == 2


def test_a_withdrawn_offer_is_answered_no_more() -> None:
    c = Played(policies=[{"delay": {"low": 5000, "high": 5000}}])
    c.offer("a-o1")
    c.cloud.withdraw("a-o1", c.now)
    c.wait(60)
    assert c.told("answer") == []


@pytest.mark.fault("counter-offer")
def test_a_counter_names_other_terms() -> None:
    yes = Played(policies=[{"counter": True}]).offer()
    assert yes and yes["accepted"] and yes["termsHash"] != an_offer().terms_hash


def test_too_many_open_offers_are_turned_away() -> None:
    c = Played(maxOpenOffers=1, policies=[{"bid": "silent"}])
    c.offer("a-o1")
    with pytest.raises(Refusal, match="throttled"):
        c.offer("b-o1")


def test_a_client_token_makes_one_cluster() -> None:
    c = Played()
    assert c.launch() is c.launch()
    with pytest.raises(Refusal, match="mismatch"):
        c.launch(workers=1)
    c.cloud.delete("j-e1", c.now)
    c.wait(5)
    assert c.launch().state == "terminated"
    assert [line["key"] for line in c.cloud.journal.lines if line["kind"] == "created"] == ["j-e1"]


@pytest.mark.fault("launched twice under one key")
def test_a_cloud_that_forgets_tokens_makes_two() -> None:
    c = Played()
    broken(c, tokens="forgotten")
    assert c.launch(workers=1) is not c.launch(workers=1)


@pytest.mark.fault("list eventually consistent")
def test_listings_lag_behind() -> None:
    c = Played()
    c.launch()
    c.wait(0.5)
    assert c.listed() == {}
    c.wait(1)
    assert c.listed() == {"j-e1": "provisioning"}
    c.wait(1)
    assert c.listed() == {"j-e1": "running"}
    c.cloud.delete("j-e1", c.now)
    c.wait(0.6)
    assert c.listed() == {"j-e1": "running"}
    c.wait(1)
    assert c.listed() == {"j-e1": "terminated"}
    c.wait(62)
    assert c.listed() == {}


def test_listings_lie_on_demand() -> None:
    c = Played()
    c.launch()
    c.wait(3)
    broken(c, listing="empty")
    assert c.listed() == {}
    broken(c, listing="frozen")
    c.wait(1)
    c.cloud.delete("j-e1", c.now)
    c.wait(30)
    assert c.listed() == {"j-e1": "running"}


def test_the_bill_is_gpu_seconds_times_price() -> None:
    c = Played()
    c.launch()
    c.wait(1 + 25)
    c.cloud.delete("j-e1", c.now)
    c.wait(10)
    bills = [(bill["gpuSeconds"], bill["final"]) for bill in c.told("charge")]
    assert bills == [(80, False), (160, False), (204, True)]
    assert c.told("charge")[-1]["microdollars"] == 204 * 12_290_000 // 3600
    assert c.cloud.stock.free("eastus", "H100") == 8


@pytest.mark.fault("provider double-billing")
def test_double_billing() -> None:
    c = Played()
    broken(c, doubleBilling=True)
    c.launch()
    c.wait(5)
    c.cloud.delete("j-e1", c.now)
    c.wait(5)
    assert len({bill["id"] for bill in c.told("charge") if bill["final"]}) == 2


@pytest.mark.parametrize(("kept", "state"), [("honoured", "terminated"), ("ignored", "running")])
def test_delete_after(kept: str, state: str) -> None:
    c = Played()
    broken(c, deleteAfter=kept)
    cluster = c.launch(deleteAfterMs=20_000)
    c.wait(30)
    assert cluster.state == state


@pytest.mark.fault("terminate failing silently")
def test_a_termination_fails_silently() -> None:
    c = Played()
    broken(c, terminate="silent")
    cluster = c.launch()
    c.wait(5)
    c.cloud.delete("j-e1", c.now)
    c.wait(60)
    assert cluster.state == "running"


@pytest.mark.fault("accepted but cannot launch")
def test_accepted_and_then_it_cannot_launch() -> None:
    c = Played()
    c.offer("j-o1")
    broken(c, launch="quota")
    with pytest.raises(Refusal, match="quota"):
        c.launch(offer="j-o1")
    broken(c, launch="dies")
    cluster = c.launch(offer="j-o1")
    c.wait(600)
    assert cluster.state == "provisioning"


@pytest.mark.fault("partial gang")
def test_a_refused_gang_may_leave_a_part_behind() -> None:
    c = Played(capacity={"eastus": {"H100": 4}})
    broken(c, partialGang=True)
    with pytest.raises(Refusal):
        c.launch()
    c.wait(2)
    assert c.listed() == {"j-e1": "running"}
    c.cloud.delete("j-e1", c.now)
    c.wait(2)
    assert c.listed() == {"j-e1": "terminated"}


@pytest.mark.fault("clocks wrong or jumping: theirs")
def test_the_feed_tells_capacity_prices_and_its_own_clock() -> None:
    c = Played()
    broken(c, clockOffset=3_600_000)
    c.cloud.stock.set_capacity("eastus", "H100", 4)
    c.cloud.stock.set_price("H100", 5_000_000)
    assert c.told("notice")[-1]["detail"] == "4 H100 free in eastus"
    assert [row["price"] for row in c.told("price")] == [12_290_000, 5_000_000]
    assert c.offer(workers=1)["at"] == c.now + 3_600_000_000  # type: ignore[index]


def test_the_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> list[int]:
        c = Played(seed=seed, provisioning={"low": 0, "high": 100_000}, capacity={"eastus": {"H100": 80}})
        for n in range(5):
            c.launch(f"j{n}-e1")
        c.wait(200)
        return [at for some in c.cloud.clusters.values() for at, state in some[0].history if state == "running"]

    assert drawn(1) == drawn(1) != drawn(2)


def test_clouds_of_one_seed_on_one_machine_never_share_a_clusters_name() -> None:
    """Processes are found and ended by it: two demos side by side must not end each other's."""
    one, other, again = Played(seed=7).launch("a-e1"), Played(seed=7).launch("b-e1"), Played(seed=7).launch("a-e1")
    assert one.id != other.id
    assert one.id == again.id
