"""A whole world in one process: ledger, store, scripted providers with living attempts, and the real engine.

Called by stories, the crash harness and the simulator, inside an event loop on virtual time. `World` is what survives
a crash of the server; `World.server()` is one life of it. Nothing here decides: it is the product with its edges faked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.engine.desk import EngineDesk
from orchestrator.engine.engine import Engine
from orchestrator.engine.intake import agreed, intake, launch_spec
from orchestrator.engine.restored import mark
from orchestrator.engine.wiring import Pace, StoreAccess, Wiring, inline
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.documents.base import canonical_bytes, load_canonical
from orchestrator.model.documents.compile import compile_contracts, compile_providers
from orchestrator.model.documents.conflicts import contracts_from
from orchestrator.model.documents.contracts import ContractSet
from orchestrator.model.documents.job import job_bytes, job_from
from orchestrator.model.documents.providers import load_providers
from orchestrator.model.job import JobRow
from orchestrator.model.offer import Capabilities
from orchestrator.model.wire import StoreRef
from orchestrator.ports.desk import Submission
from orchestrator.ports.ledger import Committed
from orchestrator.runlog.store import Store
from orchestrator.testing.agents import Site, Work
from orchestrator.testing.clock import FakeClock
from orchestrator.testing.ledgers import MemoryDisk, MemoryLedger
from orchestrator.testing.scripted import ScriptedProvider
from orchestrator.testing.scripts import Script

POLICY = {
    "isolation": {"check": "2s", "limit": "20s", "grace": "3s"},
}
"""Short enough for stories, in the proportions of a real one."""


def provider_document(names: Sequence[str], **changes: Any) -> dict[str, Any]:
    """A provider set of these names, alike but for what `changes` says of each."""
    facts: dict[str, Any] = {
        "adapter": "scripted",
        "regions": {"eu-1": "EU"},
        "operatorJurisdiction": "US",
        "seal": 2,
        "accelerators": {"H100": 1},
    }
    return {
        "apiVersion": "orchestrator.dev/v1alpha1",
        "kind": "ProviderSet",
        "metadata": {"name": "story"},
        "spec": {
            "providers": {name: {**facts, **changes.get(name, {})} for name in names},
            "stores": {"main": {"url": "memory:", "jurisdiction": "EU"}},
            "policies": {"default": POLICY},
        },
    }


def first_right(holder: str, **terms: Any) -> dict[str, Any]:
    """A contract set in which `holder` has the first right to everything."""
    clause = {"id": "rofr", "type": "first_right", "window": "15m", "onOutage": "deemed_decline", **terms}
    return agreement(holder, clause)


def agreement(holder: str, *clauses: Mapping[str, Any], **contract: Any) -> dict[str, Any]:
    """A contract set of one contract, `agreement`, with these clauses."""
    term = {"from": "2025-01-01", "to": "2030-12-31"}
    made = {"id": "agreement", "holder": holder, "term": term, "clauses": list(clauses), **contract}
    return {
        "apiVersion": "orchestrator.dev/v1alpha1",
        "kind": "ContractSet",
        "metadata": {"name": "story"},
        "spec": {"contracts": [made]},
    }


def job_document(**spec: Any) -> dict[str, Any]:
    """One worker with eight H100 for at most an hour."""
    base = {
        "run": {"command": ["python", "train.py"]},
        "workers": {"gpus": 8, "accelerator": ["H100"]},
        "maxRuntime": "1h",
    }
    return {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "TrainingJob", "spec": {**base, **spec}}


@dataclass(frozen=True, slots=True)
class Server:
    """One life of the server."""

    engine: Engine
    desk: EngineDesk


class World:
    """Everything but the server: it stays when the server dies."""

    def __init__(
        self,
        scripts: Mapping[str, Script],
        contracts: Mapping[str, Any] | None = None,
        work: Work | None = None,
        *,
        seed: int = 0,
        providers: Mapping[str, Any] | None = None,
        capabilities: Capabilities | None = None,
        pace: Pace | None = None,
        blocks: tuple[Block, ...] = (),
    ) -> None:
        """Providers in the order of `scripts`; `contracts` and `providers` are documents as a user writes them."""
        self.clock = FakeClock(seed)
        self.disk = MemoryDisk(seed=seed)
        self.site = Site(work=work or Work())
        self.providers = {
            name: ScriptedProvider(name, script, clock=self.clock, crew=self.site, capabilities=capabilities)
            for name, script in scripts.items()
        }
        self.agree(contracts)
        operators = load_providers(json.dumps(providers or provider_document(list(scripts))))
        self._provider_set, self._provider_document = compile_providers(operators), canonical_bytes(operators)
        self._pace = pace or Pace()
        self.store: Store = self.site.store
        """The server's own access to the store; attempts use the site's."""
        self.blocks = blocks
        """Capacity that is owned, by the file of the next server's life."""
        self.by_hand: frozenset[str] = frozenset()
        """Providers whose people answer; a story wraps them in `adapters.byhand.ByHand`."""
        self.on_commit: Callable[[Committed], None] | None = None
        self.left_at: int | None = None
        """When the last server let go of the ledger, microseconds UTC; None: one leads."""

    def agree(self, contracts: Mapping[str, Any] | None) -> None:
        """The contract set of the next server's life."""
        self._contract_document = self.document(contracts) if contracts else b""
        document = load_canonical(ContractSet, self._contract_document) if contracts else None
        self._contracts = compile_contracts(document) if document else None

    def document(self, contracts: Mapping[str, Any]) -> bytes:
        """The canonical bytes of a contract set as a user writes it, with the providers' facts that it relies on."""
        return canonical_bytes(contracts_from(self._stated(contracts, self.providers)))

    @staticmethod
    def _stated(contracts: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """The contract set with the providers' facts that it relies on."""
        stated = {
            name: {key: value for key, value in facts.items() if key != "adapter"}
            for name, facts in provider_document(list(names))["spec"]["providers"].items()
        }
        spec = {"providers": stated, **contracts["spec"]}
        return {**contracts, "spec": spec}

    def wiring(self) -> Wiring:
        """What one life of the server stands on."""
        store = StoreAccess(StoreRef(name="main", url="memory:", jurisdiction="EU"), self.store)
        return Wiring(
            ledger=MemoryLedger(self.disk, self.on_commit),
            clock=self.clock,
            providers=self.providers,
            contracts=self._contracts,
            contract_document=self._contract_document,
            provider_set=self._provider_set,
            provider_document=self._provider_document,
            stores={"main": store},
            intake=intake(self._contracts, self._provider_set),
            agreed=agreed(self._provider_set),
            launch_spec=launch_spec,
            io=inline,
            blocks=self.blocks,
            by_hand=self.by_hand,
            pace=self._pace,
        )

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Server]:
        """One life of the server; whatever happens inside, it lets go of the ledger at the end."""
        wiring, self.left_at = self.wiring(), None
        engine = Engine(wiring)
        try:
            await engine.start()
            yield Server(engine, EngineDesk(engine))
        finally:
            await engine.stop()
            await wiring.ledger.close()
            self.left_at = self.clock.now_us()

    async def put_back(self, taken: MemoryDisk) -> None:
        """The next server's life begins from a backup (`MemoryDisk.backup`); everything else stays where it is."""
        self.disk, ledger = taken, MemoryLedger(taken)
        await mark(ledger, self.clock.now_us())
        await ledger.close()

    def events(self, job: str | None = None) -> list[ev.AnyEvent]:
        """What happened, as the ledger holds it."""
        return [ev.decode(e.body) for e in self.disk.events if e.body is not None and job in (None, e.job)]


def submission(key: str = "", labels: Mapping[str, str] | None = None, **spec: Any) -> Submission:
    """A job as the desk takes it in."""
    document = {**job_document(**spec), "metadata": {"labels": dict(labels or {})}}
    return Submission(project="default", document=job_bytes(job_from(document)), key=key)


async def until_over(server: Server, job: str, seconds: float = 7200.0) -> JobRow:
    """The job's row once it has ended; TimeoutError after so many virtual seconds."""
    async with asyncio.timeout(seconds):
        while True:
            row = await server.desk.job(job)
            if row.ended_at is not None:
                return row
            if server.engine.failed is not None:
                raise server.engine.failed
            async with server.engine.committed:
                await server.engine.committed.wait()
