"""How is the ledger hashed? The formulas that make one rewritten byte visible to anybody who kept the head.

Called by the ledger adapters (which append) and by the audit (which checks). Pure: salts and times are parameters.
A verifier needs the standard library alone: lp(x) = u16be length ‖ bytes, and
chain_n = sha256(chain_{n-1} ‖ u64be seq ‖ u64be at_µs ‖ lp(kind) ‖ lp(project) ‖ lp(job) ‖ body_hash).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import sha256

SALT_SIZE = 16
"""Bytes of salt before each body: a guessed body cannot be confirmed from its hash alone once it is redacted."""
_GENESIS = b"orchestrator.dev/ledger/v1"
_ID_SIZE = 16
_numbers = struct.Struct(">QQ")
_length = struct.Struct(">H")


def lp(text: str) -> bytes:
    """Length-prefixed UTF-8; `struct.error` above 65,535 bytes."""
    raw = text.encode()
    return _length.pack(len(raw)) + raw


@lru_cache(4096)
def _of_many(kind: str, project: str) -> bytes:
    """What many events have in common; a job's own name comes a few times and never again."""
    return lp(kind) + lp(project)


def genesis(ledger_id: str) -> bytes:
    """chain_0 of a ledger whose id is 32 hexadecimal digits; `ValueError` for anything else."""
    raw = bytes.fromhex(ledger_id)
    if len(raw) != _ID_SIZE:
        raise ValueError(f"a ledger id is {_ID_SIZE} bytes in hexadecimal, not {ledger_id!r}")
    return sha256(_GENESIS + raw).digest()


def hash_body(salt: bytes, body: bytes) -> bytes:
    """sha256 over salt and body as stored."""
    return sha256(salt + body).digest()


def link(before: bytes, seq: int, at: int, names: tuple[str, str, str], body_hash: bytes) -> bytes:
    """The chain after one event; `names` = (kind, project, job); `struct.error` for numbers outside u64."""
    kind, project, job = names
    return sha256(before + _numbers.pack(seq, at) + _of_many(kind, project) + lp(job) + body_hash).digest()
