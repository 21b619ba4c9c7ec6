"""A gang that only sleeps, in place of Ray, in real pods: what the adapter does with objects and pods needs no more.

The image is the agent's (it has Python), and the module that the pods of a Job run is laid over from a ConfigMap by the
operator's own pod template.
"""

from __future__ import annotations

import os
from typing import Any

from tests.kubernetes.cluster import Cluster

GANG = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(137))
print("rank", __import__("os").environ["GANG_INDEX"], flush=True)
time.sleep(3600)
"""
SMALL = {"requests": {"cpu": "10m", "memory": "16Mi"}}
"""Many fit on a small machine."""


def connection(cluster: Cluster, namespace: str, **more: Any) -> dict[str, Any]:
    """A connection whose Jobs run stand-ins; its ConfigMap is made in the namespace."""
    meta = {"name": "stand-in", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"gang.py": GANG}})
    image = os.environ["KUBERNETES_TEST_AGENT_IMAGE"]
    path = "/opt/orchestrator/site/orchestrator/rayhead/gang.py"
    mount = {"name": "stand-in", "mountPath": path, "subPath": "gang.py"}
    user = {"name": "ray", "resources": SMALL, "volumeMounts": [mount]}
    spec = {"containers": [user], "volumes": [{"name": "stand-in", "configMap": {"name": "stand-in"}}]}
    return {
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": namespace,
        "image": image,
        "agentImage": image,
        "runtime": "job",
        "podTemplate": {"spec": spec},
        **more,
    }
