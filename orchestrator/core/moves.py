"""The table: which moves a job, its offers and its attempts may make.

Obeyed by `lifecycle`, which folds events by it; asked by whoever must know beforehand whether something may happen. The
diagrams in the documentation are drawn from these tables.
"""

from __future__ import annotations

from orchestrator.core.standing import active
from orchestrator.model.job import AttemptState, JobRow, JobState, OfferState

J, F, A = JobState, OfferState, AttemptState

JOB_MOVES: dict[JobState, dict[str, tuple[JobState, ...]]] = {
    J.QUEUED: {
        "OfferOpened": (J.OFFERING,), "RoundEnded": (J.QUEUED,), "Held": (J.HELD,), "Failed": (J.FAILED,),
        "CancelAsked": (J.STOPPING,),
    },
    J.OFFERING: {
        "OfferDelivered": (J.OFFERING,), "DeliveryFailed": (J.OFFERING,), "OfferAnswered": (J.OFFERING, J.QUEUED),
        "OfferLapsed": (J.QUEUED,), "OfferWithdrawn": (J.QUEUED,), "Split": (J.OFFERING,), "Intended": (J.LAUNCHING,),
        "CancelAsked": (J.STOPPING,),
    },
    J.LAUNCHING: {
        "Confirmed": (J.LAUNCHING,), "WentUnknown": (J.LAUNCHING,), "SeenAgain": (J.LAUNCHING,),
        "Started": (J.RUNNING,), "Fencing": (J.LAUNCHING, J.RECOVERING), "Fenced": (J.LAUNCHING,),
        "Ended": (J.QUEUED, J.RECOVERING, J.SUCCEEDED, J.FAILED), "CancelAsked": (J.STOPPING,),
        "Accessed": (J.LAUNCHING,), "ReclaimNoticed": (J.LAUNCHING,),
    },
    J.RUNNING: {
        "WentUnknown": (J.RUNNING,), "SeenAgain": (J.RUNNING,), "Fencing": (J.RECOVERING,),
        "Ended": (J.RECOVERING, J.SUCCEEDED, J.FAILED), "CancelAsked": (J.STOPPING,), "Accessed": (J.RUNNING,),
        "ReclaimNoticed": (J.RUNNING,),
    },
    J.RECOVERING: {
        "Fencing": (J.RECOVERING,), "Fenced": (J.RECOVERING, J.QUEUED), "WentUnknown": (J.RECOVERING,),
        "SeenAgain": (J.RECOVERING,), "Confirmed": (J.RECOVERING,), "Started": (J.RECOVERING,),
        "Ended": (J.QUEUED, J.RECOVERING, J.SUCCEEDED, J.FAILED), "CancelAsked": (J.STOPPING,),
        "Failed": (J.FAILED,),
    },
    J.STOPPING: {
        "OfferWithdrawn": (J.STOPPING,), "Confirmed": (J.STOPPING,), "WentUnknown": (J.STOPPING,),
        "SeenAgain": (J.STOPPING,), "Started": (J.STOPPING,), "Fencing": (J.STOPPING,), "Fenced": (J.STOPPING,),
        "Ended": (J.STOPPING, J.SUCCEEDED, J.FAILED), "Cancelled": (J.CANCELLED,),
    },
    J.HELD: {"Resumed": (J.QUEUED,), "CancelAsked": (J.STOPPING,), "Failed": (J.FAILED,)},
    J.SUCCEEDED: {}, J.FAILED: {}, J.CANCELLED: {},
}  # fmt: skip
"""state → event kind → states it may lead to."""
for _state in (J.QUEUED, J.OFFERING, J.LAUNCHING, J.RUNNING, J.RECOVERING, J.HELD):
    JOB_MOVES[_state]["Reshaped"] = (_state,)  # whatever else is going on
    if _state is not J.OFFERING:  # what is open is withdrawn first: its terms would be other ones
        JOB_MOVES[_state]["Scaled"] = (_state,)

FOR_A_PERSON = frozenset({"run_log_ahead", "run_log_part", "run_log_unread"})
"""Reasons for which a job is held that no change lifts, only a person, or its run log when it is read."""

EVIDENCE = frozenset({"LateAnswer", "Charged"})
"""Kinds that change no state and may follow a terminal one."""

OFFER_MOVES: dict[str, tuple[tuple[OfferState, ...], OfferState | None]] = {
    "OfferDelivered": ((F.OPENED,), F.DELIVERED),
    "DeliveryFailed": ((F.OPENED, F.DELIVERED), None),
    "OfferAnswered": ((F.DELIVERED,), None),
    "OfferLapsed": ((F.OPENED, F.DELIVERED), F.LAPSED),
    "OfferWithdrawn": ((F.OPENED, F.DELIVERED, F.ACCEPTED), F.WITHDRAWN),
    "Split": ((F.ACCEPTED,), None),
    "Intended": ((F.ACCEPTED,), None),
}
"""event kind → offer states it is legal in, and where it leads (None: the fold says)."""

ATTEMPT_MOVES: dict[str, tuple[tuple[AttemptState, ...], AttemptState | None]] = {
    "Confirmed": ((A.INTENDED, A.UNKNOWN), A.CONFIRMED),
    "WentUnknown": ((A.INTENDED, A.CONFIRMED, A.RUNNING), A.UNKNOWN),
    "SeenAgain": ((A.UNKNOWN,), None),
    "Started": ((A.CONFIRMED, A.UNKNOWN), A.RUNNING),
    "Ended": ((A.INTENDED, A.CONFIRMED, A.UNKNOWN, A.RUNNING), A.ENDED),
    "Accessed": ((A.CONFIRMED, A.UNKNOWN, A.RUNNING), None),
    "ReclaimNoticed": ((A.CONFIRMED, A.UNKNOWN, A.RUNNING), None),
}
"""event kind → attempt states it is legal in, and where it leads."""


class IllegalMove(Exception):
    """An event that the table does not allow here: a bug of ours or a forged ledger."""


def may_enter(row: JobRow, epoch: int) -> bool:
    """Whether this attempt is one at which somebody may be let in: held by its provider, neither over nor ending."""
    attempt = active(row) if "Accessed" in JOB_MOVES[row.state] else None
    return attempt is not None and attempt.epoch == epoch and attempt.state in ATTEMPT_MOVES["Accessed"][0]
