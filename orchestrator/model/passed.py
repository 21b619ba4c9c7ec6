"""Whom was an offer made past? Parts of events: kept with the decision that passed them."""

from __future__ import annotations

from msgspec import Struct


class Skip(Struct, frozen=True, omit_defaults=True, array_like=True, gc=False):
    """A provider that was passed over in a decision, and why."""

    provider: str
    reason: str
    until: int = 0


class Gate(Struct, frozen=True, array_like=True, gc=False):
    """A first right that was passed, and by what: declined | lapsed | undeliverable | accept_failed | accepted."""

    clause: str
    holder: str
    by: str
    offer: int
