"""What does an ended launch cost? The accepted price, for the GPUs that were ordered, while its machines ran.

A cluster sends no bills: what it costs is what the operator's price book says. Called when a launch is made (what was
agreed goes along with its main object) and recorded (the same again), when it is gone (the bill) and when its record is
closed (the bill again, so that a server after us tells the very same). Pure. A machine counts from when it was bound to
its node until its containers ended, by the cluster's own times, in whole seconds, the rest dropped; the sum is rounded
down to whole micro-dollars. Whose end nobody saw counts until its job was over, or we missed it. No launch costs more
than what was ordered: its workers' GPUs at once, none for longer than the order allows.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from orchestrator.adapters.providers.kubernetes.machines import Machine, moment
from orchestrator.adapters.providers.kubernetes.resources import Main, Record
from orchestrator.adapters.providers.kubernetes.sightings import FINISHED, Launch
from orchestrator.model.offer import Charge, LaunchOrder

ANNOTATION = "orchestrator.dev/agreed"
"""On a main object: what the launch was ordered for, if a price was accepted."""
AGREED = "agreed"
"""In a record's data: the same, for the main object may be gone by the time of the bill."""
BILL = "bill"
"""In a closed record's data: what it came to."""
_US = 1_000_000


class Agreed(Struct, frozen=True):
    """What a bill is made of, and what it must not pass."""

    price: int
    """Micro-dollars per GPU-hour."""
    gpus: int
    """Of each worker."""
    workers: int
    longest_ms: int


def on_main(order: LaunchOrder) -> dict[str, str]:
    """What a main object keeps of the order; nothing where no price was accepted."""
    if order.price is None:
        return {}
    said = Agreed(order.price, order.gpus, order.workers, order.delete_after_ms)
    return {ANNOTATION: msgspec.json.encode(said).decode()}


def unrecorded(launch: Launch) -> dict[str, str]:
    """What the launch's record is to say, and does not yet; nothing where no price is known."""
    text = next(iter(_elsewhere(launch)), "")
    return {AGREED: text} if text and not _in_record(launch) else {}


def bill(launch: Launch) -> Charge | None:
    """The final bill of a launch that is gone; None: no price was agreed, or somebody has spoilt it."""
    said = next(filter(None, map(_agreed, _in_record(launch) + _elsewhere(launch))), None)
    if said is None:
        return None
    finished = _finished(launch.main)
    ran = [(machine.began, _until(machine, finished)) for machine in launch.machines.values() if machine.began]
    seconds = said.gpus * sum(max(0, until - began) // _US for began, until in ran)
    span_us = max((until for _, until in ran), default=0) - min((began for began, _ in ran), default=0)
    most = said.gpus * said.workers * max(0, min(span_us, said.longest_ms * 1000)) // _US
    gpu_seconds = min(seconds, most)
    return Charge(f"{launch.key}-bill", launch.key, said.price * gpu_seconds // 3600, gpu_seconds, final=True)


def closing(charge: Charge | None) -> dict[str, str]:
    """What a closed record keeps of the bill."""
    return {} if charge is None else {BILL: msgspec.json.encode(charge).decode()}


def told(record: Record) -> Charge | None:
    """The bill in a closed record; None: it has none."""
    try:
        return msgspec.json.decode((record.data or {}).get(BILL, "null"), type=Charge | None)
    except msgspec.MsgspecError:
        return None


def _in_record(launch: Launch) -> list[str]:
    text = (launch.record.data or {}).get(AGREED, "") if launch.record else ""
    return [text] if text else []


def _elsewhere(launch: Launch) -> list[str]:
    """What was agreed as the main object says, or said while it was there."""
    text = (launch.main.metadata.annotations or {}).get(ANNOTATION, "") if launch.main else ""
    return [*filter(None, (text, launch.agreed))]


def _agreed(text: str) -> Agreed | None:
    try:
        return msgspec.json.decode(text, type=Agreed)
    except msgspec.MsgspecError:
        return None


def _until(machine: Machine, finished: int) -> int:
    """When it ended; one that ended while no server of ours looked was missed long after its job was over."""
    return min(machine.over, finished) if finished and not machine.said else machine.over


def _finished(main: Main | None) -> int:
    """When the main object was over by its own word; 0: it does not say."""
    if main is None:
        return 0
    status = main.status
    ends = (c.last_transition_time for c in status.conditions if c.type in FINISHED and c.status == "True")
    return moment(status.end_time or status.completion_time or next(ends, None))
