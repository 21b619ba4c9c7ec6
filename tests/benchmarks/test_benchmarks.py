"""The benchmarks run and say what they saw; how fast it was is not this test's business."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report, world
from benchmarks.clustered import Setting, cluster, halves
from benchmarks.drain import drain
from benchmarks.latency import measure, spread
from benchmarks.lives import live
from benchmarks.machine import Unfit, file_system
from benchmarks.plane import assets
from tests.kubernetes.cluster import programs as cluster_programs


async def test_a_drain_places_everything_in_front_of_a_backlog(tmp_path: Path) -> None:
    figures = await drain(tmp_path, jobs=300, behind=40, audited=True)
    assert (figures.shapes, figures.synchronous, figures.violations) == (240, "full", 0)
    assert 0.1 < figures.declined < 0.3 and 0.01 < figures.silent < 0.1
    assert figures.per_second > 0 and figures.events_per_placement > 4


async def test_a_happy_life_has_eight_events(tmp_path: Path) -> None:
    lives = await live(tmp_path, jobs=60)
    assert lives.events == 8


async def test_offers_and_launches_arrive_from_outside(tmp_path: Path) -> None:
    seen = await measure(tmp_path, rate=20, seconds=1, warm_up=1)
    assert (seen.submitted, seen.refused, seen.never_launched) == (20, 0, 0)
    assert 0 < seen.to_offer.p50 <= seen.to_offer.p99 <= seen.to_offer.most


async def test_a_missed_target_is_named(tmp_path: Path) -> None:
    figures, lives = await drain(tmp_path / "a", jobs=240, behind=40), await live(tmp_path / "b", jobs=10)
    text, goals = report.drained([figures], [figures], lives)
    slow = report.Goal("a rate", 1.0, 2.0, least=True)
    assert report.missed([*goals, slow])[-1] == "a rate"
    assert "synchronous full" in text and file_system(tmp_path) in text


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd and kube-apiserver, also where the other tests have a cluster of their own."""
    folder = cluster_programs()
    if folder is None:
        pytest.skip("not run: kubernetes: set KUBEBUILDER_ASSETS (or KUBERNETES_TEST_ASSETS, beside KUBECONFIG)")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))


@pytest.mark.kubernetes
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("programs")
async def test_ray_jobs_live_and_end_behind_a_real_api_server(tmp_path: Path) -> None:
    """Clients that hold back take minutes for 1,000 jobs; here their rate is measured (kueue#8564, kueue#14973)."""
    figures = await cluster(tmp_path, Setting(jobs=20, nodes=4, marks=("Running", "Complete")))
    assert (figures.jobs, figures.violations, figures.declined) == (20, 0, 0)
    assert figures.requests < 12 and set(figures.cpu_ms) == {"us", "etcd", "kube-apiserver", "operator"}
    text, goals = report.clustered([figures])
    assert "no pods" in text and "our requests per job" in {goal.name for goal in goals}


def test_without_its_programs_it_says_what_to_get(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(Unfit, match=r"lacks etcd, kube-apiserver, kubectl.*setup-envtest use -p path"):
        assets()


def test_a_rate_that_halves_is_seen() -> None:
    assert halves([0, 1, 2, 3, 4]) == 1.0
    assert halves([0, 1, 2, 4, 6]) == 0.5


def test_every_shape_is_its_own() -> None:
    assert len(set(world.placeable())) == 240


def test_percentiles_are_of_what_was_seen() -> None:
    assert spread([1_000_000, 2_000_000, 3_000_000]).p50 == 2.0
