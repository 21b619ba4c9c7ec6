"""May somebody be let in at a running job, and what is written down of it? Called by the desk.

First the ledger, then the way in: whoever was inside is known, also when the server dies in between. What is done
inside is the front's and the provider's business; nothing here waits for it.
"""

from __future__ import annotations

from orchestrator.core.facts import VisitWish
from orchestrator.core.lifecycle import active, may_enter
from orchestrator.engine.batching import Carried
from orchestrator.engine.engine import Engine
from orchestrator.model.event import Accessed
from orchestrator.model.ids import launch_key
from orchestrator.model.job import JobRow
from orchestrator.ports.access import Access
from orchestrator.ports.desk import Entered, NoShell, NothingRuns, Visit


async def enter(engine: Engine, row: JobRow, visit: Visit, carried: Carried | None = None) -> Entered:
    """The way in at the job's attempt, once it is durable who goes. Raises `NothingRuns`, `NoShell`, `Busy`."""
    attempt = active(row)
    if attempt is None or not may_enter(row, attempt.epoch):
        raise NothingRuns(f"job {row.job} is {row.state.value}: none of its attempts runs now")
    provider: object = engine.wiring.providers.get(attempt.provider)
    if not isinstance(provider, Access):
        raise NoShell(f"the cloud gives no shell: {attempt.provider} has no way into what runs there")
    event = Accessed(epoch=attempt.epoch, what=visit.what, by=visit.by, rank=visit.rank, name=visit.name)
    await engine.wish(VisitWish(row.job, event), carried)
    now = engine.core.row(row.job)
    if now is None or not may_enter(now, attempt.epoch):
        raise NothingRuns(f"job {row.job} has just left {attempt.provider}; see `orchestrator explain {row.job}`")
    return Entered(provider, launch_key(row.job, attempt.epoch))
