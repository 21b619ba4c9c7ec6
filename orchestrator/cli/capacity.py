"""`orchestrator capacity`: which capacity is owned already, and another set of it at the running server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.jobs import PATIENCE_S
from orchestrator.cli.output import AsJson, print_json, table
from orchestrator.model.documents.views import BlockView
from orchestrator.sdk import Client

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    help="Show the capacity that is owned already, or let another set of it take effect.\n\n"
    "A *block* is so many accelerators in one region of one provider, from one moment to another. A job that fits into "
    "one, for all of its maxRuntime, is placed there before anybody else is asked: with the trigger `owned`, which "
    "opens no first right that does not name it. Law, ceilings and exclusives hold. Whatever does not fit is an "
    "ordinary new job.\n\n" + EXIT_CODES,
)


@app.callback()
def default(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Without a command: the listing."""
    if ctx.invoked_subcommand is None:
        listing(as_json)


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """List the blocks, as they were applied, and how many GPUs of each are offered or in use: `taken`.

    It is empty (null with --json) where no server that leads says it."""
    with Client(patience_s=PATIENCE_S) as client:
        _show(client.capacity(), as_json)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A Capacity document.")],
    as_json: AsJson = False,
) -> None:
    """Let the Capacity document FILE take effect at the running server, whole and now.

    What is not in it is owned no more; what runs in a block runs on. Everything wrong with it is said at once, and then
    nothing changes. It stays over restarts, until another is applied or the server is started with another file. Needs
    a token with the scope `operator`.

    It is refused, too, where it prolongs a block to which another supplier has a right: then it says whom to ask, and
    how the answer is put on record.
    """
    with Client(patience_s=PATIENCE_S) as client:
        _show(client.apply_capacity(file.read_bytes()), as_json)


def _show(views: list[BlockView], as_json: bool) -> None:
    if as_json:
        print_json(views)
        return
    headings = ("block", "accelerator", "gpus", "taken", "region", "from", "until", "USD per GPU-hour", "contract")
    table(headings, map(_row, views), "no capacity is owned")


def _row(view: BlockView) -> tuple[str, ...]:
    price = f"{view.price / 1_000_000:.2f}" if view.price is not None else ""
    since, until = f"{view.since:%Y-%m-%d %H:%M}Z", f"{view.until:%Y-%m-%d %H:%M}Z"
    name = f"{view.provider}/{view.name}"
    taken = f"{view.taken}/{view.gpus}" if view.taken is not None else ""
    return name, view.accelerator, str(view.gpus), taken, view.region, since, until, price, view.contract
