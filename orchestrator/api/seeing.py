"""Does a caller see its own wish, whichever server answers? A header of granted wishes, a parameter of reads.

Called by the routes. Where two servers serve one ledger, the one that follows may be a moment behind.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Query, Response

from orchestrator.api.problems import Denied
from orchestrator.ports.desk import Desk

SEQ = "Orchestrator-Seq"
"""Header of a granted wish: a read with this `min_seq` sees it, whichever server answers."""
_LOOK_S, _LOOKS = 0.1, 3


async def seen(desk: Desk, min_seq: int) -> None:
    """Returns once this server sees the ledger up to there. Raises Denied (412) if it does not in a moment: both
    servers read one database, so what is not there by then is no number that a wish was answered with."""
    for _ in range(_LOOKS):
        if not min_seq or await desk.head() >= min_seq:
            return
        await asyncio.sleep(_LOOK_S)
    what, remedy = f"the ledger holds no event {min_seq}", f"give the {SEQ} of an earlier reply, or none"
    raise Denied(412, "no-such-event", what, remedy=remedy)


def caught_up(desk: Desk) -> Any:
    """A dependency of reads: they wait for what `min_seq` says."""

    async def wait(min_seq: Annotated[int, Query(ge=0, description=f"`{SEQ}` of a wish")] = 0) -> None:
        await seen(desk, min_seq)

    return Depends(wait)


async def tell_seq(desk: Desk, response: Response) -> None:
    """Say with a granted wish which read sees it."""
    response.headers[SEQ] = str(await desk.head())
