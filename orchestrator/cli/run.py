"""Commands that make jobs: `run` a command, `submit` a file, `pack` a folder. Clients of the server.

Nothing is started silently: without a server they say how to start one. Ctrl-C detaches, as with every batch scheduler:
a job that is worth a cluster should not die with a terminal; the message says how to follow it and how to end it.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from orchestrator.cli.exits import Exit
from orchestrator.cli.jobs import PATIENCE_S, outcome
from orchestrator.cli.output import AsJson, clean, print_json, say, size_of
from orchestrator.core.explain import Scene, tell
from orchestrator.model import event as kinds
from orchestrator.model.documents import DocumentError, Problem, TrainingJob, load_job, refuse_unhonoured
from orchestrator.model.documents.text import plain
from orchestrator.model.documents.views import JobView
from orchestrator.sdk import Client, Job, command_job
from orchestrator.sdk.address import project as own_project
from orchestrator.sdk.errors import OrchestratorError, PackageError

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and return; do not follow it.")]
Key = Annotated[
    str | None, typer.Option("--key", help="Idempotency key: the same key and job again is the same job, for 7 days.")
]


WAITED_FOR = ("Intended",)
"""Told although a life passes over it: machines and Ray take their time, and somebody is looking."""


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="What to run, after `--`.")],
    gpus: Annotated[int, typer.Option(min=0, help="GPUs per worker.")] = 0,
    workers: Annotated[str, typer.Option(metavar="N|MIN:MAX", help="All of them or nothing; or any of a range.")] = "1",
    divisible: Annotated[
        bool, typer.Option("--divisible", help="Independent pieces: anybody may take a part.")
    ] = False,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs per worker.")] = 1,
    memory: Annotated[str | None, typer.Option(help="Memory per worker, e.g. 32Gi.")] = None,
    accelerator: Annotated[list[str] | None, typer.Option(help="Any of these, in order; repeatable.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Cheaper machines that are taken back after a notice.")] = False,
    folder: Annotated[Path, typer.Option("--dir", help="The folder of code to send along.")] = Path("."),
    no_package: Annotated[bool, typer.Option("--no-package", help="Send no code along.")] = False,
    name: Annotated[str | None, typer.Option(help="A label; not unique.")] = None,
    project: Annotated[str | None, typer.Option(help="Default: ORCHESTRATOR_PROJECT, or `default`.")] = None,
    job_class: Annotated[str | None, typer.Option("--class", help="What contracts select on.")] = None,
    residency: Annotated[str | None, typer.Option(help="Which law applies, e.g. eu.")] = None,
    max_runtime: Annotated[str | None, typer.Option(help="User-code time over all attempts, e.g. 12h.")] = None,
    start_by: Annotated[str | None, typer.Option(help="Fail if it has not started by then, e.g. 2h.")] = None,
    ceiling: Annotated[str | None, typer.Option(help="Highest price, dollars per GPU-hour.")] = None,
    environment: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; repeatable.")] = None,
    requirement: Annotated[list[str] | None, typer.Option(help="e.g. numpy==2.4.6; repeatable.")] = None,
    detach: Detach = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Run a command as a job and follow its output.

    Examples: `orchestrator run -- python train.py`,
    `orchestrator run --gpus 8 --accelerator H100 --max-runtime 12h -- python train.py --epochs 20`.
    `orchestrator run --workers 2:8 --gpus 1 -- python sweep.py` takes as many of 2 to 8 workers as somebody has;
    with `--workers 8 --divisible` what one leaves goes to others, as a job of its own, which is followed afterwards
    (`--json`: one document of each).
    With `--json` stdout holds the job as it ended, and what it prints goes to stderr.
    Ctrl-C stops following; the job goes on (`orchestrator cancel` ends it).
    """
    size: dict[str, Any] = {"count": size_of(workers), "gpus": gpus, "cpus": cpus}
    size |= {"memory": memory} if memory else {}
    size |= {"accelerator": accelerator} if accelerator else {}
    what: dict[str, Any] = {"environment": _pairs(environment or [])} if environment else {}
    what |= {"requirements": requirement} if requirement else {}
    job = command_job(
        command,
        folder=None if no_package else folder,
        name=name or _label(command),
        project=project or own_project(),
        run=what,
        workers=size,
        residency=residency,
        maxRuntime=max_runtime,
        startBy=start_by,
        ceilingUsdPerGpuHour=ceiling,
        divisible=divisible or None,
        spot=spot or None,
        **({"class": job_class} if job_class else {}),
    )
    _submit(job, key, detach, as_json)


def _label(command: list[str]) -> str | None:
    """A name for a job that was given none: its script's."""
    script = next((word for word in command if word.endswith((".py", ".sh"))), command[0])
    label = re.sub(r"[^a-z0-9-]+", "-", Path(script).stem.lower()).strip("-")[:40]
    return label or None


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if bad := [text for text, (name, equals, _) in zip(texts, pairs, strict=True) if not equals or not name]:
        raise typer.BadParameter(f"{bad[0]!r} is not NAME=VALUE", param_hint="--env")
    return {name: value for name, _, value in pairs}


def submit(
    file: Annotated[Path, typer.Option("--file", "-f", help="The job; YAML 1.2 or JSON; `-`: standard input.")],
    follow: Annotated[bool, typer.Option("--follow", help="Follow its output to the end.")] = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job from a file; a folder of code (`package: {dir: .}`) is packed and uploaded, relative to the file.

    Example: `orchestrator submit -f job.yaml --follow`; with `--json` stdout then holds the job as it ended, and what
    it prints goes to stderr.
    """
    job = _load(file)
    package = job.spec.run.package
    if package is not None and package.dir is not None:
        there = package.model_copy(update={"dir": str(file.parent / package.dir)})
        code = job.spec.run.model_copy(update={"package": there})
        job = job.model_copy(update={"spec": job.spec.model_copy(update={"run": code})})
    with _named(file), _of_its_folder(file):
        _submit(job, key, not follow, as_json)


@contextmanager
def _of_its_folder(file: Path) -> Iterator[None]:
    """What is wrong with the folder of code is wrong with the document that names it."""
    try:
        yield
    except PackageError as error:
        reason, _, remedy = str(error).partition("; ")
        problem = Problem("spec.run.package.dir", reason, remedy or "Name the folder that holds the code", "package")
        raise DocumentError([problem], str(file)) from error


def pack(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The folder of code.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", exists=True, dir_okay=False, help="Or a job that names one; YAML 1.2 or JSON."),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="Whose package it is (kubectl: the namespace). Default: ORCHESTRATOR_PROJECT.")
    ] = None,
) -> None:
    """Upload a folder of code and print its digest, or a job with its digest in it, for `kubectl apply`.

    With --file it goes to the store of the job's policy alone, of a folder first to the operator's first store.

    Examples: `orchestrator pack . --project team-a`, `orchestrator pack -f job.yaml | kubectl apply -f -`
    """
    if (folder is None) == (file is None):
        raise typer.BadParameter("give either a folder or --file")
    if folder is not None:
        typer.echo(f"sha256:{_uploaded(folder, project or own_project())}")
    elif file is not None:
        _packed(file, project)


def _packed(file: Path, project: str | None) -> None:
    job = _load(file)
    package = job.spec.run.package
    if package is None or package.dir is None:
        raise typer.BadParameter("it names no folder (spec.run.package.dir)", param_hint="--file")
    digest = _uploaded(file.parent / package.dir, project or job.metadata.project, job.spec.policy)
    document, _ = plain(file.read_bytes())
    document["spec"]["run"]["package"] = {"digest": f"sha256:{digest}"}
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=float))


def _uploaded(folder: Path, project: str, policy: str = "") -> str:
    with Client(patience_s=PATIENCE_S, notify=_notice) as client:
        return client.upload(folder, project, policy)


def _load(file: Path) -> TrainingJob:
    with _named(file):
        return load_job(_read(file))


def _named(file: Path) -> AbstractContextManager[None]:
    return DocumentError.named("standard input" if str(file) == "-" else str(file))


def _read(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="--file") from error


def _notice(text: str) -> None:
    say(f"[yellow]note:[/] {escape(text)}")


def _submit(job: TrainingJob, key: str | None, detach: bool, as_json: bool) -> None:
    refuse_unhonoured(job, packs=True)
    with Client(patience_s=PATIENCE_S, notify=_notice) as client:
        made = _made(client, job, key)
        for notice in made.view.notices:
            _notice(notice)
        if detach:
            print_json(made.view) if as_json else typer.echo(made.id)
            return
        say(f"job [bold]{made.id}[/] submitted")
        views = _followed(client, made, sys.stderr.buffer if as_json else sys.stdout.buffer)
    if as_json:
        for view in views:
            print_json(view)
    bad = [view for view in views if outcome(view) is not Exit.OK]
    for view in bad:
        say(f"job {view.id} {view.state}; `orchestrator explain {view.id}` tells its life")
    raise typer.Exit(outcome(bad[0]) if bad else Exit.OK)


def _followed(client: Client, job: Job, output: BinaryIO) -> list[JobView]:
    """To its end, and then what was left of it when it was split, and of that; what they print goes to `output`."""
    views: list[JobView] = []
    while True:
        try:
            views.append(_follow(job, output))
        except KeyboardInterrupt:
            _detached(client, job)
            raise
        if not (rest := views[-1].rest):
            return views
        say(f"the rest of it is job [bold]{rest}[/]")
        job = client.job(rest)


def _detached(client: Client, job: Job) -> None:
    """What goes on without us: the job, and what was left of it meanwhile."""
    say("", "detached; the job goes on.")
    with suppress(OrchestratorError):
        while True:
            say(f"Follow it: orchestrator logs -f {job.id}")
            say(f"End it: orchestrator cancel {job.id}")
            if not (rest := job.refresh().rest):
                return
            say("What was left of it goes on as well.")
            job = client.job(rest)


def _made(client: Client, job: TrainingJob, key: str | None) -> Job:
    try:
        return client.submit(job, key=key)
    except KeyboardInterrupt:
        say("", "interrupted before the server said that it has the job; `orchestrator jobs` shows whether it does")
        raise


def _follow(job: Job, output: BinaryIO) -> JobView:
    """What it prints to `output`, what happens to stderr, until the end."""
    teller = threading.Thread(target=_tell, args=(job.id,), daemon=True)
    teller.start()
    for chunk in job.output(follow=True):
        output.write(chunk)
        output.flush()
    view = job.wait(parts=False)
    teller.join(timeout=2)
    return view


def _tell(job: str) -> None:
    """What happens to the job, in sentences on stderr; a connection of its own, because clients are not thread-safe."""
    console, scene = Console(stderr=True, highlight=False), Scene()
    try:
        with Client(patience_s=PATIENCE_S) as client:
            for event in client.job(job).events(follow=True):
                if event.body is None:
                    continue
                scene, lines = tell(scene, 0, kinds.decode(json.dumps(event.body).encode()))
                for line in (line for line in lines if not line.quiet or event.kind in WAITED_FOR):
                    console.print(Text(f"· {clean(line.text)}", style="dim"), soft_wrap=True)
    except OrchestratorError:
        return  # the thread that follows the output says what is wrong
