"""May this contract set take effect here? From a request's body to canonical bytes, or a refusal that says everything.

Called by `POST /v1/contracts` before the desk hears of it: well-formed, free of contradictions, in agreement with the
operator's providers, and enforced whole by this version.
"""

from __future__ import annotations

import asyncio

from orchestrator.api.problems import Denied
from orchestrator.model.documents import (
    DocumentError,
    canonical_bytes,
    load_contracts,
    refused,
)
from orchestrator.model.documents.base import load_canonical
from orchestrator.model.documents.providers import ProviderSet
from orchestrator.model.documents.views import FieldError
from orchestrator.ports.desk import Desk

MOST = 1024 * 1024
"""Bytes of a contract set."""


async def admit_contracts(desk: Desk, body: bytes) -> bytes:
    """The canonical bytes of the set in a request's body. Raises Denied with everything that is wrong."""
    if len(body) > MOST:
        raise Denied(413, "too-large", f"a contract set has at most {MOST} bytes", remedy="split it by buyer")
    force = await desk.in_force()
    stored = (await desk.documents((force.providers_digest,))).get(force.providers_digest)
    try:
        document = await asyncio.to_thread(load_contracts, body)  # YAML is slow to read
        operators = load_canonical(ProviderSet, stored) if stored is not None else None
        if problems := refused(document, operators):
            raise DocumentError(problems)
        return canonical_bytes(document)
    except DocumentError as error:
        errors = [FieldError(field=p.path, reason=p.reason, remedy=p.remedy) for p in error.problems]
        raise Denied(422, "invalid-contracts", "the contract set is refused; nothing changed", errors=errors) from error
    except (UnicodeError, RecursionError) as error:
        raise Denied(422, "invalid-contracts", f"it is no document: {error}", remedy="send YAML 1.2 or JSON") from error
