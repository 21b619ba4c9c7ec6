"""prove-resume: a cloud dies mid-training, and nothing but the steps behind the last checkpoint is done twice."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from orchestrator.cli.stage import Stage
from tests.proofs.life import begin, running_at

STEPS, EVERY = 240, 20
COMMAND = ("--weights", "weights.npz")


def drawn(seed: int) -> int:
    """A step between 25 % and 75 % that has some steps behind the last checkpoint."""
    steps = [step for step in range(STEPS // 4, STEPS * 3 // 4) if EVERY // 4 <= step % EVERY <= EVERY * 3 // 4]
    return random.Random(seed).choice(steps)


def weights(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "weights.npz") as found:
        return dict(found)


def test_a_resumed_run_is_the_uninterrupted_one(stage: Stage, seed: int) -> None:
    whole = begin(stage, *COMMAND, name="whole")
    whole.ended()
    cut = begin(stage, *COMMAND, name="cut")
    cut.until(running_at("coreweave"), 180)
    struck = cut.wait_for_step(drawn(seed))
    stage.switches("coreweave").put("/outage", {"kill": True})
    stage.parts["coreweave"].kill()
    last = cut.step()
    cut.ended()
    saved = [entry.step for entry in cut.log().checkpoints if entry.epoch == 1]
    first = cut.steps(2)[0]["step"]
    print(f"struck at step {struck}, last begun {last}, last saved {saved[-1]}, first of the next attempt {first}")
    assert saved and last > saved[-1], "there must be steps that are in no checkpoint"
    assert first == saved[-1] + 1
    assert cut.disjoint(1, 2)
    expected, found = weights(whole.witness), weights(cut.witness)
    worst = max(float(np.abs(expected[name] - found[name]).max()) for name in expected)
    print(f"largest difference of any weight: {worst:.1e}")
    assert worst <= 1e-6
