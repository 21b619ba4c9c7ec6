"""How are a job, an offer and a launch named?

Called by whoever names or recognises one: engine, adapters, agent, API. Never reads a clock and never draws
randomness: both are parameters. Standard library only.
"""

from __future__ import annotations

import hashlib
import re

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_JOB = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_OFFER = re.compile(r"([0-7][0-9A-HJKMNP-TV-Z]{25})-o([1-9][0-9]{0,17})")  # as a ledger's integers can be
_LAUNCH = re.compile(r"([0-7][0-9a-hjkmnp-tv-z]{25})-e([1-9][0-9]{0,17})")
ENTROPY_BYTES = 10  # a ULID: 48 bits of milliseconds, 80 bits of randomness


def new_job_id(now_us: int, entropy: bytes) -> str:
    """A ULID: 26 characters that sort by time. `now_us` microseconds UTC, `entropy` 10 random bytes.

    Raises ValueError where the entropy has another length or the time does not fit.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a job id needs {ENTROPY_BYTES} random bytes, got {len(entropy)}")
    millis = now_us // 1000
    if not 0 <= millis < 1 << 48:
        raise ValueError(f"time {now_us} us does not fit into a job id")
    number = millis << 80 | int.from_bytes(entropy, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def rest_id(offer: str, now_us: int) -> str:
    """The id of what an acceptance of a part leaves: drawn from the offer, so that who decides again says the same."""
    return new_job_id(now_us, hashlib.sha256(offer.encode()).digest()[:ENTROPY_BYTES])


def is_job_id(text: str) -> bool:
    """Whether `text` is a job id as `new_job_id` writes it."""
    return _JOB.fullmatch(text) is not None


def offer_id(job: str, n: int) -> str:
    """The id of a job's n-th offer, counted from 1: `<job>-o<n>`."""
    return f"{job}-o{n}"


def parse_offer_id(text: str) -> tuple[str, int]:
    """(job, n) of an offer id. Raises ValueError where it is none."""
    match = _OFFER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an offer id (<job>-o<n>)")
    return match[1], int(match[2])


def is_offer_id(text: str) -> bool:
    """Whether `text` is an offer id."""
    return _OFFER.fullmatch(text) is not None


def is_launch_key(text: str) -> bool:
    """Whether `text` is a launch key."""
    return _LAUNCH.fullmatch(text) is not None


def launch_key(job: str, epoch: int) -> str:
    """The key that names one launch everywhere: `<job in lower case>-e<epoch>`.

    Legal as a Kubernetes name, a label and a client token.
    """
    return f"{job.lower()}-e{epoch}"


def parse_launch_key(key: str) -> tuple[str, int]:
    """(job, epoch) of a launch key. Raises ValueError where it is none."""
    match = _LAUNCH.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is not a launch key (<job>-e<epoch>)")
    return match[1].upper(), int(match[2])
