"""The cluster, the store and the fresh namespace of the Kubernetes tests, for deployments too."""

from tests.kubernetes.conftest import cluster, namespace, store_ref

__all__ = ["cluster", "namespace", "store_ref"]
