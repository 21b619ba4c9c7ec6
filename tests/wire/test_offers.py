"""Offers, answers, withdrawals and launches that get lost or cross each other on a real network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.mockcloud.config import Deed, Mishap
from orchestrator.model import event as ev
from orchestrator.simulate.world import first_right
from tests.wire.conftest import Town, until

pytestmark = pytest.mark.timeout(120)
OFFERS, CLUSTERS = "/v1/offers", "/v1/clusters"
SLOW = {"low": 1500, "high": 1500}
MANY = 1000


@pytest.mark.parametrize(
    ("deed", "answered", "after"),
    [
        pytest.param(Deed.LOSE_REQUEST, None, 0, marks=pytest.mark.fault("offer lost")),
        pytest.param(Deed.LOSE_REPLY, 200, 3000, marks=pytest.mark.fault("receipt lost")),
    ],
)
def test_what_got_lost_is_delivered_again_as_the_same_offer(
    town: Town, deed: Deed, answered: int | None, after: int
) -> None:
    """The adapter repeats its call once; then it is the server that delivers again."""
    town.azure.answers({"delay": {"low": after, "high": after}})
    town.azure.loses(Mishap(method="POST", path=OFFERS, do=deed, times=2))
    job = town.submit()
    town.reaches(job, "launching")
    assert town.azure.calls("POST", OFFERS) == [(deed.value, answered)] * 2 + [("", 200)]
    assert [line["offer"] for line in town.azure.journal("offer")] == [f"{job}-o1"]
    assert town.told(job, ev.OfferOpened, ev.DeliveryFailed, ev.OfferDelivered) == [
        "OfferOpened", "DeliveryFailed", "OfferDelivered",
    ]  # fmt: skip
    assert len(until(lambda: town.azure.journal("created"))) == 1 and not town.oracle.journal()


@pytest.mark.fault("acceptance racing a withdrawal")
def test_a_yes_that_crosses_our_withdrawal_keeps_no_capacity_and_starts_nothing(town: Town) -> None:
    town.azure.answers({"delay": SLOW})
    job = town.submit()
    town.azure.loses(Mishap(method="DELETE", path=OFFERS, do=Deed.DELAY, after=3000))
    until(lambda: town.azure.journal("offer"))
    town.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    row = town.reaches(job, "cancelled")
    until(lambda: town.azure.journal("withdrawn"))
    assert [line["kind"] for line in town.azure.journal()] == ["offer", "answer", "withdrawn"]
    assert town.azure.journal("answer")[0]["accepted"] and not row["attempts"]
    assert town.azure.here.cloud.stock.free("eu-1", "H100") == 16


@pytest.mark.fault("price moves after refusal")
@pytest.mark.parametrize(("to", "attempts"), [(2_500_000, [("oracle", 2_500_000)]), (4_000_000, [])])
def test_a_price_that_moves_after_the_refusal(town: Town, to: int, attempts: list[tuple[str, int]]) -> None:
    """The holder refuses at a ceiling of 3; its rival's price moves before the rival answers: that is paid."""
    town.azure.answers({"bid": "decline", "situation": "price"})
    town.oracle.answers({"delay": SLOW})
    job = town.submit(ceilingUsdPerGpuHour="3.00")
    until(lambda: town.oracle.journal("offer"))
    town.oracle.switches.put("/prices", {"H100": to}, "PUT")
    until(lambda: town.told(job, ev.Intended, ev.RoundEnded))
    assert [(e.provider, e.price) for e in town.events(job, ev.Intended)] == attempts
    assert [e.provider for e in town.events(job, ev.OfferOpened)] == ["azure", "oracle"]


@pytest.mark.fault("contract amended mid-window")
def test_a_holder_that_loses_its_right_in_its_window_may_still_answer_and_is_asked_no_more(
    town: Town, tmp_path: Path
) -> None:
    """azure has been asked when the right passes to oracle; it declines after that."""
    town.azure.answers({"bid": "decline", "delay": {"low": 3000, "high": 3000}})
    job = town.submit()
    until(lambda: town.azure.journal("offer"))
    (tmp_path / "amended.yaml").write_text(json.dumps(first_right("oracle")))
    here = {"ORCHESTRATOR_HOME": str(tmp_path), "ORCHESTRATOR_URL": None, "ORCHESTRATOR_TOKEN": None}
    applied = CliRunner().invoke(app, ["contracts", "apply", str(tmp_path / "amended.yaml")], env=here)
    assert applied.exit_code == 0 and "takes effect: version 2" in applied.output
    town.reaches(job, "launching")
    opened = [(e.provider, e.contract, e.clause) for e in town.events(job, ev.OfferOpened)]
    assert opened == [("azure", 1, "agreement/rofr"), ("oracle", 2, "agreement/rofr")]
    assert not town.told(job, ev.OfferLapsed, ev.OfferWithdrawn)


@pytest.mark.fault("cancel while a launch is unknown")
@pytest.mark.parametrize(("deed", "made"), [(Deed.LOSE_REPLY, 1), (Deed.LOSE_REQUEST, 0)])
def test_a_job_cancelled_while_nobody_knows_of_its_launch_leaves_nothing_alive(
    town: Town, deed: Deed, made: int
) -> None:
    """No reply to a launch arrives, and no word of the feed that could tell of it."""
    unheard = Mishap(method="GET", path="/v1/events", do=Deed.LOSE_REPLY, times=MANY)
    town.azure.loses(Mishap(method="POST", path=CLUSTERS, do=deed, times=MANY), unheard)
    job = town.submit()
    until(lambda: town.told(job, ev.WentUnknown))
    assert len(town.azure.alive()) == made
    town.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    row: dict[str, Any] = town.reaches(job, "cancelled")
    until(lambda: not town.azure.alive())
    assert len(row["attempts"]) == 1 and len(town.azure.journal("created")) == made


def test_a_cloud_takes_what_it_has_free_of_a_divisible_job_and_the_next_takes_the_rest(town: Town) -> None:
    job = town.submit(divisible=True, workers={"count": 20, "gpus": 1, "accelerator": ["H100"]})
    mine = town.reaches(job, "launching")
    rest = town.reaches(mine["rest"], "launching")
    assert [(one["provider"], one["workers"], one["firstPiece"]) for one in (mine, rest)] == [
        ("azure", 16, 0), ("oracle", 4, 16),
    ]  # fmt: skip
    assert rest["restOf"] == f"{job}-o1" and rest["document"] == mine["document"]
    until(lambda: town.azure.journal("created") and town.oracle.journal("created"))
    free = [cloud.here.cloud.stock.free("eu-1", "H100") for cloud in (town.azure, town.oracle)]
    assert free == [0, 12]
