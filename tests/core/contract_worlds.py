"""Small worlds for contract tests: documents as text, shapes, moments."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.model.contract import Contracts, Providers
from orchestrator.model.documents import compile_contracts, load_contracts, stated_providers
from orchestrator.model.documents.compiling import moment_us
from orchestrator.model.placement import Shape

HEAD = "apiVersion: orchestrator.dev/v1alpha1\nkind: ContractSet\nmetadata: {name: w}\n"
PROVIDERS = """\
  providers:
    azure: {regions: {eastus: US, swedencentral: EU}, operatorJurisdiction: US, seal: 2, accelerators: {H100: 1}}
    oracle: {regions: {abilene: US}, operatorJurisdiction: US, seal: 1, accelerators: {H100: 1}}
"""
TERM = "term: {from: 2026-01-01, to: 2026-12-31}"
NOON = moment_us(datetime(2026, 6, 1, 12, tzinfo=UTC))
MINUTE = 60_000_000
HOUR = 60 * MINUTE


def contract(clause: str, holder: str | None = "azure", name: str = "c", term: str = TERM) -> str:
    """One contract with one clause, as a line of YAML."""
    held = f"holder: {holder}, " if holder else ""
    return f"    - {{id: {name}, {held}{term}, clauses: [{{id: k, {clause}}}]}}\n"


def contract_set(*contracts: str) -> str:
    """A whole set over two providers."""
    return f"{HEAD}spec:\n{PROVIDERS}  contracts:\n{''.join(contracts) or '    []'}"


def world(*contracts: str) -> tuple[Contracts, Providers]:
    """The compiled set and its providers."""
    document = load_contracts(contract_set(*contracts))
    return compile_contracts(document), stated_providers(document)


def shape(**changes: object) -> Shape:
    """800 GPU-hours of training on 8 H100s, changed."""
    usual = {
        "job_class": "training",
        "accelerators": ("H100",),
        "gpus_per_worker": 8,
        "workers": 1,
        "cpus": 8,
        "memory": 2**30,
        "max_runtime_ms": 360_000_000,
    }
    return Shape(**(usual | changes))  # type: ignore[arg-type]
