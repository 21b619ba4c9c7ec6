"""Whom was an offer made past? Parts of events: kept with the decision that passed them."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.model.job import RefusalRow


class Skip(Struct, frozen=True, omit_defaults=True, array_like=True, gc=False):
    """A provider that was passed over in a decision, and why."""

    provider: str
    reason: str
    until: int = 0


class Gate(Struct, frozen=True, array_like=True, gc=False):
    """A first right that was passed: declined | lapsed | undeliverable | accept_failed | split | accepted."""

    clause: str
    holder: str
    by: str
    offer: int | str
    """Its number; its id where it was an offer of another job, of which this one was left."""


class Rest(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """Where a job comes from that is what an acceptance of a part has left of another (R7)."""

    offer: str
    """`<job>-o<n>`: the offer of which a part was accepted."""
    workers: int
    piece: int
    """The first of its pieces, among those of the whole."""
    root: str = ""
    """The job that was submitted, where that is not the one that was split: it was left of another itself."""
    since: int
    """When the other's episode began: to start by counts from there."""
    asked: tuple[str, ...] = ()
    """Who was asked for the whole in that round."""
    refused: tuple[RefusalRow, ...] = ()
    """Who refused the whole, and who refused this by taking the other part."""

    @property
    def job(self) -> str:
        """The job that was split."""
        return self.offer.rpartition("-o")[0]
