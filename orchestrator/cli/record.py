"""`orchestrator record`: what do attesters put on record, so that exemptions, releases and ends of terms can be proven?

Clients of the server; each needs a token with the scope `attester`. A submitter's label never stands in for a record.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.jobs import PATIENCE_S
from orchestrator.cli.output import AsJson, print_json, table
from orchestrator.model.documents.views import RecordView
from orchestrator.sdk import Client

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    help="Put consents, evidence, waivers, events, classes and overrides on record, or list them (no command).\n\n"
    "Contracts decide with what is on record: a *consent* frees a job from an exclusive, *evidence* makes an exemption "
    "count, a *waiver* is a refusal beforehand, an *event* ends a term once its quorum has attested it. Nobody "
    "exempts a job by a label. Every record names who made it (the token), and may name who approved it and the sha256 "
    "of the paper behind it (`--paper FILE`). It needs a token with the scope `attester`, takes effect at once, and "
    "stays in the ledger; what has expired no longer counts.\n\n" + EXIT_CODES,
)
Project = Annotated[str | None, typer.Option("--project", help="About jobs of this project; without: of all.")]
Job = Annotated[str | None, typer.Option("--job", help="About this one job, by its id.")]
Classes = Annotated[list[str] | None, typer.Option("--class", help="About jobs of this class; repeatable.")]
Clause = Annotated[
    str | None, typer.Option("--clause", help="About this clause: CONTRACT/CLAUSE, or CONTRACT for all.")
]
Block = Annotated[
    str | None, typer.Option("--block", help="About prolonging this block of owned capacity alone: PROVIDER/NAME.")
]
To = Annotated[
    str | None,
    typer.Option("--to", help="With --block: the end that it is to have, as the document says it: a day, or a moment."),
]
Until = Annotated[
    str | None, typer.Option("--until", help="First moment at which it no longer counts, as in 2026-12-31T00:00:00Z.")
]
Approver = Annotated[str | None, typer.Option("--approver", help="The person who stands for it.")]
Paper = Annotated[
    Path | None,
    typer.Option("--paper", exists=True, dir_okay=False, help="The paper behind it; its sha256 is kept, not the file."),
]


@app.callback()
def default(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Without a command: the listing."""
    if ctx.invoked_subcommand is None:
        listing(as_json)


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """List what is on record and has not expired, newest first."""
    with Client(patience_s=PATIENCE_S) as client:
        views = client.records()
    if as_json:
        print_json(views)
        return
    table(("record", "what", "about", "until", "by", "approver", "why"), map(_row, views), "nothing is on record")


def _row(view: RecordView) -> tuple[str, ...]:
    what = " ".join(part for part in (view.what, view.holder, view.name) if part)
    subject = [view.job, f"project {view.project}" if view.project else "", *view.classes, view.clause]
    subject.append("who cites it" if view.cited else "")
    subject.append(f"more of {view.block}, to {view.block_to:%Y-%m-%d %H:%M}Z" if view.block_to else "")
    bound = f"up to {view.gpus} GPUs" if view.gpus else ""
    about = ", ".join(part for part in (*subject, bound) if part) or "every job"
    until = f"{view.until:%Y-%m-%d %H:%M}Z" if view.until else ""
    return view.id, what, about, until, view.by, view.approver, view.why


@app.command()
def consent(
    holder: Annotated[str, typer.Argument(help="The holder who consents.")],
    job: Job = None, project: Project = None, classes: Classes = None, block: Block = None, to: To = None,
    clause: Clause = None, until: Until = None, approver: Approver = None, paper: Paper = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """HOLDER agrees that jobs go elsewhere: opens an exclusive that lists `consent`, or an exemption by consent.

    Example: `orchestrator record consent azure --project vision --until 2026-12-31T00:00:00Z --paper letter.pdf`
    """
    _put(as_json, paper, what="consent", holder=holder, job=job, project=project, classes=classes, block=block, to=to,
         clause=clause, until=until, approver=approver)  # fmt: skip


@app.command()
def evidence(
    name: Annotated[str, typer.Argument(help="What the exemption asks for: a name of its `evidence`, or its own id.")],
    cited: Annotated[bool, typer.Option("--cited", help="Only for jobs that cite its id in `spec.evidence`.")] = False,
    job: Job = None, project: Project = None, classes: Classes = None, block: Block = None, to: To = None,
    clause: Clause = None, until: Until = None, approver: Approver = None, paper: Paper = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """There is evidence NAME, which an exemption takes.

    Record it before the job comes in: for its project, its class, or (`--cited`) for whoever cites the printed id.

    Example: `orchestrator record evidence holder-approval-own-build --job 01K9… --approver "A. Counsel" --paper ok.pdf`
    """
    _put(as_json, paper, what="evidence", name=name, cited=cited or None, job=job, project=project, classes=classes,
         block=block, to=to, clause=clause, until=until, approver=approver)  # fmt: skip


@app.command()
def waiver(
    holder: Annotated[str, typer.Argument(help="The holder who waives.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="The largest job that it covers, in GPUs.")],
    until: Annotated[str, typer.Option("--until", help="First moment at which it no longer counts.")],
    project: Project = None, classes: Classes = None, block: Block = None, to: To = None, clause: Clause = None,
    approver: Approver = None, paper: Paper = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """HOLDER refuses such jobs beforehand: they do not wait for its first right.

    With `--block` and `--to` it has refused that a block of owned capacity is prolonged to that end, and nothing else.

    Example: `orchestrator record waiver azure --class evaluation --gpus 64 --until 2026-07-01T00:00:00Z`
    """
    _put(as_json, paper, what="waiver", holder=holder, gpus=gpus, until=until, project=project, classes=classes,
         block=block, to=to, clause=clause, approver=approver)  # fmt: skip


@app.command()
def event(
    name: Annotated[str, typer.Argument(help="The event, as `endsOn` names it.")],
    approver: Approver = None, paper: Paper = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """NAME has happened, says the bearer of this token: one attester of `endsOn`. It cannot be taken back.

    Example: `orchestrator record event agi.declared --paper verdict.pdf`
    """
    _put(as_json, paper, what="event", name=name, approver=approver)


@app.command("class")
def job_class(
    name: Annotated[str, typer.Argument(help="The class of work.")],
    job: Annotated[str, typer.Option("--job", help="The job, by its id.")],
    approver: Approver = None, paper: Paper = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """A job is of class NAME, whatever its document says: contracts select on this from here on.

    Example: `orchestrator record class research --job 01K9Z3M5W2T8Q4N6R7VXYBCD0E`
    """
    _put(as_json, paper, what="class", name=name, job=job, approver=approver)


@app.command()
def override(
    clause: Annotated[str, typer.Argument(help="CONTRACT/CLAUSE, or CONTRACT for all of its clauses.")],
    approver: Annotated[str, typer.Option("--approver", help="The person who answers for the breach.")],
    why: Annotated[str, typer.Option("--why", help="The reason, in words.")],
    job: Job = None, project: Project = None, classes: Classes = None, block: Block = None, to: To = None,
    until: Until = None, paper: Paper = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Pass a clause over, knowingly. `orchestrator audit` lists every use of it as a declared breach.

    Example: `orchestrator record override msft-2025/rofr --job 01K9… --approver "C. Executive" --why "outage 4711"`
    """
    _put(as_json, paper, what="override", clause=clause, approver=approver, why=why, job=job, project=project,
         classes=classes, block=block, to=to, until=until)  # fmt: skip


def _put(as_json: bool, paper: Path | None, classes: list[str] | None = None, **given: Any) -> None:
    told = {name: value for name, value in given.items() if value is not None}
    if classes:
        told["class"] = classes
    if paper is not None:
        told["document"] = hashlib.sha256(paper.read_bytes()).hexdigest()
    with Client(patience_s=PATIENCE_S) as client:
        view = client.record(told)
    if as_json:
        print_json(view)
    else:
        typer.echo(view.id)
