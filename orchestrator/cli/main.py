"""`orchestrator`: which commands are there, and what does an error look like? Each command is loaded when it is used.

Called by the installed script and by `python -m orchestrator.cli.main`. Errors that have a remedy are printed to stderr
with whose fault they are; anything else is a bug and shows its trace.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from orchestrator.cli.exits import EXIT_CODES, Exit


class Place(NamedTuple):
    """Where a command lives: a function or a `typer.Typer`."""

    module: str
    name: str


COMMANDS = {
    "serve": Place("orchestrator.cli.serve", "serve"),
    "run": Place("orchestrator.cli.run", "run"),
    "submit": Place("orchestrator.cli.run", "submit"),
    "jobs": Place("orchestrator.cli.jobs", "jobs"),
    "job": Place("orchestrator.cli.jobs", "job"),
    "logs": Place("orchestrator.cli.jobs", "logs"),
    "explain": Place("orchestrator.cli.jobs", "explain"),
    "exec": Place("orchestrator.cli.inside", "run_in"),
    "dump": Place("orchestrator.cli.inside", "dump"),
    "forward": Place("orchestrator.cli.inside", "forward"),
    "offers": Place("orchestrator.cli.offers", "app"),
    "cancel": Place("orchestrator.cli.jobs", "cancel"),
    "resume": Place("orchestrator.cli.jobs", "resume"),
    "scale": Place("orchestrator.cli.jobs", "scale"),
    "providers": Place("orchestrator.cli.providers", "app"),
    "contracts": Place("orchestrator.cli.contracts", "app"),
    "capacity": Place("orchestrator.cli.capacity", "app"),
    "record": Place("orchestrator.cli.record", "app"),
    "audit": Place("orchestrator.cli.audit", "app"),
    "backup": Place("orchestrator.cli.keeping", "backup"),
    "restore": Place("orchestrator.cli.keeping", "restore"),
    "doctor": Place("orchestrator.cli.doctor", "app"),
    "pack": Place("orchestrator.cli.run", "pack"),
    "controller": Place("orchestrator.cli.controller", "controller"),
    "mock-cloud": Place("orchestrator.cli.mockcloud", "app"),
    "demo": Place("orchestrator.cli.demo", "demo"),
}

HELP = f"""Places training jobs across clouds by contract, fails over from checkpoints, never runs a job twice.

Start here: `orchestrator serve` offers this machine; in another terminal `orchestrator run -- python train.py`
trains on it. A client finds its server by ORCHESTRATOR_URL and ORCHESTRATOR_TOKEN, else by the files that `serve`
keeps in ORCHESTRATOR_HOME (~/.orchestrator). Listings take `--json`.

{EXIT_CODES}"""


class LazyGroup(TyperGroup):
    """Commands by name, imported when asked for; errors in one place."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None where there is none."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        try:
            found = getattr(import_module(place.module), place.name)
        except ModuleNotFoundError as error:
            if error.name != place.module:
                raise
            return None  # a build without it
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(rich_markup_mode="markdown")
            alone.command(cmd_name)(found)
            found = alone
        found._add_completion = False  # the group has it
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors with a remedy become a message and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
        except Exception as error:
            _mind_the_dashes(error)
            from orchestrator.cli.failing import told

            code = told(error)
            if code is None:
                raise
            raise typer.Exit(code) from None


def _mind_the_dashes(error: Any) -> None:
    """An option that `run` and `exec` do not know is most likely the user's own command's: say how it gets there."""
    ctx = getattr(error, "ctx", None)
    command = ctx.info_name if ctx is not None else ""
    if command in ("run", "exec") and hasattr(error, "option_name"):
        error.possibilities = None
        error.message += f"; if it is your command's, put `--` before that: orchestrator {command} … -- COMMAND"


app = typer.Typer(
    cls=LazyGroup,
    help=HELP,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a token may be among them
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orchestrator {installed()}")
        raise typer.Exit


def installed() -> str:
    """The installed version; `unknown` in a bare checkout."""
    try:
        return version("first-refusal")
    except PackageNotFoundError:
        return "unknown"


@app.callback()
def options(
    show: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
) -> None:
    """Options of all commands; the help is the group's."""


if __name__ == "__main__":
    app()
