"""The example is worth running: it learns, and a resumed run is the uninterrupted one."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

TRAIN = Path(__file__).parents[2] / "examples" / "digits" / "train.py"


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_train", TRAIN)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step(digits: ModuleType, state: object, steps: int) -> None:
    """Train on two ranks in this process."""
    worker = digits.Worker.__ray_metadata__.modified_class
    ranks = [worker(rank, 2, 1, 64) for rank in range(2)]
    for _ in range(steps):
        state.move([rank.gradient(state.weights, state.step + 1)[0] for rank in ranks], 0.1)  # type: ignore[attr-defined]


def test_it_reads_held_out_digits(digits: ModuleType) -> None:
    state = digits.Momentum(1)
    step(digits, state, 240)
    assert digits.accuracy(state.weights, 1) >= 0.95


def test_a_resumed_run_ends_with_the_same_weights(digits: ModuleType, tmp_path: Path) -> None:
    whole, before, after = digits.Momentum(1), digits.Momentum(1), digits.Momentum(1)
    step(digits, whole, 40)
    step(digits, before, 25)
    before.save(tmp_path)
    after.load(tmp_path)
    step(digits, after, 15)
    assert all(np.array_equal(after.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_witness_swears_to_each_step(digits: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WITNESS_DIR", str(tmp_path))
    monkeypatch.setenv("ORCHESTRATOR_EPOCH", "2")
    digits.Witness(1).saw(7)
    (file,) = tmp_path.iterdir()
    assert '"epoch": 2, "rank": 1' in file.read_text() and '"step": 7}' in file.read_text()


def test_it_runs_outside_a_job(digits: ModuleType) -> None:
    digits.training.report(step=1, loss=0.5)
    assert digits.training.resume() is None
    assert digits.training.stopping() is None
