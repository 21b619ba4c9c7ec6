"""How is a job's life shown while it happens, and summed up when it is over?

Called by the demo's play. `Show` prints each sentence once as it happens and, on a terminal, keeps a live line beneath
with the clouds and the training's progress; elsewhere it prints that line now and then. It shows what it is told and
asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import clean
from orchestrator.core.numbers import dollars, span
from orchestrator.model.documents.views import AttemptView, ExplainView, JobView, LineView, ProgressView

COLOURS = {"plain": "default", "good": "green", "warn": "yellow", "bad": "red"}
SIGNS = {"plain": "·", "good": "✓", "warn": "!", "bad": "✗"}
EVERY_STEPS = 20
"""Off a terminal, progress is printed once in so many steps."""


class Show:
    """The demo's output. Use it in `with`: the live part ends with it."""

    def __init__(self, console: Console, steps: int) -> None:
        """`steps`: how many the job will train."""
        self.console, self._steps = console, steps
        self._told = 0
        self._said: dict[str, LineView] = {}
        self._printed_step = 0
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str, style: str = "dim") -> None:
        """A remark of the demo itself."""
        self.console.print(Text(f"{'':10}{text}", style=style), highlight=False)

    def update(self, view: ExplainView, progress: ProgressView | None) -> None:
        """Print what is new; renew the live part."""
        if view.lines[self._told :]:
            self.console.print(_sentences(view.lines[self._told :], view.lines[0]))
        self._said |= {line.provider: line for line in view.lines[self._told :] if line.provider}
        self._told = len(view.lines)
        if self._live:
            self._live.update(self._now(view.job, progress))
        elif progress and progress.step and progress.step >= self._printed_step + EVERY_STEPS:
            self._printed_step = progress.step - progress.step % EVERY_STEPS
            self.console.print(f"{'':10}{_where(view.job)} · {_trained(progress, self._steps)}", highlight=False)

    def _now(self, job: JobView, progress: ProgressView | None) -> RenderableType:
        clouds = Table.grid(padding=(0, 3))
        for name, line in self._said.items():
            clouds.add_row(Text(clean(name), style="bold"), Text(clean(line.plain), style=COLOURS[line.tone]))
        done = progress.step if progress and progress.step else 0
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=self._steps, completed=done, width=40),
            _trained(progress, self._steps) if progress else "not training yet",
        )
        title = Text.assemble((job.name, "bold"), "  ", (_where(job), "cyan"))
        return Group(Rule(style="dim"), title, clouds, bar)


def _where(job: JobView) -> str:
    at = f" at {job.provider}" if job.provider and job.state in ("launching", "running", "offering") else ""
    return f"{job.state}{at}"


def _trained(progress: ProgressView, steps: int) -> str:
    loss = f", loss {float(progress.loss):.3f}" if progress.loss else ""
    saved = f", saved at {progress.checkpoint_step}" if progress.checkpoint_step else ""
    return f"step {progress.step} of {steps}{loss}{saved}"


def _sentence(line: LineView, first: LineView) -> tuple[Text, Text, Text]:
    """When, how it went, what and why."""
    seconds = (line.at - first.at).total_seconds()
    colour = COLOURS[line.tone]
    said = Text.assemble((clean(line.plain), colour), (clean(line.text.removeprefix(line.plain)), "dim"))
    return Text(f"{seconds:6.1f} s", style="dim"), Text(SIGNS[line.tone], style=colour), said


def _sentences(lines: Sequence[LineView], first: LineView) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", min_width=9)
    for line in lines:
        table.add_row(*_sentence(line, first))
    return table


def summary(console: Console, view: ExplainView, gpus: int) -> None:
    """The timeline with the reason at each turn, and the bill."""
    console.print()
    console.print(Text(f"timeline of {view.job.name}", style="bold"))
    console.print(_sentences(view.lines, view.lines[0]))
    console.print()
    console.print(Text("bill", style="bold"))
    console.print(bill(view.job.attempts, gpus))


def bill(attempts: Sequence[AttemptView], gpus: int) -> Table:
    """What each attempt cost: its GPU-hours at the accepted price, and what the provider charged."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("attempt", "provider", "ended", "user code ran", "per GPU-hour", "charged"):
        table.add_column(heading, justify="left" if heading in ("provider", "ended") else "right")
    for one in attempts:
        charged = dollars(one.charge_microusd) if one.charge_microusd is not None else "not said yet"
        price = dollars(one.price_microusd) if one.price_microusd is not None else "none"
        table.add_row(str(one.epoch), one.provider, one.how, span(one.ran_ms), price, charged)
    total = sum(one.charge_microusd or 0 for one in attempts)
    table.add_section()
    table.add_row("", "", "", f"on {gpus} GPUs", "", dollars(total))
    return table
