"""Any order of deeds and faults, found by Hypothesis: after every step the audit finds nothing; in the end all is over.

One world lives on virtual time, one step after another: jobs come and are cancelled, clouds refuse, fall silent, lose
calls, stand still and die, the server dies at its next point, people record, amend and own. A failing example prints
the steps that lead to it; they are code that repeats it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.cli.audit import audit
from orchestrator.model.job import TERMINAL, JobState, row_bytes
from orchestrator.model.record import Record
from orchestrator.ports.desk import Busy, Mistaken, Refused
from orchestrator.simulate.crash import Crash, Points, watched
from orchestrator.simulate.witness import witnesses
from orchestrator.simulate.world import Server, World, submission
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.ledgers import MemorySnapshot
from orchestrator.testing.scripts import Script
from tests.properties.test_random_agreements import agreed, owned, record
from tests.properties.test_random_worlds import NAMES, deed, fault, word
from tests.stories.conftest import check, fold_all
from tests.stories.words import rows_of
from tests.virtual import virtual_loop

clouds = st.sampled_from(NAMES)
seeds = st.integers(0, 9999)
"""From which a rule rolls what is too rich to be spelled out; printed with the step, so that it repeats."""
seconds = st.sampled_from([0.1, 1.0, 7.0, 31.0, 130.0])
spans = st.sampled_from([3.0, 15.0, 60.0, 400.0])


class Life(RuleBasedStateMachine):
    """Everything that may happen to one world."""

    # ---- the ground --------------------------------------------------------------------------------------------------

    @initialize(seed=seeds)
    def begin(self, seed: int) -> None:
        dice = random.Random(seed)
        self.loop = virtual_loop()
        self.jobs: list[str] = []
        self.server: Server | None = None
        self.points = Points()
        scripts = {
            name: Script(offers=[word(dice) for _ in range(9)], launches=[deed(dice) for _ in range(4)],
                         faults=[fault(dice) for _ in range(2)])  # type: ignore[misc]
            for name in NAMES
        }  # fmt: skip
        contracts = dice.choice([None, agreed(dice), agreed(dice)])
        self.world = World(scripts, contracts, Work(steps=dice.choice([10, 60]), checkpoint_every=5), seed=seed)
        watched(self.world, self.points)
        self.run(self._start())

    def run(self, work: Any) -> None:
        """So far goes the world's time; the server may die on its way."""
        try:
            self.loop.run_until_complete(work)
        except Crash:
            assert self.points.dead
        if self.points.dead and self.server is not None:
            self.loop.run_until_complete(self._stop())

    async def _start(self) -> None:
        self.points.revive()
        self._life = self.world.server()
        self.server = await self._life.__aenter__()

    async def _stop(self) -> None:
        self.server = None
        with suppress(Crash):
            await self._life.__aexit__(None, None, None)

    async def _at_the_desk(self, deed: Any) -> None:
        assert self.server is not None
        with suppress(Busy, Mistaken, Refused):
            await deed(self.server.desk)

    def leads(self) -> bool:
        return self.server is not None

    # ---- people ------------------------------------------------------------------------------------------------------

    @precondition(leads)
    @rule(job_class=st.sampled_from(["training", "research"]), own=st.booleans(), pieces=st.sampled_from([1, 1, 3]))
    def submit(self, job_class: str, own: bool, pieces: int) -> None:
        size = {"count": pieces, "gpus": 8, "accelerator": ["H100"]}
        spec = {"class": job_class, "workers": size, "divisible": pieces > 1}
        wish = submission(labels={"site": "own"} if own else {}, **spec)

        async def submitted(desk: Any) -> None:
            self.jobs.append((await desk.submit(wish))[0].job)

        self.run(self._at_the_desk(submitted))

    @precondition(lambda self: self.leads() and self.jobs)
    @rule(seed=seeds)
    def cancel(self, seed: int) -> None:
        job = self.jobs[seed % len(self.jobs)]
        self.run(self._at_the_desk(lambda desk: desk.cancel(job, "somebody")))

    @precondition(lambda self: self.leads() and self.jobs)
    @rule(seed=seeds, workers=st.integers(1, 4), least=st.sampled_from([0, 0, 1, 2]))
    def scale(self, seed: int, workers: int, least: int) -> None:
        job = self.jobs[seed % len(self.jobs)]
        self.run(self._at_the_desk(lambda desk: desk.scale(job, workers, min(least, workers), "somebody")))

    @precondition(leads)
    @rule(seed=seeds)
    def amend(self, seed: int) -> None:
        document = self.world.document(agreed(random.Random(seed)))
        self.run(self._at_the_desk(lambda desk: desk.amend(document, "ann")))

    @precondition(lambda self: self.leads() and self.jobs)
    @rule(seed=seeds)
    def put_on_record(self, seed: int) -> None:
        made: Record = record(random.Random(seed), self.jobs, self.world.clock.now_us())
        self.run(self._at_the_desk(lambda desk: desk.record(made)))

    @precondition(leads)
    @rule(seed=seeds)
    def own(self, seed: int) -> None:
        blocks = owned(random.Random(seed), self.world.clock.now_us())
        self.run(self._at_the_desk(lambda desk: desk.own(blocks, "ann")))

    # ---- clouds, networks, machines ----------------------------------------------------------------------------------

    @rule(name=clouds, for_s=spans, what=st.sampled_from([do.Unreachable, do.DataCut, do.Freezes]))
    def lose(self, name: str, for_s: float, what: Any) -> None:
        self.run(self._scene(name, what(when=do.At(0), for_s=for_s)))

    @rule(name=clouds)
    def kill(self, name: str) -> None:
        self.run(self._scene(name, do.Kills(when=do.At(0))))

    async def _scene(self, name: str, scene: Any) -> None:
        self.world.providers[name].play(scene)

    # ---- the server, and time ----------------------------------------------------------------------------------------

    @precondition(leads)
    @rule(after=st.integers(1, 12))
    def crash(self, after: int) -> None:
        """It dies at the point that comes so many points from now."""
        self.points.die_in(after)

    @precondition(lambda self: not self.leads())
    @rule()
    def restart(self) -> None:
        self.run(self._start())

    @rule(passed=seconds)
    def wait(self, passed: float) -> None:
        self.run(asyncio.sleep(passed))

    # ---- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_wrong(self) -> None:
        if not hasattr(self, "world"):
            return
        disk = self.world.disk
        report = audit(MemorySnapshot(disk, self._ledger_id()), witnesses(self.world))
        assert not report.findings, report.findings[:5]
        rows, _ = fold_all(self.world)
        assert {job: row_bytes(row) for job, row in rows.items()} == {j: r.body for j, r in disk.rows.items() if j}
        failed = self.server.engine.failed if self.server is not None else None
        assert failed is None or self.points.dead, failed

    def _ledger_id(self) -> str:
        return random.Random(self.world.disk.seed).randbytes(16).hex()

    def teardown(self) -> None:
        """Once the faults are over every job ends: done, or because somebody cancels what no contract lets run."""
        if not hasattr(self, "world"):
            return
        try:
            self.points.die_in(0)
            self.run(asyncio.sleep(500))
            if self.server is None:
                self.run(self._start())
            self.run(self._to_the_end())
            self.run(self._stop())
            check(self.world)
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

    async def _to_the_end(self) -> None:
        assert self.server is not None
        desk, live = self.server.desk, [JobState.QUEUED, JobState.OFFERING, JobState.HELD]
        await asyncio.sleep(3600)
        for _ in range(100):
            for row in await rows_of(self.server, self.jobs):
                if row.state in live:
                    await desk.cancel(row.job, "somebody")
            rows = await rows_of(self.server, self.jobs)
            if all(row.state in TERMINAL for row in rows):
                return
            await asyncio.sleep(60)
        raise AssertionError([(row.job, row.state, row.reason, row.attempts[-1:]) for row in rows])


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, derandomize=True, database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
