"""As much of a CustomResourceDefinition as makes an API server know a kind: its names, and some fields or anything."""

from __future__ import annotations

from tests.kubernetes.cluster import Cluster, Doc

ANY: Doc = {"x-kubernetes-preserve-unknown-fields": True}
ANYTHING: Doc = {"type": "object", **ANY}


def definition(
    group: str, kind: str, version: str, *fields: str, scope: str = "Namespaced", status: bool = False
) -> Doc:
    """A kind whose spec has these fields, with anything in them; none: with anything. `status`: apart from its spec."""
    names = {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower(), "listKind": f"{kind}List"}
    spec = {"type": "object", "properties": dict.fromkeys(fields, ANY)}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}} if fields else ANYTHING}
    versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
    versions[0]["subresources"] = {"status": {}} if status else {}
    meta: Doc = {"name": f"{names['plural']}.{group}"}
    if group.endswith("k8s.io"):
        meta["annotations"] = {"api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes/pull/1111"}
    doc: Doc = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta}
    return doc | {"spec": {"group": group, "scope": scope, "names": names, "versions": versions}}


def introduce(cluster: Cluster, *definitions: Doc) -> None:
    """The API server serves these kinds afterwards."""
    cluster.apply(*definitions)
    names = [f"crd/{one['metadata']['name']}" for one in definitions]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)


def forget(cluster: Cluster, *definitions: Doc) -> None:
    """It does not know them afterwards, and whatever there was of them is gone."""
    names = [f"crd/{one['metadata']['name']}" for one in definitions]
    cluster.kubectl("delete", "--timeout=60s", *names)
