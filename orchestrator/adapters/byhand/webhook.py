"""How does a supplier's own system hear of an offer? One signed POST per offer, repeated until it is acknowledged.

Called by `ByHand`. The body is the allow-listed offer and nothing else, the same bytes at every try; the signature is
`v1=` + HMAC-SHA256 (hexadecimal) over `<timestamp>.<body>`, keyed with a secret that is read by reference at each call,
so that it can be changed while we run. A receiver checks it and turns away old timestamps. tenacity repeats one call
a few times here; the engine's lane tries again for as long as the offer is open. Of a reply nothing is believed but its
status and, where it is well formed, what it echoes: the receiver is a stranger.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import httpx
from msgspec import Meta, MsgspecError, Struct, field
from msgspec.json import decode
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from orchestrator.model.documents.offers import open_offer_view
from orchestrator.model.documents.references import is_reference
from orchestrator.model.offer import OfferOut
from orchestrator.ports.provider import Misconfigured

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
READ_S = 10.0
"""For the body of a reply that acknowledges; what it echoes is welcome, not needed."""
MOST = 64 * 1024
"""Bytes of it."""
TRIES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0


class Echo(Struct, frozen=True):
    """What a receiver may say back: which offer of ours it had before, by its own books."""

    ordinal: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    head: Annotated[str, Meta(max_length=64, pattern="^[0-9a-f]*$")] = field(name="ledgerHead")


class Undeliverable(Exception):
    """The receiver did not acknowledge; says what it did instead."""


class _Again(Undeliverable):
    """Worth another try at once."""


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """What the header `Orchestrator-Signature` says; `timestamp` in seconds, as `Orchestrator-Timestamp`."""
    return "v1=" + hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()


class Webhook:
    """One supplier's address and secret, `env:NAME` or `file:/path`; the address may be as well. `now`: seconds UTC."""

    def __init__(
        self, url: str, secret: str, now: Callable[[], int], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url, self._secret, self._now = url, secret, now
        self._http = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, transport=transport)
        self.pause_s = FIRST_PAUSE_S

    async def tell_offer(self, offer: OfferOut) -> Echo | None:
        """An offer is open. What the receiver echoes, where its reply does. Raises Undeliverable."""
        told = open_offer_view(offer).model_dump(mode="json", by_alias=True, exclude={"due"})  # its window is not open
        reply = await self._post({"what": "offer", "offer": told}, f"{offer.offer}/offer")
        try:
            return decode(reply, type=Echo)
        except (MsgspecError, ValueError, RecursionError):
            return None

    async def tell_withdrawn(self, offer: str) -> None:
        """An offer is open no more: what was kept for it is free again. Raises Undeliverable."""
        await self._post({"what": "withdrawn", "offer": {"offer": offer}}, f"{offer}/withdrawn")

    async def _post(self, what: object, delivery: str) -> bytes:
        body = json.dumps(what, separators=(",", ":"), ensure_ascii=False).encode()
        pauses = wait_exponential(self.pause_s, max=LONGEST_PAUSE_S)
        tries = AsyncRetrying(
            stop=stop_after_attempt(TRIES), wait=pauses, retry=retry_if_exception_type(_Again), reraise=True
        )
        async for attempt in tries:
            with attempt:
                return await self._once(body, delivery)
        raise AssertionError("the last try raises or returns")

    async def _once(self, body: bytes, delivery: str) -> bytes:
        """One POST; what the receiver said in its acknowledgement."""
        now, (address, secret) = self._now(), whereto(self._url, self._secret)
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "Orchestrator-Delivery": delivery,
            "Orchestrator-Timestamp": str(now),
            "Orchestrator-Signature": signature(secret, now, body),
        }
        try:
            async with self._http.stream("POST", address, content=body, headers=headers) as reply:
                if reply.is_success:
                    return await _said(reply)
        except httpx.HTTPError as error:
            raise _Again(f"the webhook gave no reply ({type(error).__name__})") from error
        kind = _Again if reply.status_code >= 500 or reply.status_code == 429 else Undeliverable
        raise kind(f"the webhook said {reply.status_code}; it acknowledges with 2xx")

    def lacking(self) -> list[str]:
        """What is missing, with its remedy."""
        return lacking(self._url, self._secret)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._http.aclose()


def whereto(url: str, secret: str) -> tuple[str, str]:
    """Address and secret, read now: either may be changed while we run. Raises Undeliverable."""
    try:
        return by_reference(url) if is_reference(url) else url, by_reference(secret)
    except Misconfigured as error:
        raise Undeliverable(str(error)) from error


def lacking(url: str, secret: str) -> list[str]:
    """What a webhook's references lack now, with its remedy."""
    try:
        whereto(url, secret)
    except Undeliverable as error:
        return [str(error)]
    return []


async def _said(reply: httpx.Response) -> bytes:
    """A reply's body as far as it came; empty where it is longer than any echo."""
    found = bytearray()
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(READ_S):
            async for part in reply.aiter_raw():
                found += part
                if len(found) > MOST:
                    return b""
    return bytes(found)


def by_reference(reference: str) -> str:
    """The secret behind `env:NAME` or `file:/path`. Raises Misconfigured, which repeats no secret."""
    kind, _, name = reference.partition(":")
    try:
        found = os.environ.get(name, "") if kind == "env" else Path(name).read_text("utf-8").strip()
    except OSError as error:
        raise Misconfigured(f"the webhook's {reference} cannot be read: {error.strerror}; write it") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"the webhook's {reference} is not UTF-8 text; write it as text") from error
    if not found:
        raise Misconfigured(f"the webhook's {reference} is empty; set it; the supplier holds the same")
    return found
