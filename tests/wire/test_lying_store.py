"""A checkpoint store, reached over a real network, that lies about what it stored, or gives back something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.mockcloud.config import Deed, Mishap
from orchestrator.runlog.log import JobLog, read
from orchestrator.runlog.store import open_store
from tests.buckets import a_bucket
from tests.elsewhere import Elsewhere
from tests.wire.conftest import Town, a_town, a_way, until

pytestmark = pytest.mark.timeout(120)
LIES = (
    Mishap(method="PUT", path="/log/", do=Deed.LOSE_REPLY),
    Mishap(method="PUT", path="/log/", do=Deed.LOSE_REQUEST),
    Mishap(method="PUT", path="/log/", do=Deed.FAIL, status=412),
)
"""Stored, and nobody learns it; not stored, and nobody learns it; "it exists", of a slot that is empty."""
SAVES = """
import pathlib, sys, tempfile, time
from orchestrator import training
here, found = pathlib.Path(sys.argv[1]), training.resume()
first = 1 if found is None else int((found / "weights").read_text()) + 1
with (here / "began").open("a") as file:
    print(first, file=file)
for step in range(first, 4):
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "weights").write_text(str(step))
    training.report(step=step, checkpoint=folder)
while not (here / "go").exists():
    time.sleep(0.05)
"""


def saved(town: Town) -> str:
    """A job that has saved its steps 1 to 3 at azure, and waits there; who is asked next is oracle."""
    job = town.submit(run={"command": ["python", "-c", SAVES, str(town.home)]})
    until(lambda: (town.job(job)["progress"] or {}).get("checkpointStep") == 3, 40)
    town.azure.answers({"bid": "decline"})
    return job


def moved(town: Town, job: str) -> list[str]:
    """Where the attempts ran, once azure's machines have died and the job has ended; which step each began with."""
    town.azure.switches.put(f"/clusters/{job.lower()}-e1/kill")
    (town.home / "go").touch()
    row = town.reaches(job, "succeeded", 40)
    assert [(one["provider"], one["how"]) for one in row["attempts"]] == [("azure", "fenced"), ("oracle", "done")]
    return (town.home / "began").read_text().split()


@pytest.mark.fault("checkpoint store lying")
@pytest.mark.s3
def test_a_store_that_lies_about_what_it_stored_leaves_one_line_of_entries(tmp_path: Path) -> None:
    """To the agents, which claim, start and save, and to the server, whose fence is put while its replies get lost."""
    with a_bucket() as bucket, Elsewhere(lambda: a_way(bucket.options["endpoint"], tmp_path / "way")) as way:
        options = {**bucket.options, **bucket.secrets, "endpoint": f"http://127.0.0.1:{way.port}"}
        store = {"url": bucket.url, "jurisdiction": "EU", "options": options}
        with a_town(tmp_path, store, machines="process") as town:
            way.mishaps = [*LIES, *LIES]
            job = saved(town)
            assert not way.mishaps
            way.mishaps = [*LIES, *LIES]
            assert moved(town, job) == ["1", "4"] and not way.mishaps
            log = JobLog(open_store(bucket), "default", job)
            entries = [type(entry).__name__ for entry in read(log).state.entries]
            assert len(log.store.list(f"default/{job}/log")) == len(entries)
    assert entries[:6] == ["Claim", "Start", *["Checkpoint"] * 3, "Fence"]
    assert sorted(entries[6:]) == ["Claim", "Clear", "Done", "Start"]


@pytest.mark.fault("checkpoint truncated or its hash wrong")
def test_what_comes_back_otherwise_than_it_was_saved_is_passed_over_for_what_was_saved_before(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with a_town(tmp_path, {"url": store.as_uri(), "jurisdiction": "EU"}, machines="process") as town:
        job = saved(town)
        for step, spoilt in ((2, "9"), (3, "")):
            [weights] = store.glob(f"**/ckpt/{step:012d}-*/files/weights")
            weights.write_text(spoilt)
        assert moved(town, job) == ["1", "2"]
