"""What did an attester put on record? Consents, evidence, waivers, events, classes and overrides.

Made by the desk for `orchestrator record …`, by the planner for a decline that covers more than its offer; carried by
the event `Recorded`, kept in the ledger's own row, read by core and the audit. A submitter never makes one.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace


class What(StrEnum):
    """Kinds of records."""

    CONSENT = "consent"
    EVIDENCE = "evidence"
    WAIVER = "waiver"
    EVENT = "event"
    CLASS = "class"
    OVERRIDE = "override"


class Record(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One record. What is left out of its subject is any: a record about nothing in particular is about every job."""

    id: str
    what: str
    """A `What`."""
    name: str = ""
    """evidence: what an exemption asks for; event: what happened; class: the class that the subject has."""
    holder: str = ""
    """consent, waiver: whose word it is."""
    clause: str = ""
    """`contract/clause` or `contract` that it is about; empty: any."""
    project: str = ""
    job: str = ""
    block: str = ""
    """`provider/name` of a block of owned capacity whose prolonging it is about, and no job."""
    block_to: int | None = None
    """The end that the block is to have by that."""
    classes: tuple[str, ...] = ()
    cited: bool = False
    """Counts only for jobs whose document cites it (`spec.evidence`)."""
    gpus: int | None = None
    """waiver: the largest job that it covers."""
    until: int | None = None
    """First moment at which it no longer counts; None: it does not expire."""
    document: str = ""
    """sha256 of the paper behind it."""
    approver: str = ""
    """The person who stands for it."""
    why: str = ""
    """In their words; an override always says it."""
    by: str = ""
    """Name of the token that recorded it: the attester."""
    at: int = 0
    """When it was recorded; the event's time."""


def about(record: Record, ref: str) -> bool:
    """Whether a record is about this clause (`contract/clause`)."""
    return record.clause in ("", ref, ref.partition("/")[0])


def same(one: Record, other: Record) -> bool:
    """Whether two records say the same, whenever they were made."""
    return replace(one, id="", at=0) == replace(other, id="", at=0)
