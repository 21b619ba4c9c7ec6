"""May this object come in? Judged by the code that the command line and the server use; and how the judge is reached.

Called by the API server through Kopf's webhook server before an object is stored. It refuses with every problem, each
with its path, and warns of what has no effect. It looks at nothing but the object; whether the code package is there is
the server's to say.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf

from orchestrator.controller.objects import contracts_of, job_of, refusal
from orchestrator.model.documents import DocumentError, warnings

Resource = tuple[str, str, str]
Body = Mapping[str, Any]
UNPROCESSABLE = 422
LASTS = datetime.timedelta(days=3650)
"""Of a certificate of our own: it is made anew at each start."""


def register(registry: kopf.OperatorRegistry, jobs: Resource, sets: Resource) -> None:
    """The two judges. They stay in the cluster when the controller ends: nothing comes in unjudged."""

    @kopf.on.validate(
        *jobs, id="trainingjobs.admission", operations=["CREATE", "UPDATE"], persistent=True, registry=registry
    )
    def job(body: kopf.Body, warnings: list[str], old: Body | None = None, **_: Any) -> None:
        if old is None or old.get("spec") != body.get("spec"):
            judge(lambda: job_of(body))
        elif old["metadata"].get("labels") != body["metadata"].get("labels"):
            warnings.append("labels are read when the job is submitted; its contracts do not see this change")

    @kopf.on.validate(
        *sets, id="contractsets.admission", operations=["CREATE", "UPDATE"], persistent=True, registry=registry
    )
    def contracts(body: kopf.Body, warnings: list[str], old: Body | None = None, **_: Any) -> None:
        if old is None or old.get("spec") != body.get("spec"):
            warnings += judge(lambda: _noticed(body))


def _noticed(body: Body) -> list[str]:
    return [f"{notice.path}: {notice.what}" for notice in warnings(contracts_of(body))]


def judge(read: Callable[[], Any]) -> Any:
    """What `read` gives; its refusal becomes the API server's."""
    try:
        return read()
    except DocumentError as error:
        raise kopf.AdmissionError(refusal(error.problems), code=UNPROCESSABLE) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the API server finds the judge."""

    address: str
    """To listen on."""
    port: int
    service: tuple[str, str, int] | None = None
    """(namespace, name, port) of the Service before it; None: it is reached at `address`."""
    certificate: Path | None = None
    """PEM, with its key; None: one of our own, made now."""
    key: Path | None = None
    authority: Path | None = None
    """PEM by which the certificate is judged; None: the certificate itself."""


class Judge(kopf.WebhookServer):
    """Kopf's webhook server, reached through a Service where there is one."""

    def __init__(self, endpoint: Endpoint, trusted: asyncio.Event | None = None) -> None:
        """Nothing listens yet, and nothing does before it is `trusted`."""
        self._endpoint, self._trusted = endpoint, trusted
        namespace, name, _ = endpoint.service or ("", "", 0)
        host = f"{name}.{namespace}.svc" if endpoint.service else None
        now = datetime.datetime.now(datetime.UTC)
        self._own = own_certificate([host], now) if host and endpoint.certificate is None else None
        super().__init__(
            addr=endpoint.address,
            port=endpoint.port,
            host=host,
            certfile=endpoint.certificate,
            pkeyfile=endpoint.key,
            cafile=endpoint.authority,
        )

    async def __call__(self, fn: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """How clients reach it, anew whenever its certificate changes."""
        if self._trusted is not None:
            await self._trusted.wait()
        async for config in super().__call__(fn):
            if self._endpoint.service:
                namespace, name, port = self._endpoint.service
                service = kopf.WebhookClientConfigService(namespace=namespace, name=name, port=port)
                config = kopf.WebhookClientConfig(service=service, caBundle=config.get("caBundle", ""))
            yield config

    def bundle(self) -> bytes:
        """By what its certificate is judged, PEM; only behind a Service."""
        file = self._endpoint.authority or self._endpoint.certificate
        return file.read_bytes() if file else self._own[0] if self._own else b""

    def build_certificate(  # type: ignore[override]  # Kopf's is static, and called on the object
        self, hostnames: Collection[str], password: str | None = None
    ) -> tuple[bytes, bytes]:
        """A certificate for these names that is its own authority, and its key; both PEM."""
        return self._own or own_certificate(hostnames, datetime.datetime.now(datetime.UTC))


def own_certificate(hostnames: Collection[str], now: datetime.datetime) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "orchestrator")])
    names = x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hostnames)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LASTS)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)


def _general_name(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
