"""What can a store answer? Called by every store and by whoever asks one. Values only."""

from __future__ import annotations

from dataclasses import dataclass


class StoreUnavailable(Exception):
    """The store did not answer, or not sensibly.

    Nobody's fault here; what it holds is unknown. Ask again later.
    """


@dataclass(frozen=True, slots=True)
class Stored:
    """Put-if-absent: the bytes are durable, and ours."""


@dataclass(frozen=True, slots=True)
class Exists:
    """Put-if-absent: the store says that the key is taken, perhaps by ourselves, perhaps wrongly.

    Read it back.
    """


@dataclass(frozen=True, slots=True)
class Unknown:
    """Put-if-absent: no answer, or an error. It may have been stored, or may yet be. Read it back."""

    why: str


Put = Stored | Exists | Unknown
