"""`orchestrator controller`: TrainingJob and ContractSet objects of a Kubernetes cluster. A client of the server."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import say

PORT = 9443


def controller(
    namespace: Annotated[
        list[str] | None, typer.Option(help="Only of this namespace; repeatable. Default: all.")
    ] = None,
    webhook: Annotated[bool, typer.Option(help="Judge objects at admission.")] = True,
    webhook_host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    webhook_port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = PORT,
    webhook_service: Annotated[
        str | None, typer.Option(metavar="NAMESPACE/NAME[:PORT]", help="The Service by which the cluster reaches it.")
    ] = None,
    webhook_certificates: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Folder with tls.crt, tls.key and ca.crt; default: one of our own."
        ),
    ] = None,
    webhook_configuration: Annotated[
        str,
        typer.Option(help="The ValidatingWebhookConfiguration to make and keep up to date; empty: somebody else does."),
    ] = "orchestrator.dev",
    webhook_trust: Annotated[
        str,
        typer.Option(help="One that somebody else made, which is told our certificate; with --webhook-service."),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(help="A file with the server's token; it is read again when the token is revoked."),
    ] = None,
    health_port: Annotated[int, typer.Option(min=0, max=65535, help="Answer /healthz there; 0: nowhere.")] = 0,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
) -> None:
    """Serve TrainingJob and ContractSet objects of a Kubernetes cluster: `kubectl apply -f job.yaml` submits a job.

    A namespace is a project. The cluster is found as kubectl finds it (service account, KUBECONFIG), the server by
    ORCHESTRATOR_URL and ORCHESTRATOR_TOKEN (scopes viewer and submitter; operator for ContractSets). The CRDs are in
    `deploy/crds`.
    It keeps nothing of its own, and may end and start again at any time.
    Examples: `orchestrator controller`, `orchestrator controller --webhook-host 0.0.0.0 --webhook-service ops/judge`
    """
    _needs_kopf()
    if webhook_trust and not webhook_service:
        raise typer.BadParameter("it leads to a Service: name that, too", param_hint="--webhook-trust")
    from orchestrator.controller.admission import Endpoint
    from orchestrator.controller.operating import Choices, connect, operate

    where = Endpoint(
        address=webhook_host, port=webhook_port, service=_service(webhook_service), **_files(webhook_certificates)
    )
    choices = Choices(
        namespaces=tuple(namespace or ()),
        webhook=where if webhook else None,
        configuration=webhook_configuration,
        trust=webhook_trust,
        liveness=f"http://0.0.0.0:{health_port}/healthz" if health_port else None,
    )
    log_as(log_level)
    asyncio.run(operate(choices, connect=partial(connect, token_file)))


def _needs_kopf() -> None:
    try:
        import kopf  # noqa: F401
    except ModuleNotFoundError:
        say("[red]error:[/] the controller needs more packages: pip install 'first-refusal\\[kubernetes]'")
        raise typer.Exit(2) from None


def _files(folder: Path | None) -> dict[str, Path | None]:
    """An endpoint's certificate, key and authority; nothing: one of our own."""
    if folder is None:
        return {}
    authority = folder / "ca.crt"
    return {
        "certificate": folder / "tls.crt",
        "key": folder / "tls.key",
        "authority": authority if authority.exists() else None,
    }


def _service(text: str | None) -> tuple[str, str, int] | None:
    if text is None:
        return None
    path, _, port = text.partition(":")
    namespace, slash, name = path.partition("/")
    if not (namespace and slash and name and (port or "443").isdigit()):
        raise typer.BadParameter(f"{text!r} is not NAMESPACE/NAME[:PORT]", param_hint="--webhook-service")
    return namespace, name, int(port or 443)


class Expected(logging.Filter):
    """Drops what Kopf calls failures and is none: an object refused with its reasons, a deletion that waits."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is worth a line."""
        text = str(record.msg)
        return not (text.startswith(("Webhook ", "Handler 'release' failed temporarily: waits")))


def log_as(level: str) -> None:
    """Log to stderr: ours from `level` on, libraries only what is wrong."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.WARNING)
    logging.getLogger("orchestrator").setLevel(level.upper())
    if level.lower() == "debug":
        logging.getLogger("kopf").setLevel(logging.INFO)
    else:
        logging.getLogger("kopf.objects").addFilter(Expected())
