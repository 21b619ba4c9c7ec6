"""What does an API server's refusal mean, whose fault is it, and what should be done?

Called by the client for every reply that is no success. A ladder over status, reason and message: what it cannot place
among the client's errors is nobody's word, and nothing is known.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from orchestrator.model.offer import Reason, Scope
from orchestrator.ports.access import NotThere, NoWayIn
from orchestrator.ports.provider import Misconfigured, ProviderError, Throttled, Unreachable

GRANT = "grant create and get on pods/exec and pods/portforward (kubernetes.access of our chart)"
EXISTS = "AlreadyExists"
"""Why something new is not made: its name is taken. Any other conflict is one of the API server's own, in a quota's
count, say: nothing was made, and the next try makes it.
"""
RETRY_AFTER_S = 1.0
"""Where a server that turns us away does not say when to come back."""


class Absent(Exception):
    """There is no such object (or no such kind)."""


class Taken(Exception):
    """409: the name is taken, or the object has changed since it was read."""


class Expired(Exception):
    """410: the version to go on from is too old; read everything again."""


class Meaning(NamedTuple):
    """What a refused request says of the order behind it. `hold_off_s`: how long that is worth remembering."""

    reason: Reason
    scope: Scope = Scope.PROVIDER
    hold_off_s: int = 60


class Refused(Exception):
    """The cluster said no to one request, in its own words, for good."""

    def __init__(self, message: str, means: Meaning) -> None:
        super().__init__(message)
        self.means = means


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""


_SAYS: tuple[tuple[str, Meaning], ...] = (
    (r"exceeded quota|insufficient quota|limited:", Meaning(Reason.CAPACITY, Scope.PROVIDER, 60)),
    (r"violates PodSecurity", Meaning(Reason.POLICY, Scope.PROVIDER, 3600)),
    (r"admission webhook|ValidatingAdmissionPolicy|denied the request", Meaning(Reason.POLICY, Scope.PROVIDER, 300)),
    (r"is being terminated", Meaning(Reason.POLICY, Scope.PROVIDER, 300)),
    (r"maximum .* usage per|minimum .* usage per", Meaning(Reason.SPEC, Scope.PROVIDER, 3600)),
)
"""Refusals of admission, by what they say; tried in order."""


def problem(status: int, body: bytes, retry_after: str | None, what: str, *, making: bool = False) -> Exception:
    """The error that stands for this reply. `what`: what was being done, and where; `making`: something new."""
    said = _said(body)
    words = f"{what}: {status} {said.reason} {said.message}".strip()
    match status:
        case 401:
            return Misconfigured(
                f"{words}; the cluster does not know us: renew the kubeconfig's token or certificate, "
                "or log its exec plugin in"
            )
        case 404:
            return Absent(words)
        case 409 if making and said.reason != EXISTS:
            return Throttled(words, round(_seconds(retry_after) * 1_000_000))
        case 409:
            return Taken(words)
        case 410:
            return Expired(words)
        case 429:
            return Throttled(words, round(_seconds(retry_after) * 1_000_000))
        case 403:
            return _forbidden(said.message, words)
        case _ if 400 <= status < 500:
            return Refused(words, _means(said.message) or Meaning(Reason.SPEC, Scope.PROVIDER, 300))
    return Unreachable(f"{words}; nothing is known of it")


def shut(status: int, words: str) -> ProviderError:
    """The error behind a way into a pod that did not open; there is no body to read."""
    if status in (401, 403):
        return NoWayIn(f"{words}: we may not (status {status}); {GRANT}")
    if status in (400, 404):
        return NotThere(f"{words}: the pod is not there any more, or its container does not run (status {status})")
    return Unreachable(f"{words}: status {status}")


def _forbidden(message: str, words: str) -> ProviderError | Refused:
    means = _means(message)
    if means is not None:
        return Refused(words, means)
    return Misconfigured(f"{words}; `orchestrator providers check` lists the rights that are missing; grant them")


def _means(message: str) -> Meaning | None:
    return next((meaning for pattern, meaning in _SAYS if re.search(pattern, message)), None)


def _said(body: bytes) -> _Status:
    try:
        return msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError:
        return _Status(body[:200].decode(errors="replace"))


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.05, float(retry_after)) if retry_after else RETRY_AFTER_S
    except ValueError:
        return RETRY_AFTER_S
