"""`orchestrator serve`: the server in one process, and the files by which clients on this machine find it.

Puts the HTTP front before what `bootstrap` builds. Owns signals, logs, tokens file and address file; decides nothing.
SIGTERM and Ctrl-C let go of everything and touch no job.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop
from rich.markup import escape

from orchestrator.api.access import LOOPBACK, Scope, TokensFile
from orchestrator.api.app import Front, create_app
from orchestrator.api.server import PortTaken, bind, url_of
from orchestrator.api.server import serve as listen
from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.main import installed
from orchestrator.cli.output import clean, say
from orchestrator.settings import Settings, describe, load, overlooked

SETTINGS = "\n".join(
    f"- `{name}` {f'[{default}] ' if default else ''}{meaning}" for name, default, meaning in describe()
)


def serve(
    host: Annotated[str | None, typer.Option(help="ORCHESTRATOR_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="ORCHESTRATOR_PORT; 0: a free one")] = None,
    home: Annotated[Path | None, typer.Option(help="ORCHESTRATOR_HOME")] = None,
    contracts: Annotated[Path | None, typer.Option(help="ORCHESTRATOR_CONTRACTS", exists=True, dir_okay=False)] = None,
    capacity: Annotated[Path | None, typer.Option(help="ORCHESTRATOR_CAPACITY", exists=True, dir_okay=False)] = None,
    providers: Annotated[Path | None, typer.Option(help="ORCHESTRATOR_PROVIDERS", exists=True, dir_okay=False)] = None,
    store: Annotated[str | None, typer.Option(help="ORCHESTRATOR_STORE")] = None,
) -> None:
    """Serve."""
    given = {"host": host, "port": port, "home": home, "contracts": contracts, "capacity": capacity,
             "providers": providers, "store": store}  # fmt: skip
    settings = load(**{name: value for name, value in given.items() if value is not None})
    log_as(settings)
    uvloop.run(run(settings))


serve.__doc__ = f"""Take jobs in and see them through, until Ctrl-C or SIGTERM; running jobs need no server.

Without any file it offers this machine alone. Examples: `orchestrator serve`,
`orchestrator serve --providers providers.yaml --contracts contracts.yaml`

Jobs on this machine run as the server's user. Of its environment they inherit only what is commonly needed: PATH, HOME,
LANG, LC_*, TZ, TMPDIR, proxies and certificates, CUDA_*, NVIDIA_*, NCCL_*, ROCm's, and the keys of their own store;
never ORCHESTRATOR_*, and no other secret. Where CUDA_VISIBLE_DEVICES is set, the GPUs that it names are those that jobs
get; the others are not offered. What else a job needs stands in its `environment`.

Settings come from the environment; options win over them.

{SETTINGS}

{EXIT_CODES}"""


async def run(settings: Settings) -> None:
    """The server of these settings, until a signal. Raises what `failing` tells of."""
    from orchestrator.bootstrap import build

    prepare(settings)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with _bound(settings) as sock:
        tokens = TokensFile(settings.tokens_file)
        app = await build(settings)
        unknown = [f"nothing reads {name}; is it misspelt?" for name in overlooked(os.environ)]
        for notice in (*unknown, *tokens.strangers(app.providers), *app.notices):
            say(f"[yellow]note:[/] {escape(notice)}")
        try:
            await app.start()
            with announced(settings, url_of(sock)) as up:
                http = create_app(app.desk, front(settings, tokens, app))
                await until_first(listen(http, sock, stop, up), app.run(), stop)
        finally:
            await app.stop()


def _bound(settings: Settings) -> socket.socket:
    """A listening socket. Raises PortTaken, which knows our own server from other programs."""
    try:
        return bind(settings.host, settings.port)
    except PortTaken as taken:
        try:
            up = json.loads(settings.address_file.read_text())
            os.kill(up["pid"], 0)
        except (OSError, ValueError, KeyError, TypeError):
            raise taken from None
        if not up["url"].endswith(f":{settings.port}"):
            raise
        said = f"the server of {settings.folder} runs already, at {up['url']} (pid {up['pid']})"
        raise PortTaken(f"{said}; use it, or end it first") from taken


async def until_first(http: Any, engine: Any, stop: asyncio.Event) -> None:
    """Both, until one ends; then the other is let go. Raises what made the engine fail."""
    serving, leading = asyncio.ensure_future(http), asyncio.ensure_future(engine)
    await asyncio.wait({serving, leading}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await serving
    if not leading.done():
        leading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leading


def front(settings: Settings, tokens: TokensFile, app: Any) -> Front:
    """What the HTTP front is told."""
    wiring = app.serving.wiring
    own = () if settings.host in (*LOOPBACK, "0.0.0.0", "::") else (settings.host,)
    return Front(
        find=tokens.find,
        files=app.files,
        by_policy={policy.name: wiring.stores[policy.store].store for policy in wiring.provider_set.policies},
        metrics=app.metrics,
        hosts=(*own, *settings.allowed_hosts),
        job_limit=settings.job_limit,
        package_limit=settings.package_limit,
        unpacked_limit=settings.unpacked_limit,
        version=installed(),
    )


class HomeUnusable(Exception):
    """The home folder cannot be made or written. The operator's to mend."""


def prepare(settings: Settings) -> None:
    """The home folder (0700) and, at the first time, the tokens file (0600) with one token of every scope.

    A tokens file that the operator names is the operator's.
    Raises HomeUnusable.
    """
    token = {"name": "owner", "token": secrets.token_urlsafe(32), "scopes": [scope.value for scope in Scope]}
    try:
        settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.tokens is not None:
            return
        with contextlib.suppress(FileExistsError):
            write_private(settings.tokens_file, json.dumps({"tokens": [token]}, indent=2) + "\n", os.O_EXCL)
    except OSError as error:
        what = f"the home folder {settings.folder} cannot be used: {error.strerror or error}"
        raise HomeUnusable(f"{what}; mend that, or choose another ORCHESTRATOR_HOME") from error


def write_private(path: Path, text: str, flags: int = os.O_TRUNC) -> None:
    """A file that only its owner can read, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


@contextmanager
def announced(settings: Settings, url: str) -> Iterator[Any]:
    """Gives what to call once listening: the address file is there from then until the end."""
    body = json.dumps({"url": url, "pid": os.getpid(), "version": installed()}) + "\n"

    def up() -> None:
        part = settings.address_file.with_suffix(".part")
        write_private(part, body)
        part.replace(settings.address_file)
        say(f"serving at [bold]{url}[/]; token in {settings.tokens_file}")
        if settings.providers is None:
            say("offering this machine; try [bold]orchestrator run -- python train.py[/]")

    try:
        yield up
    finally:
        with contextlib.suppress(OSError):
            if settings.address_file.read_text() == body:
                settings.address_file.unlink()


def _clean(_: Any, __: str, told: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Words of providers and people move no terminal."""
    return {key: clean(said) if isinstance(said, str) else said for key, said in told.items()}


def log_as(settings: Settings) -> None:
    """Log to stderr as the settings say; libraries only warn. No local variables in tracebacks: some hold secrets."""
    level = getattr(logging, settings.log_level.upper())
    tty = sys.stderr.isatty()
    shown: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=tty, exception_formatter=structlog.dev.plain_traceback)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shared.append(structlog.processors.format_exc_info if settings.log_format == "json" else _clean)
    structlog.configure(
        processors=[*shared, shown],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
