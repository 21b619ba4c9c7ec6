"""How do commands print? Tables and sentences for people, JSON for programs. Called by the commands; decides nothing.

Text from outside (names, reasons, output of clouds) is escaped, so that it can neither colour nor move the terminal.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.model.documents.errors import DocumentError
from orchestrator.model.documents.scale import Scale
from orchestrator.model.documents.views import LineView, View

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: one document, for programs.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `orchestrator jobs` shows it.")]
TONES = {"good": "green", "warn": "yellow", "bad": "red", "plain": ""}
UNFOLDED = 10_000
"""Columns where nobody sees them: longer than any row of ours."""
STATES = {"succeeded": "green", "failed": "red", "held": "yellow", "cancelled": "yellow", "running": "cyan"}


def size_of(text: str) -> int | dict[str, int]:
    """A number of workers, or a range, as a job is written."""
    try:
        found: int | dict[str, int] = Scale.said(text).canonical()["workers"]
    except DocumentError as error:
        wrong = error.problems[0]
        raise typer.BadParameter(f"{wrong.reason}; {wrong.remedy}", param_hint="--workers") from error
    return found


def print_json(what: View | Sequence[View]) -> None:
    """A view, or a list of them, as the HTTP API gives them."""
    plain = what.model_dump(mode="json", by_alias=True) if isinstance(what, View) else [
        one.model_dump(mode="json", by_alias=True) for one in what
    ]  # fmt: skip
    typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))


def clean(text: str) -> str:
    """Text without control characters."""
    return "".join("�" if unicodedata.category(char).startswith("C") else char for char in text)


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], nothing: str) -> None:
    """Rows under headings; `nothing` where there are none."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawn.add_column(heading, overflow="fold", no_wrap=heading in ("job", "state"))
    count = 0
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
        count += 1
    lines().print(drawn if count else Text(nothing, style="dim"))


def lines(*, stderr: bool = False) -> Console:
    """Standard output, or what is said beside it; into a pipe nothing is folded: a row stays a line for grep."""
    console = Console(highlight=False, stderr=stderr)
    return console if console.is_terminal else Console(highlight=False, stderr=stderr, width=UNFOLDED)


def state(text: str) -> Text:
    """A job's state, coloured."""
    return Text(text, style=STATES.get(text, ""))


def life(told: Sequence[LineView]) -> Iterator[Text]:
    """Lines of a job's life, each day under its date: jobs live for days."""
    day = ""
    for line in told:
        if day != (day := f"{line.at:%Y-%m-%d} UTC"):
            yield Text(day, "dim")
        yield sentence(line)


def sentence(line: LineView) -> Text:
    """One line of a job's life."""
    return Text.assemble((f"{line.at:%H:%M:%S}  ", "dim"), (clean(line.text), TONES.get(line.tone, "")))


def age(then: datetime) -> str:
    """How long ago, coarsely."""
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def dollars(micro: int | None) -> str:
    """Micro-dollars for people; nothing for None."""
    return "" if micro is None else f"${micro / 1_000_000:,.2f}"
