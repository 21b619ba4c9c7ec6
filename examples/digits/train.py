"""Train a classifier of handwritten digits, data-parallel on Ray actors, and resume from the last checkpoint.

    python train.py                      # on a laptop, as it is
    orchestrator run -- python train.py  # the same file, placed, watched and resumed by Orchestrator

The 1,797 images ship inside scikit-learn. Each step every worker computes the gradient of its own batch of its own
share of the images; the driver averages the gradients and moves the weights. Everything is drawn from the seed, the
step and the rank, so a run that was cut off and resumed ends with the same weights as one that was not. It has an actor
for each worker of the job, also after `orchestrator scale`: what is saved does not depend on how many there are.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import ray

from orchestrator import training

HELD_OUT = 360
HIDDEN = 48
Arrays = dict[str, np.ndarray]


def images(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All images, pixels centred, and their digits, shuffled; the last HELD_OUT are never trained on."""
    (scikit_learn,) = find_spec("sklearn").submodule_search_locations  # importing it would take each worker seconds
    rows = np.loadtxt(Path(scikit_learn) / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels, digits = rows[:, :-1], rows[:, -1].astype(int)
    order = np.random.default_rng(seed).permutation(len(digits))
    return pixels[order] / 8.0 - 0.6, digits[order]


def fresh(seed: int) -> Arrays:
    """Weights of one hidden layer before the first step."""
    draw = np.random.default_rng([seed, 1])
    return {
        "w1": draw.normal(0, np.sqrt(2 / 64), (64, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": draw.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 10)),
        "b2": np.zeros(10),
    }


def forward(weights: Arrays, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hidden activations, and the probability of each digit."""
    hidden = np.maximum(pixels @ weights["w1"] + weights["b1"], 0)
    scores = hidden @ weights["w2"] + weights["b2"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, odds / odds.sum(axis=1, keepdims=True)


def backward(weights: Arrays, pixels: np.ndarray, digits: np.ndarray) -> tuple[Arrays, float]:
    """Gradient and mean loss of one batch."""
    hidden, chances = forward(weights, pixels)
    rows = np.arange(len(digits))
    loss = float(-np.log(chances[rows, digits] + 1e-12).mean())
    error = chances.copy()
    error[rows, digits] -= 1
    error /= len(digits)
    back = (error @ weights["w2"].T) * (hidden > 0)
    return {"w1": pixels.T @ back, "b1": back.sum(0), "w2": hidden.T @ error, "b2": error.sum(0)}, loss


@ray.remote
class Worker:
    """One rank: its share of the images, and gradients on demand."""

    def __init__(self, rank: int, ranks: int, seed: int, batch: int) -> None:
        pixels, digits = images(seed)
        self.pixels, self.digits = pixels[:-HELD_OUT][rank::ranks], digits[:-HELD_OUT][rank::ranks]
        self.rank, self.seed, self.batch = rank, seed, batch
        self.witness = Witness(rank)

    def gradient(self, weights: Arrays, step: int) -> tuple[Arrays, float]:
        """Gradient and loss of this rank's batch of this step."""
        self.witness.saw(step)
        picked = np.random.default_rng([self.seed, step, self.rank]).integers(len(self.digits), size=self.batch)
        return backward(weights, self.pixels[picked], self.digits[picked])


class Witness:
    """What this process itself can swear to: that it ran this step at this moment. Off unless WITNESS_DIR is set."""

    def __init__(self, rank: int) -> None:
        self.rank, self.file = rank, None
        folder = os.environ.get("WITNESS_DIR")
        self.job = os.environ.get("ORCHESTRATOR_JOB_ID", "none")
        self.epoch = int(os.environ.get("ORCHESTRATOR_EPOCH", "0"))
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            name = f"{self.job}-e{self.epoch}-r{rank}-{os.getpid()}.jsonl"
            self.file = open(Path(folder) / name, "a", buffering=1)  # noqa: SIM115 open as long as the process

    def saw(self, step: int) -> None:
        """One line per step: boot time in nanoseconds (it counts through a suspend), pid, epoch, rank, step."""
        if self.file:
            boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            line = {"job": self.job, "epoch": self.epoch, "rank": self.rank, "pid": os.getpid(), "step": step}
            self.file.write(json.dumps({"boot_ns": boot, **line}) + "\n")


class Momentum:
    """The optimizer: weights, their velocity, and the step they stand after."""

    def __init__(self, seed: int) -> None:
        self.weights, self.step = fresh(seed), 0
        self.velocity = {name: np.zeros_like(array) for name, array in self.weights.items()}

    def move(self, gradients: list[Arrays], rate: float) -> None:
        """One step along the average of all ranks' gradients."""
        for name, weight in self.weights.items():
            average = sum(gradient[name] for gradient in gradients) / len(gradients)
            self.velocity[name] = 0.9 * self.velocity[name] - rate * average
            self.weights[name] = weight + self.velocity[name]
        self.step += 1

    def save(self, folder: Path) -> None:
        """Everything that a resumed run needs."""
        velocity = {f"v_{name}": array for name, array in self.velocity.items()}
        np.savez(folder / "state.npz", step=self.step, **self.weights, **velocity)

    def load(self, folder: Path) -> None:
        """Stand where the checkpoint stood."""
        with np.load(folder / "state.npz") as state:
            self.step = int(state["step"])
            self.weights = {name: state[name] for name in self.weights}
            self.velocity = {name: state[f"v_{name}"] for name in self.velocity}


def accuracy(weights: Arrays, seed: int) -> float:
    """Share of the held-out images that are read correctly."""
    pixels, digits = images(seed)
    return float((forward(weights, pixels[-HELD_OUT:])[1].argmax(axis=1) == digits[-HELD_OUT:]).mean())


def train(args: argparse.Namespace) -> Momentum:
    """All steps from the last checkpoint (or the beginning) to the end."""
    state = Momentum(args.seed)
    found = training.resume()
    if found:
        state.load(Path(found))
        print(f"resumed after step {state.step}", flush=True)
    gpus = int(ray.cluster_resources().get("GPU", 0)) // args.workers
    start = Worker.options(num_cpus=1, num_gpus=gpus).remote
    workers = [start(rank, args.workers, args.seed, args.batch) for rank in range(args.workers)]
    while state.step < args.steps and training.stopping() is None:
        parts = ray.get([worker.gradient.remote(state.weights, state.step + 1) for worker in workers])
        state.move([gradient for gradient, _ in parts], args.rate)
        tell(state, sum(loss for _, loss in parts) / len(parts), args)
        time.sleep(args.pause)
    if state.step < args.steps and state.step % args.checkpoint_every:
        save(state)  # asked to stop: what was done since the last checkpoint is not to be done again
    return state


def save(state: Momentum, loss: float | None = None) -> None:
    """Report the step with a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        state.save(Path(folder))
        training.report(step=state.step, loss=loss, checkpoint=folder)


def tell(state: Momentum, loss: float, args: argparse.Namespace) -> None:
    """Report the step; every few steps with a checkpoint."""
    if state.step % args.checkpoint_every and state.step != args.steps:
        training.report(step=state.step, loss=loss)
        return
    save(state, loss)
    print(f"step {state.step}  loss {loss:.4f}  checkpoint", flush=True)


def main() -> int:
    """Train, judge on the held-out images, and say so; 1 if the classifier is worse than it must be."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--steps", type=int, default=240)
    told = int(os.environ.get("ORCHESTRATOR_WORKERS", "2"))
    parse.add_argument("--workers", type=int, default=told, help="as many as the job has; outside a job %(default)s")
    parse.add_argument("--batch", type=int, default=64, help="images per worker and step")
    parse.add_argument("--rate", type=float, default=0.1)
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--checkpoint-every", type=int, default=20, metavar="STEPS")
    parse.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="sleep after each step")
    parse.add_argument("--weights", type=Path, help="write the final weights here (.npz; below WITNESS_DIR if set)")
    args = parse.parse_args()
    ray.init(logging_level="warning")
    state = train(args)
    if state.step < args.steps:
        return 0  # asked to stop; its checkpoint stands
    share = accuracy(state.weights, args.seed)
    print(f"accuracy {share:.1%} on {HELD_OUT} held-out images after {state.step} steps", flush=True)
    if args.weights:
        np.savez(Path(os.environ.get("WITNESS_DIR", ".")) / args.weights, **state.weights)
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
