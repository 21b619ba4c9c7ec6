"""Who are we to this cluster? Read from a kubeconfig (with its exec plugins and token files) or from our own pod.

Called by the client, at the first call and again whenever the cluster turns our credentials down: whatever has been
renewed by then on disk, or by the plugin, is taken up without a restart. The official client does the reading.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from orchestrator.ports.provider import Misconfigured

LOG_IN_S = 60
"""How long an exec plugin may take."""
IN_POD = "KUBERNETES_SERVICE_HOST"
_official: Any = config
"""Untyped."""


def kubeconfig(given: str | None) -> str | None:
    """The file to read: the one that was given, $KUBECONFIG, ~/.kube/config; None: we run in a pod of the cluster."""
    if given:
        return str(Path(given).expanduser())
    if os.environ.get("KUBECONFIG"):
        return os.environ["KUBECONFIG"]
    usual = Path("~/.kube/config").expanduser()
    return None if IN_POD in os.environ and not usual.exists() else str(usual)


def place(given: str | None, context: str | None, namespace: str) -> str:
    """Which namespace of which cluster that is, as far as the kubeconfig says; nothing is asked of the cluster."""
    file = kubeconfig(given)
    if file is None:
        server = f"https://{os.environ[IN_POD]}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
    else:
        server = _server(file, context) or f"context {context or 'in force'} of {file}"
    return f"namespace {namespace} of {server}"


def _server(file: str, context: str | None) -> str:
    """The API server's address in these kubeconfigs; empty: they cannot be read, as the first call will say."""
    try:
        parts = [there for part in file.split(os.pathsep) if (there := Path(part).expanduser()).exists()]
        said = [yaml.safe_load(there.read_text()) for there in parts]
        in_force = context or next(one["current-context"] for one in said if one.get("current-context"))
        contexts = [every for one in said for every in one.get("contexts") or ()]
        clusters = [every for one in said for every in one.get("clusters") or ()]
        used = next(every["context"]["cluster"] for every in contexts if every["name"] == in_force)
        server = next(every["cluster"]["server"] for every in clusters if every["name"] == used)
        return str(server).rstrip("/").lower()
    except (OSError, KeyError, TypeError, AttributeError, ValueError, StopIteration, yaml.YAMLError):
        return ""


async def connect(name: str, given: str | None, context: str | None) -> ApiClient:
    """A client with fresh credentials; the caller closes it. Raises `Misconfigured`."""
    file = kubeconfig(given)
    try:
        configuration = Configuration()
        # asked once: aiohttp would read the environment and ~/.netrc anew for every request, an eighth of our time
        configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
        if file is None:
            _official.load_incluster_config(client_configuration=configuration)
        else:
            async with asyncio.timeout(LOG_IN_S):
                await _from_file(file, context, configuration)
        return ApiClient(configuration)
    except (
        ConfigException,
        OSError,
        TimeoutError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        yaml.YAMLError,
    ) as error:
        where = f"context {context or 'in force'} of {file}" if file else "our own pod's service account"
        remedy = "correct `connection.kubeconfig` and `connection.context`, or make them readable to the server"
        raise Misconfigured(f"provider {name}: {where} cannot be used ({error}); {remedy}") from error


async def _from_file(file: str, context: str | None, configuration: Configuration) -> None:
    if not any(Path(part).expanduser().exists() for part in file.split(os.pathsep)):
        raise ConfigException("there is no such file")
    loader: Any = await _official.load_kube_config(file, context, configuration, persist_config=False)
    user = loader._user  # the client logs an exec plugin that fails, and goes on without credentials
    if user is not None and "exec" in user and not vars(loader).get("token") and not vars(loader).get("cert_file"):
        raise ConfigException(
            f"its exec plugin {user['exec']['command']} gave no credentials; run it by hand to see why"
        )
