"""`orchestrator doctor`: what is wrong here, and what to do about it? `doctor store` races writers on a real store.

Called by operators before and after something breaks. Reads, asks, and (for the store) writes below `doctor/` only;
mends nothing by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.cli.exits import Exit
from orchestrator.cli.jobs import PATIENCE_S
from orchestrator.cli.output import AsJson, echo, print_json, table
from orchestrator.sdk import Client
from orchestrator.sdk.address import find
from orchestrator.sdk.errors import OrchestratorError

app = typer.Typer(
    invoke_without_command=True, rich_markup_mode="markdown", help="Say what is wrong here, and what to do about it."
)
Finding = tuple[str, bool, str]
"""What was looked at, whether it is well, what was found."""


@app.callback()
def everything(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Look at the server, its providers, its stores and this installation; exit 1 where something is wrong."""
    if ctx.invoked_subcommand is not None:
        return
    findings = list(look())
    if as_json:
        print_json([{"what": what, "well": well, "found": found} for what, well, found in findings])
    else:
        rows = (
            (what, Text("well", "green") if well else Text("wrong", "red"), found) for what, well, found in findings
        )
        table(("what", "is", "found, and the remedy"), rows, "")
    if not all(well for _, well, _ in findings):
        raise typer.Exit(Exit.FAILED)


def look() -> Iterator[Finding]:
    """Every finding, the server's as far as it answers."""
    ray = find_spec("ray") is not None
    yield (
        "ray",
        ray,
        "installed" if ray else "not installed: the provider `local` needs `pip install 'first-refusal[ray]'`",
    )
    try:
        address = find()
        yield "address", True, address.url
        with Client(patience_s=PATIENCE_S) as client:
            count = len(list(client.jobs(limit=1)))
            yield "server", True, f"answers, {'has jobs' if count else 'has no jobs yet'}"
            for view in client.check_providers():
                yield f"provider {view.provider}", not view.missing, "; ".join(view.missing) or "nothing is missing"
            for one in client.check_stores():
                yield f"store {one.store}", not one.missing, "; ".join(one.missing) or "can be read"
    except OrchestratorError as error:
        yield "server", False, str(error).replace("See `orchestrator doctor`", "Start it: `orchestrator serve`")


@app.command()
def store(
    url: Annotated[str | None, typer.Option(help="file:///…, s3://…; default: the server's ORCHESTRATOR_STORE")] = None,
    writers: Annotated[int, typer.Option(min=2, max=32, help="Writers that race for each key.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Keys that they race for.")] = 25,
    as_json: AsJson = False,
) -> None:
    """Race writers for keys of a checkpoint store: may a run log live there? Exit 1 if put-if-absent does not hold.

    Options and secrets of the store come from ORCHESTRATOR_STORE_OPTIONS and ORCHESTRATOR_STORE_SECRETS. Writes below
    `doctor/` and deletes it again. Example: `orchestrator doctor store --url s3://bucket/prefix`
    """
    from orchestrator.model.wire import StoreRef
    from orchestrator.runlog.doctor import race
    from orchestrator.settings import load

    settings = load()
    options, secret = dict(settings.store_options), dict(settings.store_secrets)
    ref = StoreRef(name="doctor", url=url or settings.store_url, options=options, secrets=secret)
    report = race(ref, writers, rounds, secrets.token_hex(8))
    if as_json:
        print_json(asdict(report) | {"ok": report.ok})
    else:
        words = {name.replace("_", " "): str(value) for name, value in asdict(report).items()}
        table(("of the race", "count"), words.items(), "")
        verdict = "well: a run log may live here" if report.ok else "wrong: this store is not safe for a run log"
        echo(f"{ref.url}: {verdict}")
    if not report.ok:
        raise typer.Exit(Exit.FAILED)
