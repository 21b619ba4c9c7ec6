"""Clouds that keep silent, come late, change terms, cannot launch, lag, forget to end, bill twice or go away.

Each is a switch of the mock cloud, met over its HTTP API by the product's own adapter and engine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.wiring import SECOND, Pace
from orchestrator.mockcloud.config import Deed, Mishap
from orchestrator.model import event as ev
from tests.wire.conftest import Town, a_town, until

pytestmark = pytest.mark.timeout(120)
OFFERS, CLUSTERS = "/v1/offers", "/v1/clusters"
HOUR_MS = 3_600_000
LAG_MS = 4000
QUICK = Pace(sweep=SECOND, down_after=SECOND)
WINDOW_S = 2
WAITS = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)"


def quick_town(home: Path, **changes: Any) -> AbstractContextManager[Town]:
    store = {"url": (home / "store").as_uri(), "jurisdiction": "EU"}
    return a_town(home, store, WINDOW_S, QUICK, **changes)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Its server asks a holder for two seconds, and looks at each cloud every second."""
    with quick_town(tmp_path) as made:
        yield made


def waiting(town: Town) -> str:
    """A job that runs until there is a file `go`."""
    return town.submit(run={"command": ["python", "-c", WAITS, str(town.home / "go")]})


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.fault("holder silent for the whole window", "acceptance late")
def test_a_holder_that_does_not_answer_in_its_window_is_passed_over_at_its_end(town: Town) -> None:
    """One job it answers too late, before it hears that this is over: evidence, whose capacity is given back."""
    town.azure.answers({"late": 1000, "times": 1}, {"bid": "silent"})
    town.azure.loses(Mishap(method="DELETE", path=OFFERS, do=Deed.DELAY, after=3000))
    late = town.submit()
    until(lambda: town.azure.journal("offer"))
    never = town.submit()
    for job in (late, never):
        town.reaches(job, "launching")
        assert town.offers(job) == [("azure", "lapsed", "silence"), ("oracle", "accepted", "")]
        [lapsed] = town.events(job, ev.OfferLapsed)
        assert lapsed.polled_at >= lapsed.deadline
    until(lambda: town.told(late, ev.LateAnswer))
    until(lambda: len(town.azure.journal("withdrawn")) == 2)
    assert town.azure.here.cloud.stock.free("eu-1", "H100") == 16 and not town.told(never, ev.LateAnswer)
    assert len(town.oracle.alive()) == 2 and not town.azure.journal("created")


@pytest.mark.fault("counter-offer")
def test_a_yes_to_other_terms_than_ours_is_a_no_and_holds_nothing_back(town: Town) -> None:
    town.azure.answers({"counter": True})
    job = town.submit()
    row = town.reaches(job, "launching")
    assert town.offers(job) == [("azure", "declined", "counter"), ("oracle", "accepted", "")]
    assert [attempt["provider"] for attempt in row["attempts"]] == ["oracle"]
    until(lambda: town.azure.journal("withdrawn"))
    assert town.azure.here.cloud.stock.free("eu-1", "H100") == 16 and not town.azure.journal("created")


@pytest.mark.fault("accepted but cannot launch")
@pytest.mark.parametrize(("capacity", "launch"), [(4, ""), (16, "quota")])
def test_a_holder_that_accepts_and_cannot_launch_has_refused(town: Town, capacity: int, launch: str) -> None:
    town.azure.answers({"bid": "accept"})
    town.azure.switches.put("/capacity", {"eu-1": {"H100": capacity}}, "PUT")
    town.azure.breaks(launch=launch)
    job = town.submit()
    until(lambda: town.oracle.journal("created"))
    assert town.offers(job) == [("azure", "accepted", ""), ("oracle", "accepted", "")]
    ends = [(end.epoch, end.how, end.late) for end in town.events(job, ev.Ended)]
    assert ends == [(1, "rejected", False)] and not town.azure.alive() and len(town.oracle.alive()) == 1


@pytest.mark.fault("launch request lost")
def test_a_launch_that_never_arrived_is_asked_for_again_under_its_key(town: Town) -> None:
    """The adapter repeats its call once; then nobody knows, and it is the server that asks again."""
    town.azure.loses(Mishap(method="POST", path=CLUSTERS, do=Deed.LOSE_REQUEST, times=2))
    job = town.submit()
    [made] = until(lambda: town.azure.journal("created"))
    until(lambda: town.azure.calls("POST", CLUSTERS) == [("lose_request", None)] * 2 + [("", 202)])  # told once replied
    assert made["key"] == f"{job.lower()}-e1" and town.told(job, ev.WentUnknown, ev.Intended) == [
        "Intended", "WentUnknown",
    ]  # fmt: skip
    until(lambda: town.job(job)["attempts"][0]["state"] == "confirmed")


@pytest.mark.fault("launch stuck and appearing minutes later")
def test_a_launch_that_appears_when_nobody_hopes_for_it_is_known_again_or_ended(town: Town) -> None:
    """Whatever is sent arrives three seconds later, unanswered. One job still waits for it, one was cancelled."""
    town.azure.loses(Mishap(method="POST", path=CLUSTERS, do=Deed.HOLD, after=3000, times=1000))
    waits, cancelled = town.submit(), town.submit()
    until(lambda: town.told(waits, ev.WentUnknown) and town.told(cancelled, ev.WentUnknown))
    town.http.post(f"/v1/jobs/{cancelled}/cancel").raise_for_status()
    town.reaches(cancelled, "cancelled")
    until(lambda: len(town.azure.journal("created")) == 2)
    until(lambda: town.azure.alive() == [f"{waits.lower()}-e1"])
    until(lambda: town.told(waits, ev.SeenAgain))
    assert len(town.azure.journal("created")) == 2 and len(town.job(waits)["attempts"]) == 1


@pytest.mark.fault("provider's control plane down while its job runs on")
def test_a_job_whose_cloud_cannot_be_asked_runs_to_its_end_where_it_is(tmp_path: Path) -> None:
    with quick_town(tmp_path, machines="process") as town:
        job = waiting(town)
        town.reaches(job, "running")
        town.azure.breaks(api="refuse")
        until(lambda: town.told(job, ev.WentUnknown))
        (tmp_path / "go").touch()
        row = town.reaches(job, "succeeded")
        assert [(one["provider"], one["how"]) for one in row["attempts"]] == [("azure", "done")]
        assert not town.told(job, ev.Fencing) and not town.oracle.journal()
        assert town.azure.alive(), "its end is not known before its cloud is back"
        town.azure.breaks(api="up")
        until(lambda: not town.azure.alive())


@pytest.mark.fault("clocks wrong or jumping: theirs")
def test_a_cloud_whose_clock_is_wrong_is_believed_in_nothing_that_a_clock_says(town: Town) -> None:
    """An hour ahead, then an hour behind: its yes is in time by our clock, which is the one that counts."""
    town.azure.answers({"delay": {"low": 500, "high": 500}})
    for off_ms in (HOUR_MS, -HOUR_MS):
        town.azure.breaks(clockOffset=off_ms)
        job = town.submit()
        row = town.reaches(job, "launching")
        assert town.offers(job) == [("azure", "accepted", "")]
        [answer] = town.events(job, ev.OfferAnswered)
        assert answer.provider_at is not None
        said = timedelta(microseconds=answer.provider_at) - timedelta(seconds=moment(row["submittedAt"]))
        assert abs(said - timedelta(milliseconds=off_ms)) < timedelta(seconds=30)


@pytest.mark.fault("list eventually consistent")
def test_a_listing_that_lags_confirms_no_end_early_and_the_next_attempt_waits_for_it(tmp_path: Path) -> None:
    """The machines are dead, and are listed as running for four seconds more."""
    with quick_town(tmp_path, machines="process", listLag=LAG_MS) as town:
        job = waiting(town)
        town.reaches(job, "running")
        town.azure.answers({"bid": "decline"})
        until(lambda: [one["state"] for one in town.azure.here.cloud.listing(time.time_ns() // 1000)] == ["running"])
        town.azure.switches.put(f"/clusters/{job.lower()}-e1/kill")
        (tmp_path / "go").touch()
        row = town.reaches(job, "succeeded", 40)
        [ended] = town.azure.journal("ended")
        first, second = row["attempts"]
        assert [(one["provider"], one["how"]) for one in (first, second)] == [("azure", "fenced"), ("oracle", "done")]
        assert [started.cleared for started in town.events(job, ev.Started)] == [False, True]
        assert moment(second["startedAt"]) >= (ended["at"] / 1000 + LAG_MS) / 1000


@pytest.mark.fault("terminate failing silently")
def test_what_does_not_end_although_it_was_acknowledged_is_asked_to_until_it_has(town: Town) -> None:
    town.azure.breaks(terminate="silent")
    job = town.submit()
    until(lambda: town.azure.journal("created"))
    town.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    town.reaches(job, "cancelled")
    until(lambda: len(town.azure.journal("delete_asked")) > 1)
    assert town.azure.alive() == [f"{job.lower()}-e1"]
    town.azure.breaks(terminate="works")
    until(lambda: not town.azure.alive())
    assert len(town.azure.journal("ended")) == 1 and not town.oracle.journal("created")


@pytest.mark.fault("provider double-billing")
def test_a_bill_counts_once_however_often_it_comes(tmp_path: Path) -> None:
    """It is renewed five times a second. Under a second name it is another bill, too small for the audit to object."""
    with quick_town(tmp_path, chargeEvery=200) as town:
        town.azure.breaks(doubleBilling=True)
        job = town.submit()
        town.reaches(job, "launching")
        cloud = town.azure.here.cloud
        until(lambda: len([one for one in cloud.feed if one["type"] == "charge" and one["gpuSeconds"]]) > 3)
        town.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
        town.reaches(job, "cancelled")
        [attempt] = until(lambda: [a for a in town.job(job)["attempts"] if a["chargeMicrousd"] is not None])
        final = {one["id"]: one["microdollars"] for one in cloud.feed if one["type"] == "charge" and one["final"]}
        assert len(final) == 2 and attempt["chargeMicrousd"] == sum(final.values())
