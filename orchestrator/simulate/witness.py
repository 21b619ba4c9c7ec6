"""What was written down where things ran? A simulated world's own witnesses, as the audit reads them.

Called by stories, mutants and the simulator, after a story: steps as user code swears to them, what each provider's
journal says, and the run logs as they lie at the store.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from orchestrator.core.audit.world import Journalled, Witnessed
from orchestrator.core.audit.world import World as Witnesses
from orchestrator.model.wire import Entry, decode
from orchestrator.simulate.world import World


def witnesses(world: World) -> Witnesses:
    """All that the world knows of what ran in it, until nobody led any more."""
    until = world.clock.now_us() if world.left_at is None else world.left_at
    lines = [line for provider in world.providers.values() for line in provider.journal if line["at"] <= until]
    journals = sorted(msgspec.convert(lines, list[Journalled]), key=lambda line: line.at)
    return Witnesses(_steps(world), [*journals, Journalled(until, "read")], _logs(world))


def _steps(world: World) -> list[Witnessed]:
    """A machine stands for the process on it: each has a number of its own."""
    numbers: dict[str, int] = defaultdict(lambda: len(numbers) + 1)
    return [
        Witnessed(w.job, w.epoch, 0, numbers[w.machine], w.step, round(w.at_s * 1e9)) for w in world.site.witness
    ]  # fmt: skip


def _logs(world: World) -> dict[str, list[Entry]]:
    logs: dict[str, list[Entry]] = defaultdict(list)
    store = world.site.store
    for key in store.list("default"):
        _, job, folder, _ = [*key.split("/"), "", "", ""][:4]
        if folder == "log":
            logs[job].append(decode(store.get(key) or b""))
    return logs
