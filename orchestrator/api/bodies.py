"""How much of a request's body is read? One limit before every route, so that no route can forget its own.

Jobs and packages stream against limits of their own, which are the operator's. Whoever sends more than is read hears
413, and nothing more of it is taken in.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 1024 * 1024
"""Bytes. The largest document here is a contract set, of which this is many thousand clauses."""
JOBS, PACKAGES = "/v1/jobs", "/v1/packages/"


class BodyLimit:
    """Counts what is received."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http" or scope["path"] == JOBS or scope["path"].startswith(PACKAGES):
            await self._app(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MOST:
                raise HTTPException(413, f"the body is larger than {MOST} bytes; nothing was kept")
            return message

        await self._app(scope, counted, send)
