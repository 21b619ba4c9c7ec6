"""The page shows what the ledger holds, and Prometheus' own linter has nothing to say about it."""

import subprocess

import pytest

from orchestrator.adapters.telemetry.prometheus import PrometheusTelemetry, parse
from orchestrator.core.counters import bucket, count, key
from orchestrator.core.lifecycle import fold_job
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow
from orchestrator.ports.telemetry import Live
from tests.core.test_explain import STORY

SECOND = 1_000_000


def counted(story: tuple[ev.AnyEvent, ...] = STORY) -> dict[str, int]:
    """Counters of a story told at one event a second."""
    row: JobRow | None = None
    totals: dict[str, int] = {}
    for second, event in enumerate(_delivered(story)):
        before, row = row, fold_job(row, "j", "default", second * SECOND, event)
        for name, added in count(event, second * SECOND, before, row).items():
            totals[name] = totals.get(name, 0) + added
    return totals


def _delivered(story: tuple[ev.AnyEvent, ...]) -> list[ev.AnyEvent]:
    """The same story with the receipts that sentences leave out."""
    told: list[ev.AnyEvent] = []
    for event in story:
        told.append(event)
        if isinstance(event, ev.OfferOpened):
            told.append(ev.OfferDelivered(event.n, "ref", "sent"))
    return told


def page(counters: dict[str, int], live: Live | None = None) -> str:
    telemetry = PrometheusTelemetry()
    telemetry.turn(0.002)
    telemetry.commit(0.001, 7)
    return telemetry.page(counters, live or Live()).body.decode()


def test_offers_are_counted_by_provider_answer_and_reason() -> None:
    """No number says which cluster refuses, and why; here answers are counted by both (kueue#11132)."""
    totals = counted()
    assert totals[key("orchestrator_offers_total", provider="azure", answer="declined", reason="capacity")] == 2
    assert totals[key("orchestrator_offers_total", provider="oracle", answer="accepted", reason="")] == 1


def test_a_failover_names_where_from_and_where_to() -> None:
    assert counted()['orchestrator_failovers_total{origin="coreweave",target="oracle"}'] == 1


def test_time_in_the_phases_adds_up_to_the_job_s_life() -> None:
    totals = counted()
    phases = sum(value for name, value in totals.items() if name.startswith("orchestrator_phase"))
    assert phases == (len(_delivered(STORY)) - 1) * SECOND


def test_what_follows_a_final_state_takes_no_time() -> None:
    late = (*STORY, ev.Charged(2, 12_000, 90))
    assert counted(late) == counted()


def test_the_sweep_s_release_is_counted_in_gpus() -> None:
    added = count(ev.Swept("coreweave", "j-e1", 8), 0, None, None)
    assert added['orchestrator_swept_gpus_total{provider="coreweave"}'] == 8


@pytest.mark.parametrize(
    ("took", "bound"), [(0, "0.01"), (10_000, "0.01"), (1_000_000, "1.0"), (10_001, "0.05"), (10**12, "+Inf")]
)
def test_a_bucket_holds_its_bound(took: int, bound: str) -> None:
    assert bucket(took) == bound


def test_keys_are_canonical_and_read_back() -> None:
    odd = key("name", b='say "hi"\n', a="x\\")
    assert parse(odd) == ("name", (("a", "x\\"), ("b", 'say "hi"\n')))


def test_the_page_shows_seconds_and_cumulative_buckets() -> None:
    shown = page(counted()).splitlines()
    assert 'orchestrator_offer_answer_seconds_bucket{le="1.0",provider="azure"} 0.0' in shown
    assert 'orchestrator_offer_answer_seconds_bucket{le="5.0",provider="azure"} 2.0' in shown
    assert 'orchestrator_offer_answer_seconds_count{provider="azure"} 2.0' in shown
    assert 'orchestrator_offer_answer_seconds_sum{provider="azure"} 4.0' in shown
    assert 'orchestrator_attempts_total{provider="oracle"} 1.0' in shown


def test_live_values_are_gauges() -> None:
    shown = page({}, Live(queued={"training": 3}, providers_up={"azure": False})).splitlines()
    assert 'orchestrator_queued_jobs{class="training"} 3.0' in shown
    assert 'orchestrator_provider_up{provider="azure"} 0.0' in shown


@pytest.mark.promtool
def test_promtool_has_nothing_to_say() -> None:
    text = page(counted(), Live(queued={"training": 1}, providers_up={"azure": True}, open_offers={"azure": 0}))
    said = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, timeout=20)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
