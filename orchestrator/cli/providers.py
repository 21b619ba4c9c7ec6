"""`orchestrator providers`: who may be asked, can we reach them, and what is missing for them to work?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.cli.exits import Exit
from orchestrator.cli.jobs import PATIENCE_S
from orchestrator.cli.output import AsJson, age, echo, print_json, table
from orchestrator.sdk import Client

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    help="Show the providers that the server uses, and check what is missing.",
)


@app.callback()
def default(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Without a command: the listing."""
    if ctx.invoked_subcommand is None:
        listing(as_json)


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """List providers in the operator's order."""
    with Client(patience_s=PATIENCE_S) as client:
        views = client.providers()
    if as_json:
        print_json(views)
        return
    rows = (
        (
            view.name,
            Text("reachable", style="green") if view.reachable else Text("unreachable", style="red"),
            age(view.since) if view.since else "",
            str(view.open_offers),
            str(view.active_attempts),
            view.detail,
        )
        for view in views
    )
    table(("provider", "state", "for", "offers", "attempts", "detail"), rows, "no providers")


@app.command()
def check(
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, readable=True, help="A providers file.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask every provider what is missing for it to work; exit 1 where something is.

    With FILE: judge that file as a server does when it starts, adapters, connections and stores included, before one
    does. Nobody is asked, no server is needed, and no secret is read. Exit 4 where it is refused, 2 where a connection
    or a store cannot be used.
    """
    if file is not None:
        _check_file(file, as_json)
        return
    with Client(patience_s=PATIENCE_S) as client:
        views = client.check_providers()
    if as_json:
        print_json(views)
    else:
        rows = ((view.provider, line) for view in views for line in (view.missing or ["nothing is missing"]))
        table(("provider", "missing, and the remedy"), rows, "no providers")
    if any(view.missing for view in views):
        raise typer.Exit(Exit.FAILED)


def _check_file(file: Path, as_json: bool) -> None:
    from orchestrator.bootstrap import judge_providers
    from orchestrator.model.documents import digest

    document = asyncio.run(judge_providers(file))
    named = {"providers": list(document.spec.providers), "stores": list(document.spec.stores)}
    if as_json:
        print_json({"file": str(file), "digest": digest(document), **named})
        return
    echo(f"{file}: provider set {document.metadata.name}, sha256 {digest(document)}")
    for kind, names in named.items():
        echo(f"  {kind}: {', '.join(names) or 'none'}")
    echo("  ok")
