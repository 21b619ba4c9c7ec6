"""How do commands print? Tables and sentences for people, JSON for programs. Called by the commands; decides nothing.

Words of others (names, reasons, output of clouds) are shown as they are written, so that they can neither colour nor
move a terminal, nor begin a line that seems to be ours. So whatever a command says goes through here.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.model.documents.errors import DocumentError
from orchestrator.model.documents.scale import Scale
from orchestrator.model.documents.views import LineView, View

JSON_WANTED = "orchestrator.json"
"""Under this name a command's context tells the outermost frame that it was called with --json."""


def json_option(shows: str) -> Any:
    """`--json`, and what a command shows then; what goes wrong is told in JSON, too."""
    return typer.Option("--json", help=shows, callback=_noted, is_eager=True)


def _noted(ctx: typer.Context, wanted: bool) -> bool:
    if wanted:
        ctx.meta[JSON_WANTED] = True  # one dictionary with the contexts above
    return wanted


AsJson = Annotated[bool, json_option("Print JSON: one document, for programs.")]
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


def print_json(what: Any) -> None:
    """Plain values, and views as the HTTP API gives them."""
    text = json.dumps(what, indent=2, ensure_ascii=False, default=_plain)
    typer.echo("\n".join(_written(line, lambda char: json.dumps(char)[1:-1]) for line in text.split("\n")))


def _plain(view: View) -> dict[str, Any]:
    return view.model_dump(mode="json", by_alias=True)


def clean(text: str) -> str:
    """The words of others in one line, with what a terminal would obey or hide as it is written in code."""
    return _written(text, lambda char: char.encode("unicode_escape").decode())


def _written(text: str, how: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(how(char) if unicodedata.category(char).startswith("C") else char for char in text)


def echo(line: str, *, err: bool = False) -> None:
    """One line as it is: for people, and for what they pipe it into."""
    typer.echo(clean(line), err=err)


def say(*lines: str) -> None:
    """Lines for people, beside the answer, on stderr; rich markup."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(clean(line))


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], nothing: str) -> None:
    """Rows under headings; `nothing` where there are none."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawn.add_column(heading, overflow="fold", no_wrap=heading in ("job", "state"))
    count = 0
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
        count += 1
    console = lines()
    if not count or console.is_terminal:
        console.print(drawn if count else Text(nothing, style="dim"))
        return
    with console.capture() as said:  # nobody sees columns there, and blanks up to the longest row drown the others
        console.print(drawn)
    typer.echo("\n".join(line.rstrip() for line in said.get().removesuffix("\n").split("\n")))


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
