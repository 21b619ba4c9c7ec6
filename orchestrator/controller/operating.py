"""How does the controller run? Kopf's operator with our handlers and our habits, beside one stream from the server.

Called by `orchestrator controller` and by tests. Kubernetes' credentials are found by Kopf (service account or
kubeconfig) and found again when they are refused; the server's by the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf

from orchestrator.controller.admission import Endpoint, Judge
from orchestrator.controller.handlers import register
from orchestrator.controller.objects import GROUP
from orchestrator.controller.server import Server
from orchestrator.controller.trust import Trust
from orchestrator.controller.writing import Statuses
from orchestrator.sdk import AsyncClient
from orchestrator.sdk.errors import NoServer

LEAVING_S = 20.0
"""Within a pod's grace: nothing is lost when an API server that is away cannot be told that we leave."""
PATIENCE_S = 10.0
"""A server that is away for less is not worth a word on every object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What an operator chooses."""

    namespaces: tuple[str, ...] = ()
    """None: all."""
    webhook: Endpoint | None = None
    """None: no admission of our own."""
    configuration: str = GROUP
    """Name of the ValidatingWebhookConfiguration that is made and kept up to date; empty: somebody else does."""
    trust: str = ""
    """Name of one that somebody else made, which leads to our Service and is told our certificate; before that one."""
    liveness: str | None = None
    """URL to answer at, as http://0.0.0.0:8080/healthz."""


class Backoffs:
    """Seconds between tries of a request to the API server: growing, and without an end."""

    def __iter__(self) -> Iterator[float]:
        seconds = 1.0
        while True:
            yield seconds
            seconds = min(seconds * 2, 30.0)


class Nothing(kopf.DiffBaseStorage):
    """Keeps no copy of an object on the object: every look begins anew, nobody asks what changed."""

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """There is none."""

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nowhere."""


def connect(token: Path | None = None) -> AsyncClient:
    """A client of the server; `token`: a file that holds nothing else, read anew for each client. Raises NoServer."""
    try:
        text = token.read_text().strip() if token else None
    except (OSError, ValueError) as error:
        raise NoServer(f"the token cannot be read: {error}") from error
    return AsyncClient(token=text, patience_s=PATIENCE_S, waiting_patience_s=PATIENCE_S)


def settings_of(choices: Choices) -> kopf.OperatorSettings:
    """Kopf's settings."""
    found = kopf.OperatorSettings()
    found.peering.standalone = True
    found.process.ultimate_exiting_timeout = LEAVING_S
    found.scanning.disabled = bool(choices.namespaces)  # they are named, and nobody may list those of others
    found.persistence.finalizer = f"{GROUP}/job"
    found.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    found.persistence.diffbase_storage = Nothing()
    found.networking.error_backoffs = Backoffs()
    found.background.instant_exit_timeout = 0.1
    found.background.cancellation_polling = 1.0
    found.execution.default_backoff = 10.0
    found.posting.reporting_component = "orchestrator"
    found.posting.event_name_prefix = "orchestrator-"
    if choices.webhook is not None:
        found.admission.managed = (not choices.trust and choices.configuration) or None
    return found


async def operate(
    choices: Choices,
    *,
    connect: Callable[[], AsyncClient] = connect,
    stop: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Serve the objects of a cluster until `stop`, or a signal. Raises what ended either half of it."""
    registry, server, settings = kopf.OperatorRegistry(), Server(connect), settings_of(choices)
    statuses = Statuses()
    register(registry, server, statuses, judging=choices.webhook is not None)
    login(registry)
    halves = [asyncio.create_task(server.run(), name="server's events")]  # before Kopf, which ends what came after it
    if choices.webhook is not None:
        settings.admission.server, trust = judging(choices.webhook, choices.trust)
        halves += [asyncio.create_task(trust.keep(), name="trust")] if trust else []
    operating: Any = kopf.operator(
        registry=registry,
        settings=settings,
        clusterwide=not choices.namespaces,
        namespaces=choices.namespaces,
        liveness_endpoint=choices.liveness,
        stop_flag=stop,
        ready_flag=ready,
    )
    try:
        await together(*halves, asyncio.create_task(operating, name="objects"))
    finally:
        await statuses.close()


def judging(endpoint: Endpoint, configuration: str) -> tuple[Judge, Trust | None]:
    """The judge, and who has him trusted by a configuration that somebody else made, where one is named."""
    if not configuration or endpoint.service is None:
        return Judge(endpoint), None
    stands = asyncio.Event()
    judge = Judge(endpoint, stands)
    return judge, Trust(configuration, endpoint.service, judge.bundle, stands)


async def together(*halves: asyncio.Task[None]) -> None:
    """Until one ends; then the others are ended, too. Raises what the first one died of: none lives on alone."""
    try:
        await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        first = next(half for half in halves if half.done())
    finally:
        for half in halves:
            half.cancel()
        await asyncio.gather(*halves, return_exceptions=True)
    await first


def login(registry: kopf.OperatorRegistry) -> None:
    """Credentials of the cluster: asked for at the start, and again whenever they are refused."""

    @kopf.on.login(registry=registry, retries=3, backoff=1.0)
    def credentials(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)
