"""How does the API server come to trust our certificate, where somebody else made the configuration of the webhook?

Called by `operating`, beside Kopf, where a chart renders the ValidatingWebhookConfiguration. Only the certificate's
authority is written there, at the start and again whenever it is lost; so the controller needs no right to make such
configurations, which would be power over the whole cluster. It never touches one that leads to somebody else.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import kopf

from orchestrator.controller.writing import connected

log = logging.getLogger(__name__)
PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/"
AGAIN_S = 60.0  # whoever makes the configuration anew makes it without our certificate
FIRST_S, LONGEST_S = 0.5, 30.0
Service = tuple[str, str, int]


class Elsewhere(Exception):
    """The configuration leads to another controller. The operator's to mend."""


class Missing(Exception):
    """There is nothing to write it into yet."""


class Trust:
    """One configuration, and who is to be trusted there."""

    def __init__(self, name: str, service: Service, bundle: Callable[[], bytes], stands: asyncio.Event) -> None:
        """`service`: (namespace, name, port) to which it has to lead; `bundle`: PEM; `stands`: set once it is there."""
        self._name, self._service, self._bundle, self._stands = name, service, bundle, stands

    async def keep(self) -> None:
        """Write it, and look again for ever. Raises Elsewhere."""
        pause_s = FIRST_S
        while True:
            try:
                await self._write()
            except (httpx.HTTPError, kopf.LoginError, OSError, Missing) as error:
                log.warning("webhook configuration %s: %s; tried again", self._name, error)
                pause_s = min(2 * pause_s, LONGEST_S)
            else:
                self._stands.set()
                pause_s = AGAIN_S
            await asyncio.sleep(pause_s)

    async def _write(self) -> None:
        bundle = base64.b64encode(await asyncio.to_thread(self._bundle)).decode()
        async with await asyncio.to_thread(connected) as http:
            reply = (await http.get(PATH + self._name)).raise_for_status()
            patch = patch_of(reply.json().get("webhooks") or (), self._service, bundle)
            if patch:
                kind = {"Content-Type": "application/json-patch+json"}
                (await http.patch(PATH + self._name, json=patch, headers=kind)).raise_for_status()
                log.info("webhook configuration %s trusts our certificate", self._name)


def patch_of(webhooks: Iterable[Mapping[str, Any]], service: Service, bundle: str) -> list[dict[str, Any]]:
    """The JSON patch that makes all of these trust the bundle (base64); empty if they do. Raises Elsewhere, Missing."""
    patch: list[dict[str, Any]] = []
    found = list(webhooks)
    if not found:
        raise Missing("it names no webhook yet")
    for at, webhook in enumerate(found):
        config = webhook.get("clientConfig", {})
        leads = config.get("service") or {}
        if (leads.get("namespace"), leads.get("name"), leads.get("port", 443)) != service:
            to = f"{leads.get('namespace')}/{leads.get('name')}" if leads else config.get("url")
            raise Elsewhere(f"{webhook['name']} leads to {to}, not to us: another controller serves these objects")
        if config.get("caBundle") != bundle:
            patch.append({"op": "test", "path": f"/webhooks/{at}/name", "value": webhook["name"]})
            patch.append({"op": "add", "path": f"/webhooks/{at}/clientConfig/caBundle", "value": bundle})
    return patch
