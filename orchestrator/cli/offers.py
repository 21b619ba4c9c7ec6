"""`orchestrator offers`: every offer of a job, for its owner; what is open for a supplier, whose people answer.

Clients of the server. `orchestrator offers JOB` is the owner's; `list` and `answer` need a token that is bound to one
provider, and see that provider's open offers and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from orchestrator.cli.exits import EXIT_CODES, Exit
from orchestrator.cli.jobs import PATIENCE_S
from orchestrator.cli.output import AsJson, JobArgument, dollars, print_json, say, table
from orchestrator.model.documents.offers import OpenOfferView, OutcomeView, Said
from orchestrator.model.documents.views import OfferView
from orchestrator.model.offer import Reason
from orchestrator.model.placement import MOST_PRICE, MOST_WORKERS
from orchestrator.sdk import Client


class _OfJob(TyperGroup):
    """`offers JOB` is short for `offers of JOB`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the missing word in."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["of", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_OfJob,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Who was asked for a job (`orchestrator offers JOB`), and the answers of suppliers who give them by hand."
    "\n\n" + EXIT_CODES,
)


Receipts = Annotated[
    Path | None, typer.Option("--receipts", dir_okay=False, help="Keep evidence here, for `orchestrator-verify`.")
]


class Answers(StrEnum):
    """What there is to say."""

    ACCEPT = "accept"
    DECLINE = "decline"


@app.command("of")
def of_job(job: JobArgument, as_json: AsJson = False) -> None:
    """List every offer of a job: to whom, by which right, and what was answered. Short: `orchestrator offers JOB`."""
    with Client(patience_s=PATIENCE_S) as client:
        found = client.job(job).offers()
    if as_json:
        print_json(found)
        return
    headings = ("offer", "provider", "right", "state", "reason", "price/h", "opened", "passed over")
    table(headings, map(_offer, found), "nobody was asked yet; `orchestrator explain` says why")


def _offer(view: OfferView) -> tuple[str, ...]:
    passed = ", ".join(f"{skip.provider} ({skip.reason.replace('_', ' ')})" for skip in view.skipped)
    said = (view.state, view.reason.replace("_", " "), dollars(view.price_microusd))
    right = view.clause or (f"owned {view.block}" if view.block else "market")
    return (f"o{view.n}", view.provider, right, *said, f"{view.opened_at:%H:%M:%S}", passed)


@app.command("list")
def list_open(receipts: Receipts = None, as_json: AsJson = False) -> None:
    """List what waits for your word, and until when: a supplier's, by its own token. Oldest first.

    `--json` has every field, the terms taken apart (compact and with sorted keys their sha256 is `termsHash`), and
    `leftMs`, what is left until `due` by this machine's clock.

    With `--receipts FILE` what you are shown is kept, once each: `orchestrator-verify --receipts FILE` proves by it,
    later, that nothing was rewritten. The window runs from the first acknowledgement; silence refuses this offer only.
    """
    with Client(patience_s=PATIENCE_S) as client:
        found = client.open_offers()
    if receipts is not None:
        as_it_left_us = (one.model_dump(mode="json", by_alias=True, exclude={"due"}) for one in found)
        _keep(receipts, [{"line": "offer", **one} for one in as_it_left_us])
    if as_json:
        plain = [one.model_dump(mode="json", by_alias=True) for one in found]
        more = [{"terms": json.loads(one.terms), "leftMs": _left_ms(one)} for one in found]
        print_json([a | b for a, b in zip(plain, more, strict=True)])
        return
    headings = ("offer", "#", "right", "class", "asked for", "at most/h", "regions", "answer by")
    table(headings, map(_open, found), "nothing is open for you")


def _open(view: OpenOfferView) -> tuple[str, ...]:
    terms = json.loads(view.terms)
    least = f"{terms['minWorkers']} to " if "minWorkers" in terms else ""
    size = f"{least}{terms['workers']} x {terms['gpusPerWorker']} {' or '.join(terms['accelerators']) or 'GPU'}"
    parts = ", the rest goes to others," if terms.get("divisible") else ""
    asked = f"{size}{parts} for {timedelta(milliseconds=terms['maxRuntimeMs'])}"
    regions = ", ".join(terms["regions"]) or "any"
    right = view.clause or "market"
    return (
        view.offer,
        str(view.ordinal),
        right,
        view.workload,
        asked,
        dollars(terms["ceilingMicrousd"]),
        regions,
        _due(view),
    )


def _left_ms(view: OpenOfferView) -> int | None:
    """Milliseconds until its window ends, by this machine's clock; None: it has not begun."""
    if view.due is None:
        return None
    return max(0, (view.due - datetime.now(UTC)) // timedelta(milliseconds=1))


def _due(view: OpenOfferView) -> str:
    left = _left_ms(view)
    if view.due is None or left is None:
        return f"{timedelta(microseconds=view.window_us)} from when you have it"
    return f"{view.due:%Y-%m-%d %H:%M:%S}Z, in {timedelta(seconds=left // 1000)}"


@app.command()
def answer(
    offer: Annotated[str, typer.Argument(metavar="OFFER", help="Its id, as `orchestrator offers list` shows it.")],
    said: Annotated[Answers, typer.Argument(metavar="accept|decline", help="Yes to exactly these terms, or no.")],
    reason: Annotated[Reason | None, typer.Option(help="Of a decline; needed there.")] = None,
    price: Annotated[
        float | None, typer.Option(min=0, max=MOST_PRICE // 10**6, help="USD per GPU-hour that an acceptance asks.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Where an acceptance will run it.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_WORKERS, help="How many of an elastic or divisible job's; none given: all."),
    ] = None,
    detail: Annotated[str, typer.Option(help="In your own words, 160 characters at most; kept as evidence.")] = "",
    receipts: Receipts = None,
    as_json: AsJson = False,
) -> None:
    """Answer an open offer, once and for good. A supplier's, by its own token.

    A price above the ceiling or a region that was not offered is refused, and nothing is kept: correct it. Exit code
    1: the answer did not count. `closed`: the window was over, or another answer was given before; that one stands.

    With `--receipts FILE` it is kept with its outcome: after another's answer, `orchestrator-verify` counts a `closed`
    one as not checked.

    Examples: `orchestrator offers answer 01K9Z3M5W2T8Q4N6R7VXYBCD0E-o1 accept --price 2.60`,
    `orchestrator offers answer 01K9Z3M5W2T8Q4N6R7VXYBCD0E-o1 decline --reason capacity`
    """
    if said is Answers.DECLINE and reason is None:
        raise typer.BadParameter(f"a decline has a reason: {', '.join(Reason)}", param_hint="--reason")
    with Client(patience_s=PATIENCE_S) as client:
        terms = _terms_hash(client, offer) if said is Answers.ACCEPT else None
        told = client.answer(offer, _said(
            accepted=said is Answers.ACCEPT, terms_hash=terms, reason=reason if said is Answers.DECLINE else None,
            price_microusd=None if price is None else round(price * 1_000_000), region=region,
            workers=workers, detail=detail,
        ))  # fmt: skip
    if receipts is not None:
        answered = {"offer": offer, "accepted": said is Answers.ACCEPT, "outcome": told.outcome}
        _keep(receipts, [{"line": "answer", **answered}])
    if as_json:
        print_json(told)
    else:
        say(f"offer {offer}: {told.outcome}{_became(told)}")
    if told.outcome == "closed" or told.reason:
        raise typer.Exit(Exit.FAILED)


def _said(**fields: Any) -> Said:
    try:
        return Said(**fields)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise typer.BadParameter(wrong["msg"], param_hint=f"--{wrong['loc'][0]}") from error


def _became(told: OutcomeView) -> str:
    if told.outcome == "closed":
        return "; its window was over, or it was answered otherwise before, and what was said first stands"
    return f" ({told.reason}): your yes was to other terms than were offered" if told.reason else ""


def _keep(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Append what is not there yet, with the time by this machine's clock."""
    try:
        known = path.read_text().splitlines() if path.exists() else []
        there = {(line["line"], line["offer"]) for line in map(json.loads, known)}
        new = [line for line in lines if (line["line"], line["offer"]) not in there]
        with path.open("a") as file:
            file.writelines(json.dumps({**line, "at": time.time_ns() // 1000}) + "\n" for line in new)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise typer.BadParameter(f"{path} is no file of receipts ({error})", param_hint="--receipts") from error


def _terms_hash(client: Client, offer: str) -> str:
    """The terms that are accepted: those that are shown now. One that is open no more is answered all the same."""
    return next((one.terms_hash for one in client.open_offers() if one.offer == offer), "closed")
