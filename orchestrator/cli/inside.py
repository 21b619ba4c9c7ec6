"""Commands that get at a running job: exec, dump, forward. Clients of the server; what they start ends with them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from orchestrator.cli.exits import EXIT_CODES, Exit
from orchestrator.cli.output import AsJson, JobArgument, clean, lines, print_json, say
from orchestrator.model.documents.inside import CHUNK, StacksView
from orchestrator.sdk import AsyncClient, Client
from orchestrator.sdk.errors import OrchestratorError
from orchestrator.sdk.inside import STDERR, Forward, Session

PATIENCE_S = 3.0
"""At a terminal nobody waits long for a server that is away."""
Rank = Annotated[int, typer.Option("--rank", min=0, help="Which process of user code; 0 is the job's command.")]


def run_in(
    job: JobArgument,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD…", help="What to run, and its arguments.")],
    rank: Rank = 0,
    terminal: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="Give it a terminal; by default if this is one on both sides."),
    ] = None,
) -> None:
    """Run a command beside a running job: in the environment and folder of one of its processes."""
    wanted = sys.stdin.isatty() and sys.stdout.isatty() if terminal is None else terminal
    try:
        code = asyncio.run(_run_in(job, command, rank, wanted))
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE  # whoever read our output has gone
    raise typer.Exit(Exit.FAILED if code is None else code)


run_in.__doc__ = f"""Run a command beside a running job: in the environment and folder of one of its processes.

Examples: `orchestrator exec JOB -- nvidia-smi`, `orchestrator exec JOB --rank 1 -- bash`,
`orchestrator exec JOB -- tar c logs > logs.tar`

Input, output and errors are streamed. It exits as the command does (128 + n: ended by signal n; 127: there is no such
command); what fails on the way says `error:` and exits with a code of the list below. Ctrl-C, a lost connection and
the end of the job end the command, and all that it started. It is no part of the job: what it imports of ours saves no
checkpoint. The ledger keeps who ran a command of which name beside which rank; its arguments are written nowhere.

Rank 0 is the job's command, 1 and up are the processes that Ray (or a launcher, by its RANK) started for it; on
Kubernetes each rank is a pod. Not every cloud lets people in: then the exit code is 7.

{EXIT_CODES}"""


async def _run_in(job: str, command: list[str], rank: int, terminal: bool) -> int | None:
    size = shutil.get_terminal_size() if terminal else None
    async with AsyncClient(patience_s=PATIENCE_S) as client:
        found = await client.job(job)
        shape = (size.lines, size.columns) if size else None
        async with found.run_in(command, rank=rank, terminal=shape, term=os.environ.get("TERM", "")) as session:
            with raw(terminal):
                return await _talk(session, terminal)


async def _talk(session: Session, terminal: bool) -> int | None:
    loop = asyncio.get_running_loop()
    ways: set[asyncio.Task[None]] = {asyncio.create_task(_listen(session))}
    if terminal:
        loop.add_signal_handler(signal.SIGWINCH, lambda: ways.add(asyncio.create_task(_resized(session))))
    try:
        async for stream, data in session:
            await asyncio.to_thread(_print, 2 if stream == STDERR else 1, data)
    except (asyncio.CancelledError, BrokenPipeError):
        await session.end()
        raise
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    return session.code


def _print(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


async def _resized(session: Session) -> None:
    size = shutil.get_terminal_size()
    with suppress(OrchestratorError):
        await session.resize(size.lines, size.columns)


async def _listen(session: Session) -> None:
    """Our standard input, as it comes; in a thread, because files, pipes and terminals can be read no other way."""
    loop, came, ahead = asyncio.get_running_loop(), asyncio.Queue[bytes](), threading.Semaphore(1)

    def read() -> None:
        with suppress(RuntimeError, OSError):  # it is over: nobody wants it any more
            while data := os.read(0, CHUNK):
                ahead.acquire()
                loop.call_soon_threadsafe(came.put_nowait, data)
            loop.call_soon_threadsafe(came.put_nowait, b"")

    threading.Thread(target=read, name="input", daemon=True).start()
    with suppress(OrchestratorError):  # whoever reads the output says it
        while data := await came.get():
            ahead.release()
            await session.send(data)
        await session.eof()


@contextmanager
def raw(wanted: bool) -> Iterator[None]:
    """Our terminal hands every key on, Ctrl-C too, and is itself again at the end."""
    if not wanted or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def dump(
    job: JobArgument,
    rank: Annotated[int | None, typer.Option("--rank", min=0, help="Only of this rank.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where every rank of a running job is: the stacks of its Python processes, by py-spy.

    The job is paused for some milliseconds. Where py-spy may not look (another user's process, a Pod Security that
    forbids ptrace) or is not installed, it says so and what to do; the other ranks are shown all the same, and it exits
    with 1 only if no stack was seen. Example: `orchestrator dump JOB`, for a job that hangs.
    """
    with Client(patience_s=PATIENCE_S) as client:
        found = client.job(job).stacks(rank)
    if as_json:
        print_json(found)
    else:
        for view in found:
            _show(view)
    raise typer.Exit(Exit.OK if any(view.stacks for view in found) else Exit.FAILED)


def _show(view: StacksView) -> None:
    console = lines()
    where = " · ".join(clean(part) for part in (view.where, view.title) if part)
    console.print(Text.assemble((f"rank {view.rank}", "bold"), f"  {where}"))
    for line in view.stacks.splitlines():
        console.print(Text(f"  {clean(line)}"))
    if view.why:
        console.print(Text(f"  no stacks: {clean(view.why)}", style="yellow"))


def forward(
    job: JobArgument,
    port: Annotated[str, typer.Argument(metavar="[LOCAL:]PORT", help="8265 is the job's Ray dashboard.")] = "8265",
    rank: Rank = 0,
) -> None:
    """Bring a port beside a running job to this machine: it listens on 127.0.0.1 alone, until Ctrl-C.

    Examples: `orchestrator forward JOB 8265` for the Ray dashboard, `orchestrator forward JOB 16006:6006` for
    a TensorBoard that the job started. A dashboard that asks for a token takes the one that
    `orchestrator exec JOB -- printenv RAY_AUTH_TOKEN` prints.
    """
    local, _, there = port.rpartition(":")
    if not _is_port(there, 1) or (local and not _is_port(local, 0)):
        raise typer.BadParameter(f"{port!r} is not PORT or LOCAL:PORT", param_hint="PORT")
    asyncio.run(_forward(job, int(there), rank, int(local or there)))


def _is_port(text: str, least: int) -> bool:
    return text.isdecimal() and len(text) <= 5 and least <= int(text) <= 65535


async def _forward(job: str, port: int, rank: int, local: int) -> None:
    async with AsyncClient(patience_s=PATIENCE_S) as client:
        found = await client.job(job)
        try:
            async with found.forward(port, rank=rank, local_port=local) as open_:
                say(f"port {port} of rank {rank} is at [bold]http://127.0.0.1:{open_.port}[/]; Ctrl-C ends it")
                await _until_over(open_)
        except OSError as error:
            said = f"port {local} cannot be listened on here: {error.strerror or error}; name another: LOCAL:{port}"
            raise typer.BadParameter(said, param_hint="PORT") from error
    say("[red]error:[/] the server ended it: it stops, or the job runs elsewhere now")
    raise typer.Exit(Exit.FAILED)


async def _until_over(open_: Forward) -> None:
    """Until the server ends it; what goes wrong meanwhile is said."""
    over = asyncio.create_task(open_.ended())
    told: list[Any] = []
    while not over.done():
        await asyncio.wait({over}, timeout=1.0)
        for error in (one for one in open_.wrong if one not in told):
            say(f"[yellow]note:[/] a connection broke: {escape(str(error))}")
        told = open_.wrong
