"""Two providers of one namespace are refused when the server starts, however each is told of its cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.credentials import place
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock, make_providers
from orchestrator.model.documents import load_providers
from orchestrator.model.documents.errors import DocumentError
from orchestrator.ports.provider import Placed
from orchestrator.ports.runtime import Tools

SERVERS = {"one": "https://one:6443", "same": "https://ONE:6443/", "two": "https://two:6443"}


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A kubeconfig with a context for each of these clusters; two are one and the same."""
    doc = {
        "current-context": "one",
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in SERVERS.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in SERVERS],
    }
    (tmp_path / "config").write_text(json.dumps(doc))
    return str(tmp_path / "config")


def made(*connections: dict[str, Any]) -> list[str]:
    """The places of the providers that a server would have."""
    facts = {"adapter": "kubernetes", "regions": {"eu-1": "EU"}, "operatorJurisdiction": "EU", "seal": 1}
    images = {"image": "i", "agentImage": "a"}
    told = {f"p{n}": facts | {"connection": images | one} for n, one in enumerate(connections)}
    head = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "ProviderSet", "metadata": {"name": "two"}}
    document = load_providers(json.dumps(head | {"spec": {"providers": told}}))
    found = make_providers(document, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="l"), {}).values()
    return [provider.place for provider in found if isinstance(provider, Placed)]


@pytest.mark.parametrize("context", [None, "one", "same"])
def test_two_providers_of_one_namespace_are_refused(config: str, context: str | None) -> None:
    here = {"kubeconfig": config, "namespace": "training"}
    with pytest.raises(DocumentError) as refused:
        made(here, here | ({"context": context, "queue": "q"} if context else {}))
    [problem] = refused.value.problems
    assert (problem.path, problem.code) == ("spec.providers.p1.connection", "same_place")
    assert "p0 and p1 are both namespace training of https://one:6443" in problem.reason


def test_another_namespace_or_another_cluster_is_another_place(config: str) -> None:
    one, other = ({"kubeconfig": config, "namespace": name} for name in ("training", "more"))
    assert len({*made(one, other, one | {"context": "two"})}) == 3


def test_a_kubeconfig_that_cannot_be_read_is_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "spoilt").write_text(": [")
    assert place(str(tmp_path / "spoilt"), "c", "n") == f"namespace n of context c of {tmp_path}/spoilt"
    assert place(str(tmp_path / "none"), None, "n") == f"namespace n of context in force of {tmp_path}/none"


def test_the_first_of_several_kubeconfigs_counts(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"current-context": "two", "clusters": [{"name": "one", "cluster": {"server": "https://moved"}}]}
    (tmp_path / "first").write_text(json.dumps(first))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/first:{config}")
    assert place(None, None, "n") == "namespace n of https://two:6443"
    assert place(None, "one", "n") == "namespace n of https://moved"


def test_a_pod_knows_its_own_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    assert place(None, None, "n") == "namespace n of https://10.96.0.1:443"
