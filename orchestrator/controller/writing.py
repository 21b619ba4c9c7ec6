"""How does what a look found come to stand in an object's status? Written here, and again where that may help.

Called by `handlers` with what changes in a status, by `trust` for a client of the API server. Kopf could write it, too;
but an answer that Kopf does not try again (a policy that denies it, a reply that is cut off) ends its timer of that
object for good. Merge patches of one status only: written twice is written once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import kopf

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Between tries; later a look finds anew what is to be written."""
AT_ONCE = 8
"""Writes under way, each by a client of its own."""
MERGE = {"Content-Type": "application/merge-patch+json"}
OURS = {"fieldManager": "orchestrator"}
Resource = tuple[str, str, str]


class Unwritten(Exception):
    """The status does not stand. Of the cluster's operator to mend where a policy denies it; else it is over soon."""


def connected() -> httpx.AsyncClient:
    """A client of the API server, with credentials found anew: those of a pod are short-lived."""
    info = kopf.login_via_client(logger=log, settings=kopf.OperatorSettings())
    if info is None:
        raise kopf.LoginError("no credentials of the cluster are found")
    return client_of(info)


def client_of(info: kopf.ConnectionInfo) -> httpx.AsyncClient:
    """A client with these credentials, which takes the way that Kopf takes: a proxy only where Kopf is told of it."""
    how, trusts = info.as_http_headers(), info.as_ssl_context()
    return httpx.AsyncClient(
        base_url=info.server, headers=how, verify=trusts, trust_env=info.trust_env, timeout=TIMEOUT_S
    )


class Statuses:
    """Statuses of objects, as the API server keeps them."""

    def __init__(self, connect: Callable[[], httpx.AsyncClient] = connected) -> None:
        """`connect` makes a client, anew after each failure, so that credentials may change meanwhile."""
        self._connect = connect
        self._clients = asyncio.LifoQueue[httpx.AsyncClient | None]()
        for _ in range(AT_ONCE):
            self._clients.put_nowait(None)

    async def write(self, resource: Resource, body: Mapping[str, Any], change: Mapping[str, Any]) -> None:
        """Change these fields of an object's status; None removes one. Raises Unwritten."""
        if not change:
            return
        group, version, plural = resource
        meta = body["metadata"]
        within = f"namespaces/{meta['namespace']}/" if meta.get("namespace") else ""
        path = f"/apis/{group}/{version}/{within}{plural}/{meta['name']}/status"
        for pause_s in PAUSES_S:
            if not await self._failed(path, change):
                return
            await asyncio.sleep(pause_s)
        if why := await self._failed(path, change):
            raise Unwritten(why)

    async def close(self) -> None:
        """Nothing is written any more."""
        while not self._clients.empty():
            if http := self._clients.get_nowait():
                await http.aclose()

    async def _failed(self, path: str, change: Mapping[str, Any]) -> str:
        """Why this try did not succeed and another one may; empty: it did. Raises Unwritten where none would."""
        http, why = await self._clients.get(), ""
        try:
            if http is None:
                http = await asyncio.to_thread(self._connect)
            why = _judged(await http.patch(path, json={"status": change}, headers=MERGE, params=OURS))
        except (httpx.HTTPError, kopf.LoginError, OSError) as error:
            why = f"the API server cannot be asked: {error or type(error).__name__}"
        finally:
            if why and http:
                await http.aclose()
                http = None
            self._clients.put_nowait(http)
        return why


def _judged(reply: httpx.Response) -> str:
    if reply.is_success or reply.status_code == 404:  # gone: nobody reads it any more
        return ""
    why = f"the API server answers {reply.status_code}: {reply.text[:300]}"
    if reply.status_code in (401, 409, 429) or reply.is_server_error:
        return why
    raise Unwritten(why)
