"""Which concrete parts does a server run on? The one place that names adapters: `build(settings) -> App`.

Called by the command line, the demo and benchmarks. It reads the operator's documents, refuses what this release does
not enforce, opens ledger and stores, makes providers by their entry points, and hands everything to the engine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from dataclasses import replace as dataclass_replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from orchestrator.adapters.byhand import ByHand, Webhook, lacking
from orchestrator.adapters.ledger.sql import SqlLedger
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.adapters.telemetry.prometheus import PrometheusTelemetry
from orchestrator.engine.engine import Engine
from orchestrator.engine.intake import agreed, intake, launch_spec
from orchestrator.engine.serving import Serving
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.engine.wiring import Pace, StoreAccess, Wiring, threaded
from orchestrator.model.capacity import Block
from orchestrator.model.documents.base import canonical_bytes
from orchestrator.model.documents.capacity import load_capacity
from orchestrator.model.documents.compile import compile_contracts, compile_providers, refused
from orchestrator.model.documents.conflicts import load_contracts
from orchestrator.model.documents.contracts import ContractSet
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.documents.providers import ProviderDocument, ProviderSet, load_providers
from orchestrator.model.documents.references import is_reference
from orchestrator.model.documents.warnings import unattested, warnings
from orchestrator.model.wire import StoreRef
from orchestrator.ports.desk import Desk
from orchestrator.ports.provider import Misconfigured, Placed, Provider
from orchestrator.ports.runtime import Tools
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.store import Store, open_store
from orchestrator.settings import Settings

ENTRY_POINTS = "orchestrator.providers"
Factory = Callable[[str, Mapping[str, Any], Tools], Provider]


class SystemClock:
    """Our machine's clock (`ports.clock.Clock`), never backwards within the process."""

    def __init__(self) -> None:
        """Anchored once at the wall clock; from then on only steady time passes."""
        self._base = time.time_ns() // 1000 - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._base + time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def entropy(self, size: int) -> bytes:
        """Random bytes of the operating system."""
        return os.urandom(size)


@dataclass(frozen=True, slots=True)
class Present:
    """Each verb of the desk (`ports.desk.Desk`) as of the moment at which it is asked."""

    desk: Callable[[], Desk]

    def __getattr__(self, verb: str) -> Any:
        """Of the present desk."""
        return getattr(self.desk(), verb)


@dataclass(slots=True)
class App:
    """A server without its HTTP front: start it, put a front before `desk`, stop it."""

    settings: Settings
    serving: Serving
    files: Store
    """Where packages are kept that are sent for no policy."""
    notices: tuple[str, ...] = ()
    """What the operator should know although it refuses nothing."""
    watch: StoreWatch | None = None
    _closers: list[Callable[[], Any]] = field(default_factory=list)
    _watching: asyncio.Task[None] | None = None

    @property
    def desk(self) -> Desk:
        """What a front asks, whether this server leads or follows: it may do both while the front stands."""
        return cast(Desk, Present(lambda: self.serving.desk))

    @property
    def providers(self) -> Sequence[str]:
        """Their names, in the order of the file."""
        return tuple(self.serving.wiring.providers)

    @property
    def engine(self) -> Engine:
        """The engine of the present lead."""
        return self.serving.engine

    async def start(self) -> None:
        """Lead, or follow the server that does.

        What is there by then, modules and the loaded book, stays for the server's life: Python's collector need not
        walk it again and again (0.1 s each time, while nothing else runs).
        """
        with DocumentError.named(str(self.settings.capacity)):  # the one document that is judged by what is on record
            await self.serving.start()
        gc.collect()
        gc.freeze()
        if self.watch is not None:
            self._watching = asyncio.create_task(self.watch.run())

    async def run(self) -> None:
        """Until stopped; raises what nobody foresaw."""
        await self.serving.run()

    async def stop(self) -> None:
        """Let go of everything; no job is touched."""
        gc.unfreeze()
        await self.serving.stop()
        if self._watching is not None:
            self._watching.cancel()
        for provider in self.serving.wiring.providers.values():
            await provider.aclose()
        for close in self._closers:
            await close()

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        return self.serving.metrics()


async def build(settings: Settings, *, pace: Pace | None = None, factories: Mapping[str, Factory] | None = None) -> App:
    """The server that these settings describe; nothing leads before `App.start`.

    `factories` adds to (or replaces) the adapters found by entry points. Raises `DocumentError` for documents that
    are wrong or ask for what is not enforced yet, and `LedgerLocked` where another server holds the ledger.
    """
    contracts, operators = load_documents(settings)
    stores = {name: StoreAccess(ref, open_store(ref, create=True)) for name, ref in store_refs(settings, operators)}
    clock, runtime = SystemClock(), RayJobs()
    async with AsyncExitStack() as opened:  # what is refused leaves nothing open
        ledger = await SqlLedger.open(ledger_place(settings), settings.lease * 1000)
        opened.push_async_callback(ledger.close)
        opened.push_async_callback(runtime.aclose)
        serving: list[Serving] = []
        tools = Tools(
            runtime=runtime,
            clock=clock,
            ledger=ledger.ledger_id,
            term=lambda: serving[0].term if serving else 0,
        )
        compiled = compile_contracts(contracts) if contracts else None
        provider_set = compile_providers(operators)
        with DocumentError.named(str(settings.providers or "the environment")):
            made = make_providers(operators, tools, factories or {})
        wiring = Wiring(
            ledger=ledger,
            clock=clock,
            providers=made,
            contracts=compiled,
            contract_document=canonical_bytes(contracts) if contracts else b"",
            provider_set=provider_set,
            provider_document=canonical_bytes(operators),
            stores=stores,
            intake=intake(compiled, provider_set),
            agreed=agreed(provider_set),
            launch_spec=launch_spec,
            io=threaded(),
            blocks=load_owned(settings, operators),
            by_hand=operators.by_hand,
            pace=pace or Pace(),
            telemetry=PrometheusTelemetry(),
        )
        close = opened.pop_all().aclose
    watch = StoreWatch(wiring)
    serving.append(Serving(wiring, watch))
    files = next(iter(stores.values())).store
    told = tuple(notices(settings, contracts, operators))
    return App(settings, serving[0], files, told, watch, _closers=[close])


def notices(settings: Settings, contracts: ContractSet | None, operators: ProviderSet) -> Iterator[str]:
    """Warnings of the contract set, webhooks that cannot be called, and settings that were given although the providers
    file has the say."""
    for notice in (*warnings(contracts), *unattested(contracts, operators)) if contracts else ():
        yield f"{settings.contracts}: {notice.what} ({notice.path})"
    for name, document in operators.spec.providers.items():
        for said in lacking(document.webhook.url, document.webhook.secret) if document.webhook else ():
            yield f"no offer reaches {name}: {said}"
    if settings.providers is not None and "policy" in settings.model_fields_set:
        yield f"ORCHESTRATOR_POLICY__… is not read beside {settings.providers}; write it there, in spec.policies"
    if operators.spec.stores and settings.store:
        yield f"ORCHESTRATOR_STORE is not read: {settings.providers} names its own, in spec.stores"
    if isinstance(ledger_place(settings), str) and not operators.spec.stores and not settings.store:
        yield f"the store lies in {settings.folder}, where no other server sees it; name one in ORCHESTRATOR_STORE"


def load_documents(settings: Settings) -> tuple[ContractSet | None, ProviderSet]:
    """The operator's documents; `DocumentError` with every problem of the first that is refused."""
    with DocumentError.named(str(settings.providers or "the environment")):
        operators = load_providers(_read(settings.providers)) if settings.providers else this_machine(settings)
    if settings.contracts is None:
        return None, operators
    with DocumentError.named(str(settings.contracts)):
        contracts = load_contracts(_read(settings.contracts))
        if problems := refused(contracts, operators):
            raise DocumentError(problems)
    return contracts, operators


async def judge_providers(file: Path) -> ProviderSet:
    """A providers file as a server judges it at its start, stores, connections and adapters included; nobody is asked,
    and no secret is read.

    Raises `DocumentError`, `BadStore`, and `Misconfigured` of an adapter.
    """
    tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="")
    with DocumentError.named(str(file)):
        operators = load_providers(_read(file))
        for _, ref in store_refs(Settings(), operators) if operators.spec.stores else ():
            with suppress(StoreUnavailable):  # a folder of another machine
                open_store(dataclass_replace(ref, secrets={}))
        made = make_providers(operators, tools, {})
    for provider in made.values():
        await provider.aclose()
    await tools.runtime.aclose()
    return operators


def load_owned(settings: Settings, operators: ProviderSet) -> tuple[Block, ...]:
    """The capacity that is owned, by the operator's file; `DocumentError` with every problem."""
    if settings.capacity is None:
        return ()
    with DocumentError.named(str(settings.capacity)):
        return load_capacity(_read(settings.capacity), operators)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = Problem("(document)", f"it cannot be read: {error.strerror}", "Name a file that can", "no_file")
        raise DocumentError([problem]) from error


def this_machine(settings: Settings) -> ProviderSet:
    """The provider set of a server that was given none: this machine alone, under the settings' policy."""
    policy = settings.policy
    place = json.dumps(settings.store_jurisdiction or "local")
    document = f"""
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {{name: this-machine}}
spec:
  providers:
    local:
      adapter: local
      connection: {{folder: {json.dumps(str(settings.folder / "local"))}}}
      regions: {{{_region()}: {place}}}
      operatorJurisdiction: {place}
      seal: 4
      accelerators: {{gpu: 1}}
  policies:
    default:
      isolation:
        check: {policy.check}ms
        limit: {"null" if policy.limit is None else f"{policy.limit}ms"}
        grace: {policy.grace}ms
      onUnreachable: {policy.on_unreachable}
      maxAttempts: {policy.max_attempts}
      maxRuntime: {policy.max_runtime}ms
"""
    return load_providers(document)


def _region() -> str:
    """This machine's name as a region's."""
    name = "".join(c if c.isalnum() else "-" for c in socket.gethostname().lower()).strip("-")
    return name if name and name[0].isalpha() else "here"


def store_refs(settings: Settings, operators: ProviderSet) -> list[tuple[str, StoreRef]]:
    """The operator's stores: those of the providers file, else the one of the settings."""
    if not operators.spec.stores:
        ref = StoreRef(
            name="default",
            url=settings.store_url,
            jurisdiction=settings.store_jurisdiction,
            options=dict(settings.store_options),
            secrets=dict(settings.store_secrets),
        )
        return [("default", ref)]
    found = []
    for name, store in operators.spec.stores.items():
        secret = {k: v for k, v in store.options.items() if is_reference(v)}
        plain = {k: v for k, v in store.options.items() if k not in secret}
        found.append(
            (name, StoreRef(name=name, url=store.url, jurisdiction=store.jurisdiction, options=plain, secrets=secret))
        )
    return found


def make_providers(operators: ProviderSet, tools: Tools, factories: Mapping[str, Factory]) -> dict[str, Provider]:
    """Every provider of the file by its adapter, in order. Raises DocumentError, and `Misconfigured` of an adapter."""
    made: dict[str, Provider] = {}
    for name, document in operators.spec.providers.items():
        path = f"spec.providers.{name}.adapter"
        factory = find_adapter(document.adapter, path, factories)
        with refusing(document.adapter, path):
            made[name] = factory(name, document.connection_values(), replace(tools, prices=document.cheapest()))
        if absent := [verb for verb in VERBS if not callable(getattr(made[name], verb, None))]:
            what = f"the adapter {document.adapter!r} makes no provider: it has no {', '.join(absent)}"
            raise _adapter_problem(path, what, "Ask its maker; orchestrator.ports.provider says what is promised")
    _apart(made)
    given, people = operators.spec.providers, operators.by_hand
    return {name: by_hand(p, given[name], tools) if name in people else p for name, p in made.items()}


def _apart(made: Mapping[str, Provider]) -> None:
    """Raises `DocumentError` for providers that would take each other's launches for strays, and stop them."""
    seen: dict[str, str] = {}
    problems = []
    for name, provider in made.items():
        if isinstance(provider, Placed) and (other := seen.setdefault(provider.place, name)) != name:
            what = f"providers {other} and {name} are both {provider.place}: each would stop the other's jobs"
            remedy = "Give each a place of its own, on Kubernetes a namespace"
            problems.append(Problem(f"spec.providers.{name}.connection", what, remedy, "same_place"))
    if problems:
        raise DocumentError(problems)


VERBS = tuple(name for name in vars(Provider) if not name.startswith("_") and name != "name")


def find_adapter(adapter: str, path: str, factories: Mapping[str, Factory]) -> Factory:
    """The factory of an installed adapter, ours or a stranger's. `path`: where it is named. Raises DocumentError."""
    if adapter in factories:
        return factories[adapter]
    known = entry_points(group=ENTRY_POINTS)
    found = [point for point in known if point.name == adapter]
    if not found:
        there = ", ".join(sorted({*known.names, *factories})) or "none; is the package installed?"
        raise _adapter_problem(path, f"there is no adapter {adapter!r}", f"Use one of: {there}", "unknown_adapter")
    if len(found) > 1:
        whose = " and ".join(sorted(point.dist.name if point.dist else point.value for point in found))
        raise _adapter_problem(path, f"the adapter {adapter!r} is in {whose}", "Uninstall all but one", "two_adapters")
    with refusing(adapter, path):
        factory: Factory = found[0].load()
    return factory


@contextmanager
def refusing(adapter: str, path: str) -> Iterator[None]:
    """What a stranger's package raises while it is loaded is the operator's to mend, like what it refuses itself."""
    try:
        yield
    except (Misconfigured, DocumentError):
        raise
    except Exception as error:
        what = f"the adapter {adapter!r} cannot be loaded: {type(error).__name__}: {error}"
        raise _adapter_problem(path, what, "Mend its package, or install it again") from error


def _adapter_problem(path: str, what: str, remedy: str, code: str = "broken_adapter") -> DocumentError:
    return DocumentError([Problem(path, what, remedy, code)])


def by_hand(provider: Provider, document: ProviderDocument, tools: Tools) -> Provider:
    """The same provider, whose people answer offers themselves."""
    told = document.webhook
    webhook = Webhook(told.url, told.secret, lambda: tools.clock.now_us() // 1_000_000) if told is not None else None
    return ByHand(provider, webhook)


def ledger_place(settings: Settings) -> Path | str:
    """Where the ledger lies: an SQLite file, or the URL of a PostgreSQL database."""
    scheme, _, rest = settings.ledger_url.partition("://")
    if scheme == "sqlite":
        return Path(rest)
    if scheme in ("postgresql", "postgres"):
        return settings.ledger_url
    problem = Problem(
        "ORCHESTRATOR_DATABASE_URL", f"a ledger is not kept in {scheme!r}",
        "Use sqlite:///path or postgresql://user:password@host:5432/name", "",
    )  # fmt: skip
    raise DocumentError([problem], "the environment")
