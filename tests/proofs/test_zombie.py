"""prove-zombie: a cloud that was cut off and comes back has nothing to say any more, and is swept.

Its API and its jobs' way to the store go away for more than twice `limit`, at the very moment when one checkpoint entry
is under way; the job fails over; then the cloud is joined again and the entry arrives.
"""

from __future__ import annotations

import time

import pytest

from orchestrator.cli.stage import Stage
from tests.proofs.conftest import Bucket
from tests.proofs.life import LIMIT_S, Life, begin, journal, log_entry, running_at

SLOW = ("--pause", "0.25")
AGENT = r"orchestrator\.agent( |$)"
HOLD_AND_CUT = {
    "on": "store", "method": "PUT", "path": r"/log/\d{8}", "body": "checkpoint", "do": "hold", "then": "outage",
}  # fmt: skip


class Cut:
    """One cloud, cut off while an entry of its job is under way."""

    def __init__(self, life: Life, cloud: str, epoch: int, *, frozen: bool = False) -> None:
        self.life, self.cloud, self.epoch, self.frozen = life, cloud, epoch, frozen
        self.switches = life.stage.switches(cloud)
        self.key = f"{life.job.id.lower()}-e{epoch}"
        self.switches.put("/faults", {"mishaps": [HOLD_AND_CUT]}, method="PUT")
        deadline = time.monotonic() + 60
        while not self.switches.get("/faults")["held"]:
            assert time.monotonic() < deadline, "no checkpoint entry came by"
            time.sleep(0.1)
        self.at = time.monotonic()
        if frozen:
            assert self.switches.put(f"/clusters/{self.key}/freeze", {"match": AGENT})["pids"]

    def join(self) -> None:
        """Back again, after more than twice the limit."""
        time.sleep(max(0.0, 2 * LIMIT_S + 1 - (time.monotonic() - self.at)))
        self.joined_us = time.time_ns() // 1000
        self.switches.put("/join")
        if self.frozen:
            self.switches.put(f"/clusters/{self.key}/thaw", {"match": AGENT})

    def is_harmless(self) -> None:
        """The store refused the held entry, nothing else was put, and the cluster is gone."""
        folder = self.life.stage.folder / self.cloud
        (cluster,) = [line["cluster"] for line in journal(folder / "journal.jsonl") if line["kind"] == "created"]
        puts = [line for line in journal(folder / "forwarder.jsonl") if line["method"] == "PUT"]
        after = [line for line in puts if line["at"] >= self.joined_us]
        assert [(line["deed"], log_entry(line), line["cluster"]) for line in after] == [("delivered", True, cluster)]
        assert after[0]["status"] in (409, 412), "the store must refuse an entry whose slot was taken by the fence"
        deadline = time.monotonic() + 120
        while [one for one in self.switches.get("/clusters") if one["state"] != "terminated"]:
            assert time.monotonic() < deadline, "the zombie's cluster is still alive"
            time.sleep(0.5)
        print(f"{self.cloud}: the held entry was refused ({after[0]['status']}), no other put, cluster gone")


def set_up(stage: Stage, s3: Bucket) -> Life:
    stage.start_clouds()
    stage.start_server()
    life = begin(stage, *SLOW, store=s3.ref)
    life.until(running_at("coreweave"), 240)
    life.wait_for_step(45)
    return life


@pytest.mark.fault("provider returning with a zombie")
@pytest.mark.parametrize("frozen", [False, True], ids=["cut off", "cut off, agent frozen"])
def test_a_cloud_that_returns_is_harmless(far_stage: Stage, s3: Bucket, frozen: bool) -> None:
    life = set_up(far_stage, s3)
    cut = Cut(life, "coreweave", 1, frozen=frozen)
    life.until(running_at("oracle"), 240)
    cut.join()
    life.ended()
    cut.is_harmless()
    assert life.disjoint(1, 2)


@pytest.mark.fault("two take-overs in a row")
def test_two_take_overs_in_a_row(far_stage: Stage, s3: Bucket) -> None:
    declines = {"bid": "decline", "situation": "capacity", "times": 2}
    far_stage.clouds = {**far_stage.clouds, "azure": {**far_stage.clouds["azure"], "policies": [declines, {}]}}
    life = set_up(far_stage, s3)
    first = Cut(life, "coreweave", 1)
    life.until(running_at("oracle"), 240)
    life.wait_for_step(life.step(2) + 5, epoch=2)
    second = Cut(life, "oracle", 2)
    life.until(running_at("azure"), 240)
    first.join()
    second.join()
    life.ended()
    for cut in (first, second):
        cut.is_harmless()
    assert life.disjoint(1, 2) and life.disjoint(2, 3)
