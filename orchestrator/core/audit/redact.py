"""Which bodies of an export may somebody see? The others are left out; their hashes stay, and the chain still holds.

Called by `orchestrator audit export`. A body goes or stays whole, because it is hashed whole; its salt goes with it,
so that nobody can confirm a guess. Numbers, times, kinds, projects and job ids stay: the chain is made of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

_OF_ALL = frozenset({"Led", "ControllerAbsent", "ContractInForce", "ProvidersInForce", "Restored"})
"""Kinds that tell nothing of any provider. Their documents do, and stay behind."""
_OURS = frozenset({"Intended", "Split", "Scaled"})
"""Kinds that are about jobs of theirs and tell more than concerns them: which rights of others were passed, and how; as
what the job is decided from then on (its project, labels and own ceiling); which job is left, that others are offered;
of which size it is to be, which others may be offered first."""


class Disclosure(Protocol):
    """Asked for every event in the ledger's order."""

    def shows(self, job: str, body: Mapping[str, Any]) -> bool:
        """Whether this body may be seen."""
        ...


class ButJobs:
    """Everything but what happened to these jobs."""

    def __init__(self, jobs: Collection[str]) -> None:
        self._jobs = frozenset(jobs)

    def shows(self, job: str, body: Mapping[str, Any]) -> bool:
        """See Disclosure."""
        return job not in self._jobs


class ForProvider:
    """What concerns one provider: offers to it, what became of them, its attempts; when nobody led, and when the ledger
    was put back.

    An offer to it is shown, or it could not be compared with its receipt, and whole, as it was hashed: with who was
    passed over, what had freed the job, and the block that it was meant for, also another supplier's behind a right of
    this one.

    Not what is ours alone: why an attempt was intended there, how a job was split of which it took a part, and what
    size one that runs there is to have, which is nobody's business before it is offered. *That* it is to have another
    is no secret: kinds stay, the chain is made of them. So the end of its attempt says `scaled`, which is fair to the
    provider too: it did not lose the job, and an offer that was taken back so is no refusal of its.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._offers: set[tuple[str, int]] = set()
        self._epochs: set[tuple[str, int]] = set()

    def shows(self, job: str, body: Mapping[str, Any]) -> bool:
        """See Disclosure."""
        theirs = body.get("provider") == self._provider
        if body["kind"] == "OfferOpened" and theirs:
            self._offers.add((job, body["n"]))
        elif body["kind"] == "Intended" and theirs:
            self._epochs.add((job, body["epoch"]))
        if body["kind"] in _OURS:
            return False
        if body["kind"] in _OF_ALL or theirs:
            return True
        by = self._epochs if "epoch" in body else self._offers
        return (job, body.get("epoch", body.get("n"))) in by
