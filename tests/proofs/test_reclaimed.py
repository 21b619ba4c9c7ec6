"""Spot machines are taken back: real Ray workers save within the notice, and go on elsewhere behind that very step."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.stage import Stage
from tests.proofs.life import begin, journal, running_at

NOTICE_MS = 20_000
SPOT = {"gpus": {"us-east": {"H100": 8}}, "percent": 40, "notice": NOTICE_MS}
EVERY = 200
"""Steps between two checkpoints: the notice comes before the first."""


@pytest.fixture
def spot_stage(folder: Path) -> Stage:
    made = Stage(folder)
    made.clouds = {**made.clouds, "coreweave": {**made.clouds["coreweave"], "spot": SPOT}}
    return made


@pytest.mark.fault("spot machines taken back")
def test_a_notice_costs_no_step(spot_stage: Stage) -> None:
    with spot_stage as stage:
        stage.start_clouds()
        stage.start_server()
        life = begin(stage, "--pause", "0.1", "--checkpoint-every", str(EVERY), spot=True)
        life.until(running_at("coreweave"), 180)
        struck = life.wait_for_step(20)
        key = f"{life.job.id.lower()}-e1"
        assert stage.switches("coreweave").put(f"/clusters/{key}/reclaim") == {"noticed": 1}
        view = life.ended()
        [saved] = [entry.step for entry in life.log().checkpoints if entry.epoch == 1]
        first = life.steps(2)[0]["step"]
        print(f"notice of {NOTICE_MS // 1000} s at step {struck}, saved at {saved}, went on at {first}")
        assert struck <= saved < EVERY and first == saved + 1, "nothing is lost, nothing is done twice"
        assert life.step(1) == saved and life.disjoint(1, 2)
        assert [a.provider for a in view.job.attempts] == ["coreweave", "oracle"]
        assert "its machines were taken back, after a notice" in "\n".join(line.text for line in view.lines)
        happened = [line["kind"] for line in journal(stage.folder / "coreweave" / "journal.jsonl")]
        assert "reclaim_noticed" in happened and "reclaimed" not in happened, "it was gone before it was taken back"
