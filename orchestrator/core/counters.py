"""What do the metrics count? The projection of ledger events to counters that are stored in the events' own commit.

Called by the engine for every event it commits (`count`) and by whoever shows or recounts them (`FAMILIES`). Values are
integers: seconds are counted in microseconds. Keys are canonical text, `name{label="value",…}` with labels sorted.
Pure; labels come from closed sets and from providers' names, so their number stays small.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from msgspec import Struct

from orchestrator.model import event as ev
from orchestrator.model.job import TERMINAL, JobRow, JobState


class Family(Struct, frozen=True):
    """One metric as Prometheus sees it."""

    name: str
    kind: Literal["counter", "histogram"]
    help: str
    microseconds: bool = False
    """Stored in microseconds, shown in seconds."""


FAMILIES: tuple[Family, ...] = (
    Family("orchestrator_jobs_submitted_total", "counter", "Jobs taken in."),
    Family("orchestrator_jobs_finished_total", "counter", "Jobs that ended, by final state."),
    Family("orchestrator_offers_opened_total", "counter", "Offers made, by provider and whether a first right gates."),
    Family("orchestrator_offers_total", "counter", "Offers that ended, by provider, answer and reason."),
    Family("orchestrator_offer_answer_seconds", "histogram", "From an offer to its answer or lapse.", True),
    Family("orchestrator_late_answers_total", "counter", "Answers to offers that were closed already."),
    Family("orchestrator_phase_seconds_total", "counter", "Time that jobs spent in each state.", True),
    Family("orchestrator_attempts_total", "counter", "Attempts intended, by provider."),
    Family("orchestrator_attempts_started_total", "counter", "Attempts whose user code began, by provider."),
    Family("orchestrator_attempts_ended_total", "counter", "Attempts that ended, by provider and how."),
    Family(
        "orchestrator_failovers_total",
        "counter",
        "Attempts after one that had started and was lost, by where from and to.",
    ),
    Family(
        "orchestrator_unknowns_total", "counter", "Times that an attempt's state became unknown, by provider and why."
    ),
    Family(
        "orchestrator_accept_failed_total",
        "counter",
        "Accepted offers whose launch, sent in time, was rejected or never started, by provider.",
    ),
    Family(
        "orchestrator_breach_evidence_total",
        "counter",
        "Those of them where the capacity was firm: evidence of a breach, by provider.",
    ),
    Family("orchestrator_fences_total", "counter", "Fences that stand in run logs."),
    Family("orchestrator_swept_launches_total", "counter", "Launches ended because nobody owned them, by provider."),
    Family("orchestrator_swept_gpus_total", "counter", "GPUs released by the sweep, by provider."),
    Family("orchestrator_accesses_total", "counter", "Times that somebody was let in at a running job, by what for."),
    Family("orchestrator_leads_total", "counter", "Times that a server took the lead."),
    Family("orchestrator_absent_seconds_total", "counter", "Time in which nobody led.", True),
)

ANSWER_BUCKETS_US: tuple[int, ...] = tuple(
    int(seconds * 1_000_000) for seconds in (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 86_400)
)
"""Upper bounds: from an API call to the longest window that people agree on; beyond is +Inf."""


_UNLABELLED = (
    "orchestrator_absent_seconds_total",
    "orchestrator_fences_total",
    "orchestrator_jobs_submitted_total",
    "orchestrator_leads_total",
)


def zeros(providers: Iterable[str]) -> dict[str, int]:
    """Counters from nought, of what people watch: without them nobody sees the first one come."""
    found = dict.fromkeys(_UNLABELLED, 0)
    for provider in providers:
        found[key("orchestrator_accept_failed_total", provider=provider)] = 0
        found[key("orchestrator_breach_evidence_total", provider=provider)] = 0
        found[key("orchestrator_offers_total", provider=provider, answer="lapsed", reason="silence")] = 0
        found[key("orchestrator_swept_gpus_total", provider=provider)] = 0
        found[key("orchestrator_swept_launches_total", provider=provider)] = 0
    return found


def count(event: ev.AnyEvent, at: int, before: JobRow | None, after: JobRow | None) -> dict[str, int]:
    """What one event adds, by counter key. Rows are the job's before and after it; None where there is none."""
    one = _COUNT.get(ev.kind_of(event))
    added = one(event, at, before, after) if one else {}
    if before is not None and after is not None and before.state not in TERMINAL:
        added[_PHASES[before.state]] = at - before.applied_at
        if after.state in TERMINAL:
            added[key("orchestrator_jobs_finished_total", state=after.state.value)] = 1
    return added


@lru_cache(maxsize=4096)
def key(name: str, **labels: str) -> str:
    """The canonical key of a counter: labels sorted, values escaped as in Prometheus' text format."""
    if not labels:
        return name
    inside = ",".join(f'{label}="{_escaped(labels[label])}"' for label in sorted(labels))
    return f"{name}{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_PHASES = {state: key("orchestrator_phase_seconds_total", phase=state.value) for state in JobState}
"""At hand, because every event of a job needs one."""


def bucket(microseconds: int) -> str:
    """The bound, in seconds, of the one bucket that an observation falls in (not cumulative; shown so)."""
    place = bisect_left(ANSWER_BUCKETS_US, microseconds)
    return "+Inf" if place == len(ANSWER_BUCKETS_US) else str(ANSWER_BUCKETS_US[place] / 1_000_000)


Counts = dict[str, int]


def _submitted(e: ev.Submitted, at: int, before: JobRow | None, after: JobRow) -> Counts:
    return {key("orchestrator_jobs_submitted_total"): 1}


def _opened(e: ev.OfferOpened, at: int, before: JobRow, after: JobRow) -> Counts:
    gated = "true" if e.clause else "false"
    return {key("orchestrator_offers_opened_total", provider=e.provider, gated=gated): 1}


def offered(counters: Mapping[str, int], provider: str) -> int:
    """How many offers were ever opened at a provider: the ordinal of its last one."""
    name = "orchestrator_offers_opened_total"
    return sum(counters.get(key(name, provider=provider, gated=gated), 0) for gated in ("true", "false"))


def _closed(at: int, before: JobRow, answer: str, reason: str, *, timed: bool = True) -> Counts:
    offer = before.offer
    if offer is None:
        return {}
    added = {key("orchestrator_offers_total", provider=offer.provider, answer=answer, reason=reason): 1}
    if timed:
        took = at - offer.opened_at
        added[key("orchestrator_offer_answer_seconds_bucket", provider=offer.provider, le=bucket(took))] = 1
        added[key("orchestrator_offer_answer_seconds_sum", provider=offer.provider)] = took
    return added


def _answered(e: ev.OfferAnswered, at: int, before: JobRow, after: JobRow) -> Counts:
    return _closed(at, before, "accepted" if e.accepted else "declined", "" if e.accepted else e.reason)


def _lapsed(e: ev.OfferLapsed, at: int, before: JobRow, after: JobRow) -> Counts:
    return _closed(at, before, "lapsed", e.how)


def _withdrawn(e: ev.OfferWithdrawn, at: int, before: JobRow, after: JobRow) -> Counts:
    return _closed(at, before, "withdrawn", e.why, timed=False)


def _late(e: ev.LateAnswer, at: int, before: JobRow, after: JobRow) -> Counts:
    return {key("orchestrator_late_answers_total", answer="accepted" if e.accepted else "declined"): 1}


def _intended(e: ev.Intended, at: int, before: JobRow, after: JobRow) -> Counts:
    added = {key("orchestrator_attempts_total", provider=e.provider): 1}
    ran = [attempt for attempt in before.attempts if attempt.started_at is not None]
    if ran and ran[-1].why != "scaled":
        added[key("orchestrator_failovers_total", origin=ran[-1].provider, target=e.provider)] = 1
    return added


def _at(row: JobRow, epoch: int) -> str:
    return next((attempt.provider for attempt in row.attempts if attempt.epoch == epoch), "")


def _started(e: ev.Started, at: int, before: JobRow, after: JobRow) -> Counts:
    return {key("orchestrator_attempts_started_total", provider=_at(before, e.epoch)): 1}


def _ended(e: ev.Ended, at: int, before: JobRow, after: JobRow) -> Counts:
    provider = _at(before, e.epoch)
    added = {key("orchestrator_attempts_ended_total", provider=provider, how=e.how): 1}
    if e.refused or (e.how == "rejected" and not e.late):
        added[key("orchestrator_accept_failed_total", provider=provider)] = 1
    if e.firm:
        added[key("orchestrator_breach_evidence_total", provider=provider)] = 1
    return added


def _unknown(e: ev.WentUnknown, at: int, before: JobRow, after: JobRow) -> Counts:
    return {key("orchestrator_unknowns_total", provider=_at(before, e.epoch), why=e.why): 1}


def _fenced(e: ev.Fenced, at: int, before: JobRow, after: JobRow) -> Counts:
    return {key("orchestrator_fences_total"): 1}


def _swept(e: ev.Swept, at: int, before: JobRow | None, after: JobRow | None) -> Counts:
    return {
        key("orchestrator_swept_launches_total", provider=e.provider): 1,
        key("orchestrator_swept_gpus_total", provider=e.provider): e.gpus,
    }


def _accessed(e: ev.Accessed, at: int, before: JobRow, after: JobRow) -> Counts:
    return {key("orchestrator_accesses_total", what=e.what): 1}


def _led(e: ev.Led, at: int, before: JobRow | None, after: JobRow | None) -> Counts:
    return {key("orchestrator_leads_total"): 1}


def _absent(e: ev.ControllerAbsent, at: int, before: JobRow | None, after: JobRow | None) -> Counts:
    return {key("orchestrator_absent_seconds_total"): e.until - e.since}


_COUNT: Mapping[str, Callable[[Any, int, Any, Any], Counts]] = {
    "Submitted": _submitted, "OfferOpened": _opened, "OfferAnswered": _answered, "OfferLapsed": _lapsed,
    "OfferWithdrawn": _withdrawn, "LateAnswer": _late, "Intended": _intended, "Started": _started, "Ended": _ended,
    "WentUnknown": _unknown, "Fenced": _fenced, "Swept": _swept, "Led": _led, "ControllerAbsent": _absent,
    "Accessed": _accessed,
}  # fmt: skip
