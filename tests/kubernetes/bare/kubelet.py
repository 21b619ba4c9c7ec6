"""A node and its kubelet, played by a test in a cluster that has neither: pods are bound, run and end when told to."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.kubernetes.cluster import Cluster, Doc


@dataclass(frozen=True)
class Kubelet:
    """One node, and what its kubelet says of pods in one namespace."""

    cluster: Cluster
    namespace: str
    node: str

    @property
    def selector(self) -> dict[str, str]:
        """Labels that this node has and no other."""
        return {"orchestrator.dev/plays": self.namespace}

    def register(self, gpus: int = 8) -> None:
        """Bring the node up, with GPUs."""
        meta = {"name": self.node, "labels": self.selector}
        self.cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": meta})
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "plays"}
        self._status("node", self.node, {"capacity": room, "allocatable": room, "conditions": [ready]})
        self.cluster.kubectl("taint", "nodes", self.node, "node.kubernetes.io/not-ready-", check=False)

    def leave(self) -> None:
        """Take the node away."""
        self.cluster.kubectl("delete", "node", self.node, "--ignore-not-found", "--wait=false")

    def runs(self, kind: str, main: str, name: str, bound: str) -> None:
        """A pod of this main object's template is there, bound at that time, and runs."""
        template = self.cluster.get(kind, main, "-n", self.namespace)["spec"]["template"]
        spec = template["spec"] | {"nodeName": self.node}
        meta = {"name": name, "namespace": self.namespace, "labels": template["metadata"]["labels"]}
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": bound}
        self._status("pod", name, {"phase": "Running", "startTime": bound, "conditions": [scheduled]})

    def ended(self, name: str, at: str) -> None:
        """Its container has ended."""
        state = {"terminated": {"exitCode": 0, "startedAt": at, "finishedAt": at, "reason": "Completed"}}
        ray = {"name": "ray", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        self._status("pod", name, {"phase": "Succeeded", "containerStatuses": [ray]})

    def completed(self, job: str, began: str, at: str) -> None:
        """The Job controller, which the cluster has not either, says that this Job is complete."""
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"conditions": conditions, "startTime": began, "completionTime": at, "succeeded": 1}
        self._status("job", job, status)

    def removed(self, name: str) -> None:
        """The pod is deleted, and its kubelet has let it go."""
        self.cluster.kubectl("delete", "pod", name, "-n", self.namespace, "--force", "--grace-period=0")

    def _status(self, kind: str, name: str, status: Doc) -> None:
        patch = json.dumps({"status": status})
        where = [] if kind == "node" else ["-n", self.namespace]
        self.cluster.kubectl("patch", kind, name, *where, "--subresource=status", "--type=merge", "-p", patch)
