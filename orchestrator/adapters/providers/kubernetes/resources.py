"""Which kinds of objects does the adapter deal with, where does the API serve them, and which fields of them count?

Called by everything of this adapter that reads or writes objects. Only what is read is kept: a copy of a whole
cluster's pods must stay small. Pure: no calls.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct, field

MANAGED_BY = "app.kubernetes.io/managed-by"
US = "orchestrator"
KEY = "orchestrator.dev/key"
LEDGER = "orchestrator.dev/ledger"
OFFER = "orchestrator.dev/offer"
OURS = f"{MANAGED_BY}={US},{LEDGER}"
"""Selects what carries our label and a ledger id."""


class Kind(NamedTuple):
    """One kind: its API group and version, its plural, whether it lives in a namespace."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """Where the API serves it: one object, or all of a namespace (none given: of the cluster)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join([f"{root}{place}/{self.plural}", *filter(None, (name, sub))])


POD = Kind("", "v1", "Pod", "pods")
NODE = Kind("", "v1", "Node", "nodes", False)
SECRET = Kind("", "v1", "Secret", "secrets")
SERVICE = Kind("", "v1", "Service", "services")
RECORD = Kind("", "v1", "ConfigMap", "configmaps")
QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Kind("", "v1", "LimitRange", "limitranges")
EVENT = Kind("", "v1", "Event", "events")
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", False)
JOB = Kind("batch", "v1", "Job", "jobs")
RAY_JOB = Kind("ray.io", "v1", "RayJob", "rayjobs")
RAY_CLUSTER = Kind("ray.io", "v1", "RayCluster", "rayclusters")
WORKLOAD = Kind("kueue.x-k8s.io", "v1beta2", "Workload", "workloads")
LOCAL_QUEUE = Kind("kueue.x-k8s.io", "v1beta2", "LocalQueue", "localqueues")
CLUSTER_QUEUE = Kind("kueue.x-k8s.io", "v1beta2", "ClusterQueue", "clusterqueues", False)
ADMISSION_CHECK = Kind("kueue.x-k8s.io", "v1beta2", "AdmissionCheck", "admissionchecks", False)
REVIEW = Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False)

KINDS = {kind.name: kind for kind in (POD, SECRET, SERVICE, RECORD, JOB, RAY_JOB, RAY_CLUSTER, WORKLOAD)}


class Owner(Struct, frozen=True, rename="camel"):
    """Whom an object belongs to."""

    kind: str
    name: str
    uid: str = ""


class Meta(Struct, frozen=True, rename="camel", kw_only=True):
    """What every object says of itself."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[Owner, ...] = ()
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None

    def label(self, name: str) -> str:
        """A label's value; empty: it has none."""
        return (self.labels or {}).get(name, "")

    @property
    def ours(self) -> bool:
        """Whether it carries our label and a ledger id."""
        return self.label(MANAGED_BY) == US and bool(self.label(LEDGER))


class Condition(Struct, frozen=True, rename="camel"):
    """One condition of a status."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    """Written as null where nobody knows."""


class Thing(Struct, frozen=True):
    """Any object, by its metadata alone."""

    metadata: Meta = Meta()


class Requirements(Struct, frozen=True):
    """What a container, or a whole pod, asks for and gets at most."""

    requests: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class Container(Struct, frozen=True, rename="camel"):
    """A container, by what it takes; an init container that restarts runs beside the others."""

    name: str = ""
    resources: Requirements = Requirements()
    restart_policy: str | None = None


class PodSpec(Struct, frozen=True, rename="camel"):
    """Where a pod runs and what it takes."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    resources: Requirements | None = None
    """Of the pod as a whole: in place of its containers', name by name."""
    overhead: dict[str, Any] | None = None
    node_selector: dict[str, str] | None = None
    tolerations: tuple[dict[str, Any], ...] = ()
    scheduling_gates: tuple[Any, ...] = ()
    termination_grace_period_seconds: int = 30


class Halt(Struct, frozen=True, rename="camel"):
    """Why a container waits, or how it ended."""

    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    """None: it waits."""
    finished_at: str | None = None


class ContainerState(Struct, frozen=True):
    """Where one container stands: at most one of these is set, and neither while it runs."""

    waiting: Halt | None = None
    terminated: Halt | None = None


class ContainerStatus(Struct, frozen=True):
    """What the kubelet says of one container."""

    name: str
    state: ContainerState = ContainerState()


class PodStatus(Struct, frozen=True, rename="camel"):
    """What the kubelet, and others, say of a pod."""

    phase: str = "Pending"
    start_time: str | None = None
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Struct, frozen=True):
    """A pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def over(self) -> bool:
        """Whether its phase is one that it never leaves."""
        return self.status.phase in ("Succeeded", "Failed")


class Taint(Struct, frozen=True):
    """Why pods keep off a node."""

    key: str
    effect: str = ""
    value: str = ""


class NodeSpec(Struct, frozen=True):
    """What keeps pods off a node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeStatus(Struct, frozen=True):
    """What a node has, and whether it answers."""

    allocatable: dict[str, Any] | None = None
    conditions: tuple[Condition, ...] = ()


class Node(Struct, frozen=True):
    """A node."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether its kubelet answers, as far as the control plane knows."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    @property
    def ready_since(self) -> str:
        """When that last changed, as the control plane writes it; empty: not said."""
        return next((c.last_transition_time or "" for c in self.status.conditions if c.type == "Ready"), "")


class QuotaSpec(Struct, frozen=True, rename="camel"):
    """To whom a quota applies."""

    scopes: tuple[str, ...] = ()
    scope_selector: dict[str, Any] | None = None


class QuotaStatus(Struct, frozen=True):
    """How far a quota goes and how much of it is used."""

    hard: dict[str, Any] | None = None
    used: dict[str, Any] | None = None


class Quota(Struct, frozen=True):
    """A ResourceQuota."""

    metadata: Meta
    spec: QuotaSpec = QuotaSpec()
    status: QuotaStatus = QuotaStatus()


class Range(Struct, frozen=True):
    """One row of a LimitRange; `default`: the limits of a container that sets none."""

    type: str = ""
    default: dict[str, Any] | None = None


class RangeSpec(Struct, frozen=True):
    """All of them."""

    limits: tuple[Range, ...] = ()


class LimitRange(Struct, frozen=True):
    """What a namespace gives to containers that say nothing."""

    metadata: Meta
    spec: RangeSpec = RangeSpec()


class Involved(Struct, frozen=True):
    """What an event is about."""

    name: str = ""


class Happening(Struct, frozen=True, rename="camel"):
    """An event: what a controller says of an object."""

    metadata: Meta
    involved_object: Involved = Involved()
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None

    @property
    def at(self) -> str:
        """When it was last so, as the API writes it."""
        return self.last_timestamp or self.event_time or self.metadata.creation_timestamp


class Record(Struct, frozen=True):
    """A ConfigMap of ours: what must be remembered of one launch key when everything else of it is deleted."""

    metadata: Meta
    data: dict[str, str] | None = None


class MainSpec(Struct, frozen=True):
    """Of a RayJob or Job, what others may change."""

    suspend: bool = False
    completions: int | None = None


class MainStatus(Struct, frozen=True, rename="camel"):
    """Of a RayJob (first half) or a Job (second half)."""

    job_deployment_status: str = ""
    job_status: str = ""
    ray_cluster_name: str = ""
    message: str = ""
    reason: str = ""
    end_time: str | None = None
    active: int = 0
    ready: int = 0
    completion_time: str | None = None
    conditions: tuple[Condition, ...] = ()


class Main(Struct, frozen=True):
    """A launch's main object: RayJob or Job."""

    metadata: Meta
    kind: str = ""
    spec: MainSpec = MainSpec()
    status: MainStatus = MainStatus()


class CheckState(Struct, frozen=True):
    """One admission check of a workload."""

    name: str
    state: str = "Pending"
    message: str = ""


class WorkloadSpec(Struct, frozen=True, rename="camel"):
    """Of a Workload: where it queues, and whether it may be admitted at all."""

    queue_name: str = ""
    active: bool = True


class WorkloadStatus(Struct, frozen=True, rename="camel"):
    """Of a Workload: what Kueue decided."""

    conditions: tuple[Condition, ...] = ()
    admission_checks: tuple[CheckState, ...] = ()


class Workload(Struct, frozen=True):
    """What Kueue is asked to admit."""

    metadata: Meta
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    def condition(self, name: str) -> Condition | None:
        """One condition; None: not said."""
        return next((c for c in self.status.conditions if c.type == name), None)


T = TypeVar("T")


class Many(Struct, Generic[T]):
    """One page of a list."""

    metadata: ListMeta
    items: list[T] = field(default_factory=list)


class ListMeta(Struct, rename="camel"):
    """How to go on from a list: the next page, or a watch."""

    resource_version: str = ""
    continue_: str = field(default="", name="continue")
