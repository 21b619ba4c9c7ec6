"""The adapter's decisions without a cluster: room and quotas, whose word ends a machine, what refusals mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orchestrator.adapters.providers.kubernetes import asking
from orchestrator.adapters.providers.kubernetes.capacity import (
    Ask,
    quantity,
    requested,
    short_of_quota,
)
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.machines import Fate, Machine, fate, fate_of_missing, from_text, to_text
from orchestrator.adapters.providers.kubernetes.places import Places, short_of_room
from orchestrator.adapters.providers.kubernetes.resources import (
    KEY,
    LEDGER,
    MANAGED_BY,
    OURS,
    US,
    Main,
    Node,
    Pod,
    PodSpec,
    Quota,
    Record,
)
from orchestrator.adapters.providers.kubernetes.rights import rights
from orchestrator.adapters.providers.kubernetes.room import Room, Stock
from orchestrator.adapters.providers.kubernetes.sightings import Launch, sighting
from orchestrator.model.offer import KEPT, Reason, Scope, SightingState
from orchestrator.testing.builders import an_offer, an_order, some_terms
from tests.kubernetes.cluster import Doc

GPU = "nvidia.com/gpu"
LABELS = {MANAGED_BY: US, LEDGER: "l1", KEY: "k-e1"}
CONNECTION = parse_connection("k", {"image": "i", "agentImage": "a", "accelerators": {"H100": {}}})


def node(
    name: str = "n1",
    gpus: int = 8,
    *,
    ready: bool = True,
    taints: tuple[dict[str, str], ...] = (),
    memory: str = "512Gi",
) -> Node:
    status = {
        "allocatable": {"cpu": "64", "memory": memory, "pods": "110", GPU: str(gpus)},
        "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
    }
    return msgspec.convert({"metadata": {"name": name}, "spec": {"taints": taints}, "status": status}, Node)


def pod(phase: str = "Running", on: str = "n1", gpus: int = 0, **labels: str) -> Pod:
    container = {"name": "c", "resources": {"requests": {GPU: str(gpus), "cpu": "1"}}}
    meta = {"name": "p1", "uid": "u1", "labels": labels}
    doc = {"metadata": meta, "spec": {"nodeName": on, "containers": [container]}, "status": {"phase": phase}}
    return msgspec.convert(doc, Pod)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("4", 4),
        ("500m", 0.5),
        ("32Gi", 32 * 2**30),
        ("23986516Ki", 23986516 * 1024),
        ("1e3", 1000),
        (4, 4),
        ("2E", 2e18),
    ],
)
def test_quantities_are_read_as_kubernetes_means_them(text: Any, amount: float) -> None:
    assert quantity(text) == pytest.approx(amount)


def test_a_pod_takes_its_containers_or_its_largest_first_step() -> None:
    containers = [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "1"}}}]
    first = [{"resources": {"requests": {"cpu": "3"}}}]
    spec = msgspec.convert({"containers": containers, "initContainers": first, "overhead": {"cpu": "100m"}}, PodSpec)
    assert requested(spec)["cpu"] == pytest.approx(3.1)


@pytest.mark.parametrize(
    ("whole", "takes"),
    [
        ({"requests": {"cpu": "32"}}, {"cpu": 32.1, "memory": 2}),
        ({"requests": {"cpu": "32", "memory": "7"}, "limits": {"cpu": "64"}}, {"cpu": 32.1, "memory": 7}),
        ({"limits": {"cpu": "64"}}, {"cpu": 1.1, "memory": 2}),
        ({"limits": {"hugepages-2Mi": "4"}}, {"cpu": 1.1, "hugepages-2Mi": 4}),
        ({}, {"cpu": 1.1, "memory": 2}),
        (None, {"cpu": 1.1, "memory": 2}),
    ],
)
def test_a_pod_that_says_what_it_takes_as_a_whole_takes_that(whole: Any, takes: dict[str, float]) -> None:
    containers = [{"resources": {"requests": {"cpu": "1", "memory": "2", GPU: "8"}}}]
    doc = {"containers": containers, "resources": whole, "overhead": {"cpu": "100m"}}
    found = requested(msgspec.convert(doc, PodSpec))
    assert {name: found.get(name) for name in takes} == pytest.approx(takes) and found[GPU] == 8


# ---- room ------------------------------------------------------------------------------------------------------------


def test_what_runs_takes_room_and_what_is_over_does_not() -> None:
    ask = [Ask(1, {GPU: 4})]
    assert short_of_room([node()], [pod(gpus=4)], (), ask) is None
    short = short_of_room([node()], [pod(gpus=5)], (), ask)
    assert short is not None and not short.ever
    assert short.detail.startswith("0 of 1 pods fit on 1 nodes; nvidia.com/gpu: a pod takes 4, at most 3 is free")
    assert short_of_room([node()], [pod("Succeeded", gpus=5)], (), ask) is None


def test_what_was_promised_comes_first() -> None:
    assert short_of_room([node()], [], [Ask(1, {GPU: 5})], [Ask(1, {GPU: 4})]) is not None


def test_what_an_empty_cluster_would_not_hold_is_short_for_ever() -> None:
    short = short_of_room([node(), node("n2")], [], (), [Ask(3, {GPU: 8})])
    assert short is not None and short.ever and "2 of 3 pods fit" in short.detail
    short = short_of_room([node(gpus=4)], [], (), [Ask(1, {GPU: 8})])
    assert short is not None and short.ever
    assert "a pod takes 8, at most 4 is left on one node, even where nothing else runs" in short.detail


def test_a_node_that_is_not_ready_is_no_room_but_is_not_missing_for_ever() -> None:
    short = short_of_room([node(ready=False)], [], (), [Ask(1, {GPU: 1})])
    assert short is not None and not short.ever


def test_taints_are_stood_only_by_tolerations() -> None:
    tainted = node(taints=({"key": "gpu", "effect": "NoSchedule"},))
    assert short_of_room([tainted], [], (), [Ask(1, {GPU: 1})]) is not None
    tolerant = Ask(1, {GPU: 1}, tolerations=({"key": "gpu", "operator": "Exists"},))
    assert short_of_room([tainted], [], (), [tolerant]) is None


def test_a_node_whose_state_keeps_new_pods_off_is_no_room_now() -> None:
    pressed = node(taints=({"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"},))
    short = short_of_room([pressed], [], (), [Ask(1, {GPU: 1})])
    assert short is not None and not short.ever


def test_a_quota_names_what_is_missing() -> None:
    status = {"hard": {f"requests.{GPU}": "4"}, "used": {f"requests.{GPU}": "3"}}
    quota = msgspec.convert({"metadata": {"name": "team"}, "status": status}, Quota)
    short = short_of_quota([quota], {f"requests.{GPU}": 2})
    assert short is not None and not short.ever
    assert short.detail == "quota team: requests.nvidia.com/gpu: 2 and 3 in use would pass 4; 1 missing"
    assert short_of_quota([quota], {f"requests.{GPU}": 1}) is None


def test_a_room_answers_each_offer_once_and_keeps_what_it_promised() -> None:
    room, stock = Room(CONNECTION, "kuberay"), Stock([node(gpus=8)], [])
    first, second = an_offer(n=1, terms=some_terms(memory=0)), an_offer(n=2, terms=some_terms(memory=0))
    assert room.receipt(first, stock, 0).answer.accepted  # type: ignore[union-attr]
    no = room.receipt(second, stock, 0).answer
    assert no is not None and (no.reason, no.scope, no.until) == (Reason.CAPACITY, Scope.ACCELERATOR, 60_000_000)
    assert room.release(first.offer) and room.receipt(second, stock, 0).answer is no


def test_a_launch_is_the_first_try_once_and_shortly_after_its_acceptance() -> None:
    room, stock = Room(CONNECTION, "kuberay"), Stock([node(gpus=8), node("n2", gpus=8)], [])
    soon, late = an_offer(n=1, terms=some_terms(memory=0)), an_offer(n=2, terms=some_terms(memory=0))
    assert all(room.receipt(offer, stock, 0).answer.accepted for offer in (soon, late))  # type: ignore[union-attr]
    assert [room.first(soon.offer, 1_000_000), room.first(soon.offer, 1_000_000)] == [True, False]
    assert not room.first(late.offer, 61_000_000), "another server may have led by then"
    assert not room.first("accepted-by-a-server-before-us", 0)


def test_of_an_elastic_job_a_room_takes_what_fits_and_keeps_that_alone() -> None:
    room, stock = Room(CONNECTION, "kuberay"), Stock([node(gpus=8)], [])
    range_of = some_terms(min_workers=1, workers=9, gpus_per_worker=3, memory=0)
    first, second = (
        an_offer(n=1, terms=range_of),
        an_offer(n=2, terms=some_terms(workers=1, memory=0, gpus_per_worker=2)),
    )
    yes = room.receipt(first, stock, 0).answer
    assert yes is not None and (yes.accepted, yes.workers) == (True, 2)
    assert room.receipt(second, stock, 0).answer.accepted  # type: ignore[union-attr]


def test_a_room_counts_anew_once_another_operator_starts_its_launches() -> None:
    order = an_order(workers=2, gpus=1)
    takes = asking.asked_by(order, CONNECTION, "kuberay"), asking.asked_by(order, CONNECTION, "job")
    by_ray, by_job = (sum(int(ask.takes["memory"]) * ask.count for ask in asks) for asks in takes)
    assert by_ray < by_job
    room, stock = Room(CONNECTION, "kuberay"), Stock([node(gpus=8, memory=str(by_ray))], [])
    assert room.refused(order, stock, 0) is None
    room.runtime = "job"
    short = room.refused(order, stock, 0)
    assert short is not None and "memory" in short.detail


def test_room_that_was_given_back_is_offered_again() -> None:
    room, stock = Room(CONNECTION, "kuberay"), Stock([node(gpus=8)], [])
    first, second = an_offer(n=1, terms=some_terms(memory=0)), an_offer(n=2, terms=some_terms(memory=0))
    assert room.receipt(first, stock, 0).answer.accepted  # type: ignore[union-attr]
    assert room.release(first.offer) and not room.release(first.offer)
    assert room.receipt(second, stock, 0).answer.accepted  # type: ignore[union-attr]


def test_an_earmark_nobody_used_ends_by_itself() -> None:
    room, stock = Room(CONNECTION, "kuberay"), Stock([node(gpus=8)], [])
    first, second = an_offer(n=1, terms=some_terms(memory=0)), an_offer(n=2, terms=some_terms(memory=0))
    assert room.receipt(first, stock, 0).answer.accepted  # type: ignore[union-attr]
    assert room.receipt(second, stock, 600_000_000).answer.accepted  # type: ignore[union-attr]


def test_places_that_were_taken_can_be_given_back() -> None:
    places = Places([node(), node("n2")], [])
    lacking, taken = places.take([Ask(3, {GPU: 8})])
    assert lacking and places.short([Ask(1, {GPU: 1})]) is not None
    places.give_back(taken)
    assert places.short([Ask(2, {GPU: 8})]) is None


@pytest.mark.parametrize(
    ("takes", "where"),
    [({GPU: 1}, "one"), ({GPU: 2}, "three"), ({GPU: 4}, "four"), ({GPU: 5}, ""), ({"cpu": 2}, "four"), ({}, "four")],
)
def test_one_pod_takes_the_node_with_least_that_has_enough(takes: dict[str, float], where: str) -> None:
    rooms = {"four": 4, "one": 1, "three": 3, "none": 0, "one too": 1}
    places = Places([node(name, gpus) for name, gpus in rooms.items()], [])
    assert [on for _, on, _ in places.take([Ask(1, takes)])[1]] == [where][: bool(where)]


def test_an_accelerator_that_is_not_here_is_said() -> None:
    answer = (
        Room(CONNECTION, "job").receipt(an_offer(terms=some_terms(accelerators=("B200",))), Stock([], []), 0).answer
    )
    assert answer is not None and answer.reason is Reason.SPEC
    assert answer.detail == "accelerators here: H100; asked for B200"


# ---- machines --------------------------------------------------------------------------------------------------------


def test_a_terminal_phase_counts_only_from_a_node_that_is_ready() -> None:
    assert fate(pod("Failed"), node()) is Fate.ENDED
    assert fate(pod("Failed"), node(ready=False)) is Fate.LOST
    assert fate(pod("Failed"), None) is Fate.LOST
    assert fate(pod("Running"), node()) is Fate.ALIVE


def test_a_pod_that_vanished_is_lost_until_its_node_has_been_ready_for_longer_than_being_cut_off_stays_unseen() -> None:
    machine, second = Machine("p1", "n1", grace_s=30), 1_000_000
    assert fate_of_missing(machine, node(ready=False), 900 * second, 0) is Fate.LOST
    assert fate_of_missing(machine, None, 900 * second, 0) is Fate.LOST
    for missing, ready in ((900, 99), (99, 900)):
        assert fate_of_missing(machine, node(), missing * second, ready * second) is Fate.LOST
    assert fate_of_missing(machine, node(), 100 * second, 100 * second) is Fate.ENDED


def test_a_node_that_a_person_says_is_switched_off_has_no_machines() -> None:
    off = node(ready=False, taints=({"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"},))
    assert fate_of_missing(Machine("p1", "n1"), off, 0, 0) is Fate.ENDED


def test_machines_are_read_back_as_written() -> None:
    machines = {"u1": Machine("p1", "n1", 30, True)}
    assert from_text(to_text(machines)) == machines and from_text("spoilt") == {}


# ---- sightings -------------------------------------------------------------------------------------------------------


def launch(state: str = "launched", main: dict[str, Any] | None = None, **more: Any) -> Launch:
    record = msgspec.convert({"metadata": {"name": "k-e1", "labels": LABELS}, "data": {"state": state}}, Record)
    made = None if main is None else msgspec.convert({"metadata": {"name": "run-k-e1", "labels": LABELS}, **main}, Main)
    return Launch(key="k-e1", record=record, main=made, **more)


RAY = {"kind": "RayJob", "status": {"jobDeploymentStatus": "Running"}}
OVER: Doc = {"kind": "RayJob", "status": {"jobDeploymentStatus": "Failed", "reason": "AppFailed"}}
HEAD = Machine("p1", "n1", head=True)
ALIVE, ENDED, LOST = ({"u1": one} for one in (Fate.ALIVE, Fate.ENDED, Fate.LOST))


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (launch(), SightingState.PROVISIONING),
        (launch(main={"kind": "RayJob"}), SightingState.PROVISIONING),
        (launch(main=RAY, pods=(pod(),), fates=ALIVE), SightingState.RUNNING),
        (launch(main=RAY, pods=(pod(),), fates=LOST), SightingState.RUNNING),
        (launch(main=OVER, pods=(pod(),), fates=ALIVE), SightingState.ENDED),
        (launch(main=OVER, pods=(pod(),), fates=LOST), SightingState.ENDED),
        (launch(main=OVER, pods=(pod("Failed"),), fates=ENDED), SightingState.GONE),
        (launch("evicted", main=RAY, fates=ALIVE), SightingState.ENDED),
        (launch(main=RAY, machines={"u1": HEAD}, fates=ENDED | {"u2": Fate.ALIVE}), SightingState.ENDED),
        (launch(main=RAY, machines={"u1": HEAD}, fates=LOST), SightingState.RUNNING),
        (launch("stopped", main=RAY, fates=ENDED), SightingState.STOPPING),
        (launch("stopped", fates=LOST), SightingState.STOPPING),
        (launch("stopped", fates=ENDED), SightingState.GONE),
        (launch(machines={"u1": Machine("p1", "n1")}, fates=LOST), SightingState.STOPPING),
        (launch(machines={"u1": Machine("p1", "n1")}, fates=ENDED), SightingState.GONE),
    ],
)
def test_a_sighting_follows_from_object_and_machines(seen: Launch, state: SightingState) -> None:
    said = sighting(seen, {"n1": node()}, 7)
    assert said is not None and (said.state, said.ledger, said.seen_at) == (state, "l1", 7)


CREATING = {"waiting": {"reason": "ContainerCreating"}}
PULLING = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nosuch:1"'}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
UNSET = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "nosuch" not found'}}
DIED = {"terminated": {"reason": "Error", "exitCode": 2, "finishedAt": "2026-03-01T10:00:00Z"}}


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        ({"running": {"startedAt": "2026-03-01T10:00:00Z"}}, INITIALIZING, ""),
        ({"terminated": {"reason": "Completed", "exitCode": 0}}, CREATING, ""),
        (PULLING, INITIALIZING, 'p1/agent: ImagePullBackOff: Back-off pulling image "nosuch:1"'),
        ({}, PULLING, 'p1/ray: ImagePullBackOff: Back-off pulling image "nosuch:1"'),
        ({}, UNSET, 'p1/ray: CreateContainerConfigError: secret "nosuch" not found'),
        (DIED, INITIALIZING, "p1/agent: Error exit 2"),
    ],
)
def test_why_a_container_of_a_launch_has_not_started_is_said(first: Doc, then: Doc, says: str) -> None:
    statuses = {"initContainerStatuses": [{"name": "agent", "state": first}]}
    statuses["containerStatuses"] = [{"name": "ray", "state": then}]
    doc = {"metadata": {"name": "p1", "uid": "u1"}, "spec": {"nodeName": "n1"}, "status": statuses}
    said = sighting(launch(main={"kind": "Job"}, pods=(msgspec.convert(doc, Pod),), fates=ALIVE), {"n1": node()}, 0)
    assert said is not None and (said.state, said.detail) == (SightingState.PROVISIONING, says)


ENTRYPOINT = "Job entrypoint command failed with exit code 64"
RUNNING = "2026-11-29 10:12:01,345\tINFO job_manager.py:568 -- Runtime env is set up."
WRONG = 'orchestrator.agent: ORCHESTRATOR_ATTEMPT: no store of this attempt: "s3"'


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (ENTRYPOINT, ENTRYPOINT),
        (
            f"{ENTRYPOINT}, last available logs (truncated to 20,000 chars):\n{RUNNING}\nTraceback:\n{WRONG}\n",
            f"{ENTRYPOINT}: …Traceback: {WRONG}",
        ),
        (f"{ENTRYPOINT}, last available logs:\n{'x' * 500} {WRONG}", f"xx {WRONG}"),
        (f"{ENTRYPOINT}, last available logs (truncated to 20,000 chars):{' ' * 300}", ENTRYPOINT),
        (f"{ENTRYPOINT}, last available logs:\n\n\n{'x' * 500}\n\n", "xx"),
    ],
)
def test_of_a_long_message_its_beginning_and_its_last_lines_are_kept(message: str, says: str) -> None:
    over = {"kind": "RayJob", "status": OVER["status"] | {"message": message}}
    said = sighting(launch(main=over, pods=(pod("Failed"),), fates=ENDED), {"n1": node()}, 0)
    assert said is not None and said.detail.startswith("Failed: AppFailed: ") and said.detail.endswith(says)
    assert len(said.detail) <= KEPT


def test_what_is_not_ours_is_never_said() -> None:
    theirs = Launch(key="k-e1", record=None, main=msgspec.convert({"metadata": {"name": "run-k-e1"}}, Main))
    assert sighting(theirs, {}, 0) is None


def test_every_right_says_what_it_is_for_and_none_is_named_twice() -> None:
    for queue, ray in ((None, True), (None, False), ("q", True)):
        found = [*rights(msgspec.structs.replace(CONNECTION, queue=queue), ray=ray)]
        assert all(right.why for right in found) and len({r.words for r in found}) == len(found)
    wants_jobs = msgspec.structs.replace(CONNECTION, runtime="job")
    assert [*rights(wants_jobs, ray=True)] == [*rights(wants_jobs, ray=False)] == [*rights(CONNECTION, ray=False)]
    assert OURS == "app.kubernetes.io/managed-by=orchestrator,orchestrator.dev/ledger"
