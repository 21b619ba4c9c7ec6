"""The example for two clusters is read as it stands."""

from __future__ import annotations

from pathlib import Path

from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.model.documents import load_contracts, load_job, load_providers

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes"


def test_both_connections_are_whole() -> None:
    providers = load_providers((EXAMPLE / "providers.yaml").read_text()).spec.providers
    read = {name: parse_connection(name, stated.connection) for name, stated in providers.items()}
    assert {name: one.context for name, one in read.items()} == {"a": "cluster-a", "b": "cluster-b"}
    assert read["a"].pod_template == read["b"].pod_template != {}


def test_the_contract_is_held_by_one_of_them() -> None:
    contracts = load_contracts((EXAMPLE / "contracts.yaml").read_text()).spec.contracts
    assert [contract.holder for contract in contracts] == ["a"]


def test_the_job_asks_for_two_workers() -> None:
    assert load_job((EXAMPLE / "job.yaml").read_text()).spec.workers.gpus == 1
