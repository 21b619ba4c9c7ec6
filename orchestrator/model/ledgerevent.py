"""What can happen to the whole ledger, and the base of every event.

Part of `model.event`, which gives them all; see there.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.model.capacity import Block
from orchestrator.model.record import Record


class Event(Struct, frozen=True, omit_defaults=True, tag_field="kind", gc=False):
    """Base of all kinds. The ledger's envelope holds sequence, time, kind, project and job; the body holds the rest."""


class Led(Event, frozen=True, tag="Led"):
    """A server took the lead."""

    term: int


class ControllerAbsent(Event, frozen=True, tag="ControllerAbsent"):
    """Nobody led between these moments; open windows grow by it."""

    since: int
    until: int


class ContractInForce(Event, frozen=True, tag="ContractInForce"):
    """From here on decisions obey contract version n (document in specs by digest; "" = no contract set)."""

    n: int
    digest: str
    by: str = ""
    """Name of the token that applied it while the server ran; empty: the server's own file, at its start."""


class ProvidersInForce(Event, frozen=True, tag="ProvidersInForce"):
    """From here on decisions use provider set n (document in specs by digest)."""

    n: int
    digest: str


class CapacityInForce(Event, frozen=True, tag="CapacityInForce"):
    """From here on these blocks of capacity are owned, and no others."""

    blocks: tuple[Block, ...]
    by: str = ""
    """Name of the token that applied it while the server ran; empty: the server's own file, at its start."""


class Swept(Event, frozen=True, tag="Swept"):
    """The sweep found something alive that is nobody's business and ordered its end (once per key)."""

    provider: str
    key: str
    gpus: int


class Recorded(Event, frozen=True, tag="Recorded"):
    """An attester put something on record; from here on decisions know of it."""

    record: Record
    """Its `at` is this event's time and is left out."""


class HolderUnreachable(Event, frozen=True, tag="HolderUnreachable"):
    """A holder whose outage frees something does not answer us, while another provider does."""

    holder: str


class HolderReachable(Event, frozen=True, tag="HolderReachable"):
    """That holder answers again, or nobody does: its outage is over, as far as we know of one."""

    holder: str
    unheard: bool = False
    """True: nobody answers us, which is our own network's outage and not the holder's."""


class Restored(Event, frozen=True, tag="Restored"):
    """The ledger was put back from a backup that ends right before this. What happened after that is not in it."""

    lost: int = 0
    """So many more offers of a job may have been made since: one a millisecond."""


class LogsRead(Event, frozen=True, tag="LogsRead"):
    """Since the ledger was put back every live job's run log was read: from here on things are done again."""
