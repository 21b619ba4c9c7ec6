"""May somebody be let in at a running job, and what is written down of it? Called by the desks.

First the ledger, then the way in: whoever was inside is known, also when the server dies in between. What is done
inside is the front's and the provider's business; nothing here waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.facts import VisitWish
from orchestrator.core.moves import may_enter
from orchestrator.core.standing import active
from orchestrator.model.event import Accessed
from orchestrator.model.ids import parse_launch_key
from orchestrator.model.job import JobRow
from orchestrator.ports.access import Access
from orchestrator.ports.desk import Entered, NoShell, NothingRuns, Visit
from orchestrator.ports.provider import Provider


def asked(providers: Mapping[str, Provider], row: JobRow, visit: Visit) -> VisitWish:
    """What is to be written down of a visit at the attempt that runs. Raises `NothingRuns`, `NoShell`."""
    attempt = active(row)
    if attempt is None or not may_enter(row, attempt.epoch):
        raise NothingRuns(f"job {row.job} is {row.state.value}: none of its attempts runs now")
    _door(providers, attempt.provider)
    event = Accessed(epoch=attempt.epoch, what=visit.what, by=visit.by, rank=visit.rank, name=visit.name)
    return VisitWish(row.job, event)


def entered(providers: Mapping[str, Provider], row: JobRow, key: str) -> Entered:
    """The way in at this launch, once it is durable who goes; `row` as of then. Raises `NothingRuns`, `NoShell`."""
    epoch, attempt = parse_launch_key(key)[1], active(row)
    if attempt is None or not may_enter(row, epoch):
        raise NothingRuns(f"job {row.job} has just left where it ran; see `orchestrator explain {row.job}`")
    return Entered(_door(providers, attempt.provider), key)


def _door(providers: Mapping[str, Provider], name: str) -> Access:
    provider: object = providers.get(name)
    if not isinstance(provider, Access):
        raise NoShell(f"the cloud gives no shell: {name} has no way into what runs there")
    return provider
