"""Commands that look at jobs, end or change them: jobs, job, logs, explain, cancel, resume, scale. Clients of the
server."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from orchestrator.cli.exits import Exit
from orchestrator.cli.output import (
    AsJson,
    JobArgument,
    age,
    clean,
    dollars,
    json_option,
    life,
    lines,
    print_json,
    say,
    size_of,
    state,
    table,
)
from orchestrator.core.numbers import so_many
from orchestrator.model.documents.views import AttemptView, JobView
from orchestrator.model.job import JobState
from orchestrator.sdk import Client, Job
from orchestrator.sdk.client import WAITING_PATIENCE_S
from orchestrator.sdk.streams import Lines

PATIENCE_S = 3.0
"""At a terminal nobody waits long for a server that is away."""


def jobs(
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    states: Annotated[list[JobState] | None, typer.Option("--state", help="Only in this state; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first.

    Examples: `orchestrator jobs --state running`, `orchestrator jobs --json | jq -r '.[].id'`
    """
    with Client(patience_s=PATIENCE_S) as client:
        views = [job.view for job in client.jobs(project=project, states=states or (), limit=limit)]
    if as_json:
        print_json(views)
        return
    headings = ("job", "name", "project", "state", "where", "try", "age", "why")
    nothing = "no such jobs" if project or states else "no jobs; `orchestrator run -- python train.py` makes one"
    table(headings, (_row(view) for view in views), nothing)
    if len(views) == limit:
        say(f"[dim]the newest {limit}; --limit shows more[/]")


def _row(view: JobView) -> tuple[str | Text, ...]:
    attempt = str(len(view.attempts) or "")
    at = (view.id, view.name, view.project, state(view.state), view.provider, attempt)
    return (*at, age(view.submitted_at), view.reason.replace("_", " "))


def job(
    job: JobArgument,
    timeline: Annotated[Path | None, typer.Option(help="Draw its life as an SVG into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where one job stands: attempts, what user code reported, what was submitted.

    Example: `orchestrator job 01K9Z3M5W2T8Q4N6R7VXYBCD0E --timeline life.svg`
    """
    with Client(patience_s=PATIENCE_S) as client:
        found = client.job(job)
        explained = found.explain()
    if timeline is not None:
        from orchestrator.cli.timeline import draw_view

        try:
            timeline.write_text(draw_view(explained))
        except OSError as error:
            raise typer.BadParameter(
                f"{timeline} cannot be written: {error.strerror}", param_hint="--timeline"
            ) from error
        say(f"drawn: {escape(str(timeline))}")
    if as_json:
        print_json(found.view)
        return
    _show(found.view, explained.why)
    _note(found.view.notices, lines())


def _show(view: JobView, why: str) -> None:
    console = lines()
    console.print(Text.assemble((view.id, "bold"), f"  {clean(view.name)}  ", state(view.state)))
    console.print(Text(clean(why)))
    console.print(Text(clean(_asked(view)), style="dim"))
    if view.rest or view.rest_of:
        console.print(Text(_part(view), style="dim"))
    if view.next_workers is not None:
        console.print(Text(_to_be(view), style="dim"))
    if view.progress is not None:
        parts = (
            ("step", view.progress.step),
            ("loss", view.progress.loss),
            ("saved at", view.progress.checkpoint_step),
        )
        reported = "  ".join(f"{name} {value}" for name, value in parts if value is not None)
        console.print(Text(clean(reported), style="cyan"))
    if view.attempts:
        headings = ("try", "provider", "region", "workers", "state", "why", "ran", "price/h", "charged")
        table(headings, (_attempt(attempt, _count(view)) for attempt in view.attempts), "")


def _to_be(view: JobView) -> str:
    """Of a job that is to have another size: what runs may be one of its numbers."""
    most, runs = view.next_workers or 0, view.attempts[-1].workers or 0
    size = so_many(most, view.next_min_workers or 0)
    if (view.next_min_workers or most) <= runs <= most:
        return f"it runs on with {runs}, and is to have {size} when it is placed again"
    return f"what is under way is asked to save and stop; then it is to have {size}"


def _asked(view: JobView) -> str:
    """What was submitted, in one line."""
    spec = (view.document or {}).get("spec", {})
    workers = spec.get("workers", {})
    kinds = " or ".join(workers.get("accelerator", ())) or "GPU"
    gpus = f" x {workers['gpus']} {kinds}" if workers.get("gpus") else ""
    command = shlex.join(spec.get("run", {}).get("command", ()))
    return f"{_count(view)} worker(s){gpus}: {command}"


def _part(view: JobView) -> str:
    """Of a part of a divisible job: which one it is, what was left when it was taken, of what it is what was left."""
    last = view.first_piece + view.workers - 1
    came = f", left of offer {view.rest_of}" if view.rest_of else ""
    return f"pieces {view.first_piece} to {last}{came}" + (f"; the rest is {view.rest}" if view.rest else "")


def _count(view: JobView) -> str:
    """How many workers it has, or the range."""
    return str(view.workers) if view.min_workers is None else f"{view.min_workers} to {view.workers}"


def _attempt(view: AttemptView, asked: str) -> tuple[str, ...]:
    where = (str(view.epoch), view.provider, view.region, str(view.workers or asked), view.how or view.state)
    why = view.why.replace("_", " ")
    ran = age(view.started_at) if view.started_at and not view.ended_at else f"{view.ran_ms / 1000:.0f}s"
    return (*where, why, ran, dollars(view.price_microusd), dollars(view.charge_microusd))


def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    rank: Annotated[
        int | None, typer.Option("--rank", min=0, help="Only of this process, read where it runs now.")
    ] = None,
    as_json: Annotated[bool, json_option('Print {"line": …} for each line, for programs.')] = False,
) -> None:
    """Print what user code printed, over all attempts, in order.

    With `--rank` it is read where that process runs, while it runs; without, from beside the run log, where it outlives
    every machine. Ctrl-C stops following; the job goes on. Example: `orchestrator logs -f 01K9Z3M5W2T8Q4N6R7VXYBCD0E`
    """
    waiting_s = WAITING_PATIENCE_S if follow else PATIENCE_S  # who follows outlives a server's restart
    with Client(patience_s=PATIENCE_S, waiting_patience_s=waiting_s) as client:
        found = client.job(job)
        chunks = found.output(follow=follow) if rank is None else found.output_of(rank, follow=follow)
        for chunk in _as_json(chunks) if as_json else chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def _as_json(chunks: Iterable[bytes]) -> Iterator[bytes]:
    cut = Lines()
    for line in chain(chain.from_iterable(map(cut.feed, chunks)), cut.end()):
        yield json.dumps({"line": line}).encode() + b"\n"


def explain(job: JobArgument, as_json: AsJson = False) -> None:
    """Tell a job's life in sentences: who was asked by which right, what they said, why it stands where it stands."""
    with Client(patience_s=PATIENCE_S) as client:
        told = client.job(job).explain()
    if as_json:
        print_json(told)
        return
    console = lines()
    for line in life(told.lines):
        console.print(line)
    console.print(Text.assemble(("now: ", "bold"), clean(told.why)))
    _note(told.job.notices, console)


def _note(notices: list[str], console: Console) -> None:
    """What to know besides."""
    for notice in notices:
        console.print(Text.assemble(("note: ", "yellow"), clean(notice)))


def cancel(
    job: JobArgument,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for a job's end; asking again changes nothing."""
    with Client(patience_s=PATIENCE_S) as client:
        found = client.job(job)
        found.cancel()
        if wait:
            found.wait(parts=False)
        _said(found, as_json)


def resume(job: JobArgument, as_json: AsJson = False) -> None:
    """Let a held job go on, after what held it was changed."""
    with Client(patience_s=PATIENCE_S) as client:
        found = client.job(job)
        found.resume()
        _said(found, as_json)


def scale(
    job: JobArgument,
    workers: Annotated[str, typer.Option(metavar="N|MIN:MAX", help="So many, or any number of a range.")],
    as_json: AsJson = False,
) -> None:
    """Give a job another number of workers.

    A job that waits has it at once. One that runs is asked to save and stop, and goes on from its last checkpoint as
    that; its code reads in `ORCHESTRATOR_WORKERS` how many it is now. More than ran before is a growth: the contracts
    in force say who is offered it first (`scale_up`). Nothing is stopped for a size that law or ceilings let nobody
    run; who has room for it is only known once it is offered. If nobody has, scale it back to what could be had.

    Examples: `orchestrator scale JOB --workers 8`; any number from 4 to 8, as whoever accepts has room:
    `orchestrator scale JOB --workers 4:8`
    """
    with Client(patience_s=PATIENCE_S) as client:
        found = client.job(job)
        view = found.scale(size_of(workers))
        _said(found, as_json, *([_to_be(view)] if view.next_workers is not None else ()))


def _said(job: Job, as_json: bool, *more: str) -> None:
    """What became of a wish: for people on stderr, for programs on stdout, as `orchestrator job --json` shows it."""
    told = job.view
    if as_json:
        shown = job.refresh()
        print_json(shown.model_copy(update={"notices": told.notices or shown.notices}))
        return
    say(f"job {told.id} is {told.state}")
    _note([*more, *told.notices], lines(stderr=True))


def outcome(view: JobView) -> Exit:
    """The exit code of a command that saw a job to its end."""
    return Exit.OK if view.state == "succeeded" else Exit.FAILED
