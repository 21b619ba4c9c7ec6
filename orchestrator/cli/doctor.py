"""`orchestrator doctor`: what is wrong here, and what to do about it? `doctor store` races writers on a real store.

Called by operators before and after something breaks. Reads, asks, and (for the store) writes below `doctor/` only;
mends nothing by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from orchestrator.cli.exits import Exit
from orchestrator.cli.jobs import PATIENCE_S
from orchestrator.cli.output import AsJson, echo, print_json, table
from orchestrator.sdk import Client
from orchestrator.sdk.address import find
from orchestrator.sdk.errors import OrchestratorError

if TYPE_CHECKING:
    from orchestrator.model.wire import StoreRef

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
    name: Annotated[
        str | None, typer.Argument(help="One of the server's stores; default: all.", show_default=False)
    ] = None,
    url: Annotated[str | None, typer.Option(help="Another one: file:///…, s3://…", show_default=False)] = None,
    writers: Annotated[int, typer.Option(min=2, max=32, help="Writers that race for each key.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Keys that they race for.")] = 25,
    as_json: AsJson = False,
) -> None:
    """Race writers for keys of checkpoint stores: may run logs live there? Exit 1 where one is of no use.

    Where the server runs: the stores that its settings and its providers file name, with their options and secrets.
    Those of `--url` come from ORCHESTRATOR_STORE_OPTIONS and ORCHESTRATOR_STORE_SECRETS. Writes below `doctor/` and
    deletes it again. `--json` lists all, or shows the one that was named.

    Examples: `orchestrator doctor store`; `orchestrator doctor store --url s3://bucket/prefix`
    """
    from orchestrator.runlog.store import BadStore, StoreUnavailable

    alone, found = bool(name or url), []
    for ref in _stores(name, url):
        try:
            found.append(_raced(ref, writers, rounds))
        except (BadStore, StoreUnavailable) as error:
            if alone:
                raise
            found.append({"store": ref.name, "url": ref.url, "ok": False, "why": str(error)})
    if as_json:
        print_json(found[0] if alone else found)
    else:
        _show(found)
    if not all(one["ok"] for one in found):
        raise typer.Exit(Exit.FAILED)


def _stores(name: str | None, url: str | None) -> list[StoreRef]:
    """Those to look at, as the server would open them."""
    from orchestrator.bootstrap import load_documents, store_refs
    from orchestrator.model.wire import StoreRef
    from orchestrator.settings import load

    settings = load(contracts=None)  # which are none of a store's business
    if name and url:
        raise typer.BadParameter("give the name of a store or --url, not both")
    if url:
        options, secret = dict(settings.store_options), dict(settings.store_secrets)
        return [StoreRef(name="doctor", url=url, options=options, secrets=secret)]
    refs = dict(store_refs(settings, load_documents(settings)[1]))
    if name and name not in refs:
        raise typer.BadParameter(f"there is no store {name!r}; there are: {', '.join(refs)}; or give --url")
    return [refs[name]] if name else list(refs.values())


def _raced(ref: StoreRef, writers: int, rounds: int) -> dict[str, Any]:
    """What a race showed. Raises BadStore, StoreUnavailable."""
    from orchestrator.runlog.doctor import race

    report = race(ref, writers, rounds, secrets.token_hex(8))
    return {"store": ref.name, "url": ref.url, **asdict(report), "ok": report.ok}


def _show(found: list[dict[str, Any]]) -> None:
    for one in found:
        counts = {name.replace("_", " "): str(count) for name, count in one.items() if type(count) is int}
        if counts:
            table(("of the race", "count"), counts.items(), "")
        wrong = one.get("why", "this store is not safe for a run log")
        echo(f"{one['url']}: {'well: a run log may live here' if one['ok'] else f'wrong: {wrong}'}")
