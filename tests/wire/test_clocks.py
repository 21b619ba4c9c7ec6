"""Our own wall clock is wrong by an hour: it is set while the server runs, and the next server begins with it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.cli.stage import PYTHON, Part
from orchestrator.model import event as ev
from tests.elsewhere import Elsewhere
from tests.real import real
from tests.wire.conftest import Place, Town, assert_whole, clouds, reached, until, write_documents

HOUR_S = 3600
WINDOW_S = 4
LATE = {"low": 2500, "high": 2500}


@contextmanager
def a_wrong_server(
    home: Path, places: Mapping[str, Place], off_s: int
) -> Iterator[tuple[subprocess.Popen[bytes], Town]]:
    """A process of its own whose clock is off until it is told."""
    documents = {"ORCHESTRATOR_PROVIDERS": home / "providers.yaml", "ORCHESTRATOR_CONTRACTS": home / "contracts.yaml"}
    own = {"ORCHESTRATOR_HOME": home, "ORCHESTRATOR_PORT": 0, "CLOCK_OFF_S": off_s}
    environment = {name: str(value) for name, value in {**documents, **own}.items()}
    part = Part("server", [*PYTHON, "tests.wire.wrong_clock", "serve"], environment, home / "server.log")
    part.start()
    try:
        part.wait_for((home / "server.json").exists)
        assert part.process is not None
        with reached(home, places) as town:
            yield part.process, town
    finally:
        part.stop()


@pytest.mark.fault("clocks wrong or jumping: ours")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("off_s", "policy", "chosen"),
    [(-HOUR_S, {"delay": LATE}, "azure"), (HOUR_S, {"bid": "silent"}, "oracle")],
    ids=["set ahead", "set back"],
)
def test_a_window_is_as_long_as_it_is_whatever_our_clock_says(
    tmp_path: Path, off_s: int, policy: Mapping[str, object], chosen: str
) -> None:
    """Set ahead it ends no earlier: a yes in it counts. Set back it ends no later: a silence is over in time."""
    with Elsewhere(lambda: clouds(tmp_path)) as places:
        store = {"url": (tmp_path / "store").as_uri(), "jurisdiction": "EU"}
        providers, contracts = write_documents(tmp_path, places, store, WINDOW_S)
        places["azure"].answers(policy)
        with a_wrong_server(tmp_path, places, off_s) as (process, town):
            job = town.submit()
            until(lambda: town.told(job, ev.OfferDelivered))
            process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            assert not town.told(job, ev.OfferLapsed)
            began, later = (datetime.fromisoformat(town.job(one)["submittedAt"]) for one in (job, town.submit()))
            assert timedelta() < later - began < timedelta(seconds=30), "within a process the clock is steady"
        with real(tmp_path, providers, contracts=contracts), reached(tmp_path, places) as town:
            town.reaches(job, "launching", 40)
            assert [e.provider for e in town.events(job, ev.Intended)] == [chosen]
            assert town.told(job, ev.OfferLapsed) == ["OfferLapsed"] * (chosen == "oracle")
    assert_whole(tmp_path)
