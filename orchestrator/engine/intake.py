"""What do decisions and launches need of a job's document? The one place in the engine where documents are read.

Called at submission and at launch, through `Wiring`, so that benchmarks and stories may bring their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from orchestrator.engine.wiring import Agreed, Incoming, LaunchSpec
from orchestrator.model.contract import Classification, Contracts, OnUnreachable, Policy, Providers
from orchestrator.model.documents.base import load_canonical
from orchestrator.model.documents.compile import compile_contracts
from orchestrator.model.documents.contracts import ContractSet
from orchestrator.model.documents.job import job_from_bytes, shape_of
from orchestrator.model.event import Submitted
from orchestrator.model.placement import Shape, shape_bytes
from orchestrator.ports.desk import Refused

CACHED = 4096
"""Documents whose reading is remembered: sweeps submit the same one often."""


class UnknownPolicy(Refused):
    """The job names a policy that the operator has not declared."""


def intake(contracts: Contracts | None, providers: Providers) -> Callable[[bytes], Incoming]:
    """Reads a job's canonical bytes under these contracts and policies."""
    selected = contracts.labels if contracts else frozenset()
    policies = {p.name: p for p in providers.policies}

    @lru_cache(CACHED)
    def read(document: bytes) -> Incoming:
        job = job_from_bytes(document)
        policy = policies.get(job.spec.policy)
        if policy is None:
            known = ", ".join(sorted(policies)) or "none"
            raise UnknownPolicy(f"spec.policy: there is no policy {job.spec.policy!r}; the operator declares {known}")
        shape = shape_of(job, selected, max_runtime_ms=policy.max_runtime_us // 1000)
        if policy.classification is not Classification.CLAIMED:
            shape = replace(shape, unsettled=policy.classification.value)
        body = shape_bytes(shape)
        event = _event(document, job.metadata.name or "", shape, policy, body)
        return Incoming(event, shape, body)

    return read


def agreed(providers: Providers) -> Callable[[bytes], Agreed]:
    """Reads contract sets from their canonical bytes, for these providers."""

    def read(document: bytes) -> Agreed:
        try:
            contracts = compile_contracts(load_canonical(ContractSet, document)) if document else None
        except ValueError as wrong:
            raise Refused(f"the contract set cannot be read: {wrong}") from wrong
        return Agreed(contracts, document, intake(contracts, providers))

    return read


def _event(document: bytes, name: str, shape: Shape, policy: Policy, body: bytes) -> Submitted:
    endless = policy.limit_us is None or policy.on_unreachable is OnUnreachable.CONFIRMED_STOP_ONLY
    return Submitted(
        spec=hashlib.sha256(document).hexdigest(), shape=hashlib.sha256(body).hexdigest(), name=name,
        limit_ms=None if endless else (policy.limit_us or 0) // 1000, grace_ms=policy.grace_us // 1000,
        check_ms=policy.check_us // 1000, max_runtime_ms=shape.max_runtime_ms, start_by_ms=shape.start_by_ms,
        max_attempts=policy.max_attempts, on_unreachable=policy.on_unreachable.value, store=policy.store,
    )  # fmt: skip


class _Package(msgspec.Struct, frozen=True):
    digest: str | None = None


class _Run(msgspec.Struct, frozen=True):
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    requirements: tuple[str, ...] = ()
    package: _Package | None = None


class _Spec(msgspec.Struct, frozen=True):
    run: _Run


class _Job(msgspec.Struct, frozen=True):
    """The few fields of a job's document that a launch needs: it was validated whole when it was taken in."""

    spec: _Spec


_jobs = msgspec.json.Decoder(_Job)


def launch_spec(document: bytes) -> LaunchSpec:
    """What a launch needs of a job's canonical bytes."""
    run = _jobs.decode(document).spec.run
    package = run.package.digest if run.package else None
    return LaunchSpec(
        command=run.command, environment=run.environment, requirements=run.requirements,
        package=package.removeprefix("sha256:") if package else None,
    )  # fmt: skip
