"""Do these pods fit into the cluster now? Allocatable minus requested, node by node, and the namespace's quotas.

Called when an offer is answered, and once more before its launch. Pure. It promises nothing: the scheduler decides
later, with whatever has come since (`firm: none`). Amounts are floats in base units: cores, bytes, devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from orchestrator.adapters.providers.kubernetes.resources import Container, Node, PodSpec, Quota, Taint

GPU_SUFFIX = "/gpu"
"""By the vendors' habit: nvidia.com/gpu, amd.com/gpu, gpu.intel.com/…: what counts as a GPU in a sighting."""
_UNITS = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
Amounts = dict[str, float]
COMPUTE = ("cpu", "memory")
"""What a quota, once it counts it, asks of every container to say."""
_OF_PODS = (*COMPUTE, "hugepages-")
"""How the names begin of what a pod may say as a whole; the API server refuses others there."""
_STATE = "node.kubernetes.io/"
"""How the taints begin by which Kubernetes says what state a node is in, which passes."""
_NOT_READY = (f"{_STATE}not-ready", f"{_STATE}unreachable")
"""Of these two the node's condition tells sooner."""


def quantity(text: Any) -> float:
    """A Kubernetes quantity (`4`, `500m`, `32Gi`, `1e3`) in base units. Raises ValueError."""
    return _quantity(str(text))


@lru_cache(maxsize=4096)
def _quantity(said: str) -> float:
    number = said.rstrip("numkKMGTPEi")
    unit = said[len(number) :]
    if unit == "E" and not number:
        raise ValueError(f"{said!r} is no quantity")
    return float(number) * _UNITS[unit]


def amounts(given: Mapping[str, Any] | None) -> Amounts:
    """A resource list; what cannot be read counts as nothing."""
    found: Amounts = {}
    for name, text in (given or {}).items():
        try:
            found[name] = quantity(text)
        except (ValueError, KeyError):
            continue
    return found


def plus(one: Mapping[str, float], other: Mapping[str, float]) -> Amounts:
    """Both together."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {*one, *other}}


def most(one: Mapping[str, float], other: Mapping[str, float]) -> Amounts:
    """The larger of both, name by name."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {*one, *other}}


def requested(spec: PodSpec) -> Amounts:
    """What the scheduler sets aside for a pod: what it says as a whole, else its containers together, or its largest
    init step."""
    together = _together(spec, lambda container: container.resources.requests)
    if spec.resources is not None:
        asked, allowed = _as_a_whole(spec.resources.requests), _as_a_whole(spec.resources.limits)
        together = allowed | together | asked  # a limit is a request, too, where nobody says one
    return plus(together, amounts(spec.overhead))


def limits(spec: PodSpec, defaults: Mapping[str, Any]) -> Amounts:
    """What a pod may take at most, by the same sum. `defaults`: what the namespace gives to a container without."""
    together = _together(spec, lambda container: {**defaults, **(container.resources.limits or {})})
    if spec.resources is not None:
        together |= _as_a_whole(spec.resources.limits)
    return plus(together, amounts(spec.overhead))


def unset(spec: PodSpec, defaults: Mapping[str, Any]) -> dict[str, str]:
    """What a quota on it would ask of every container and one does not say, as quotas name it; each with that one. Of a
    pod that says anything as a whole, nothing."""
    found: dict[str, str] = {}
    if spec.resources is not None and _as_a_whole({**(spec.resources.requests or {}), **(spec.resources.limits or {})}):
        return found
    for container in (*spec.containers, *spec.init_containers):
        most = {**defaults, **(container.resources.limits or {})}
        least = {**most, **(container.resources.requests or {})}
        for name in COMPUTE:
            if name not in most:
                found.setdefault(f"limits.{name}", container.name)
            if name not in least:
                found |= {counted: container.name for counted in (name, f"requests.{name}") if counted not in found}
    return found


def _together(spec: PodSpec, of: Callable[[Container], Mapping[str, Any] | None]) -> Amounts:
    beside: Amounts = {}
    step: Amounts = {}
    for container in spec.init_containers:
        takes = amounts(of(container))
        if container.restart_policy == "Always":
            beside = plus(beside, takes)
            step = most(step, beside)
        else:
            step = most(step, plus(beside, takes))
    together = beside
    for container in spec.containers:
        together = plus(together, amounts(of(container)))
    return most(together, step)


def _as_a_whole(given: Mapping[str, Any] | None) -> Amounts:
    return amounts({name: much for name, much in (given or {}).items() if name.startswith(_OF_PODS)})


class Ask(Struct, frozen=True):
    """Pods that are alike and want a place: how many, what each takes, on which nodes, what taints they stand."""

    count: int
    takes: Mapping[str, float]
    selector: Mapping[str, str] = {}
    tolerations: tuple[Mapping[str, Any], ...] = ()
    spec: PodSpec = PodSpec()
    """The same in full, for quotas on limits."""

    def may_run_on(self, node: Node) -> bool:
        """Whether these pods may be put there now, room aside."""
        fit = node.ready and not node.spec.unschedulable and self.belongs_on(node)
        return fit and self._stands(taint for taint in node.spec.taints if taint.key not in _NOT_READY)

    def belongs_on(self, node: Node) -> bool:
        """Whether these pods may be put there at some time: by labels and taints alone."""
        labels = node.metadata.labels or {}
        if any(labels.get(name) != value for name, value in self.selector.items()):
            return False
        return self._stands(taint for taint in node.spec.taints if not taint.key.startswith(_STATE))

    def _stands(self, taints: Iterable[Taint]) -> bool:
        return all(
            any(_tolerates(t, taint.key, taint.value, taint.effect) for t in self.tolerations)
            for taint in taints
            if taint.effect in ("NoSchedule", "NoExecute")
        )


def _tolerates(toleration: Mapping[str, Any], key: str, value: str, effect: str) -> bool:
    if toleration.get("effect") not in (None, "", effect):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", key)
    return bool(toleration.get("key") == key and toleration.get("value", "") == value)


class Short(Struct, frozen=True):
    """What is missing. `ever`: even an empty cluster would not hold it."""

    detail: str
    ever: bool = False


def short_of_word(quotas: Iterable[Quota], asked: Iterable[Ask], defaults: Mapping[str, Any]) -> Short | None:
    """Which container lacks a request or limit without which a quota refuses its pod; None: none does."""
    silent: dict[str, str] = {}
    for ask in asked:
        silent |= unset(ask.spec, defaults)
    for quota in quotas:
        for name in sorted({*(quota.status.hard or {})} & {*silent} if _counts(quota) else ()):
            what = "limit" if name.startswith("limits.") else "request"
            words = (
                f"quota {quota.metadata.name}: {name}: container {silent[name]} sets no such {what}, so that its pod "
                f"is refused; set it in `connection.podTemplate`, or give the namespace a LimitRange"
            )
            return Short(words, ever=True)
    return None


def _counts(quota: Quota) -> bool:
    """Whether it is for all pods; one for those of certain classes only is told by admission."""
    return not quota.spec.scopes and not quota.spec.scope_selector


def count_limits(quotas: Iterable[Quota]) -> bool:
    """Whether one of these is on limits."""
    return any(name.startswith("limits.") for quota in quotas for name in quota.status.hard or {})


def short_of_quota(quotas: Iterable[Quota], needs: Mapping[str, float]) -> Short | None:
    """Why the namespace's quotas do not allow these amounts (as quotas name them); None: they do."""
    for quota in quotas:
        if not _counts(quota):
            continue
        hard, used = amounts(quota.status.hard), amounts(quota.status.used)
        for name, limit in sorted(hard.items()):
            need = needs.get(name, 0)
            if need and used.get(name, 0) + need > limit + 1e-6:
                lacking = used.get(name, 0) + need - limit
                words = (
                    f"quota {quota.metadata.name}: {name}: {show(name, need)} and {show(name, used.get(name, 0))}"
                    f" in use would pass {show(name, limit)}; {show(name, lacking)} missing"
                )
                return Short(words, ever=need > limit)
    return None


def quota_needs(asked: Iterable[Ask], defaults: Mapping[str, Any] | None) -> Amounts:
    """These pods as quotas count them.

    `defaults`: the limits that the namespace gives to a container without; None: no quota counts limits.
    """
    needs: Amounts = {}
    for ask in asked:
        for name in ("pods", "count/pods"):
            needs[name] = needs.get(name, 0) + ask.count
        for name, much in ask.takes.items():
            for counted in (f"requests.{name}", *([name] if "/" not in name else [])):
                needs[counted] = needs.get(counted, 0) + much * ask.count
        for name, much in (limits(ask.spec, defaults) if defaults is not None else {}).items():
            needs[f"limits.{name}"] = needs.get(f"limits.{name}", 0) + much * ask.count
    return needs


def show(name: str, amount: float) -> str:
    """An amount for people."""
    if "memory" in name or "storage" in name:
        return f"{amount / 2**30:.3g}Gi"
    return f"{amount:.3g}"
