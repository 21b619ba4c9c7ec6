"""`orchestrator`: which commands are there, and what does an error look like? Each command is loaded when it is used.

Called by the installed script and by `python -m orchestrator.cli.main`. Errors that have a remedy are printed to stderr
with whose fault they are; anything else is a bug and shows its trace.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from orchestrator.cli.commands import COMMANDS, DOES
from orchestrator.cli.exits import EXIT_CODES, Exit

HELP = f"""Places training jobs across clouds by contract, fails over from checkpoints, never runs a job twice.

Start here: `orchestrator serve` offers this machine; in another terminal `orchestrator run -- python train.py`
trains on it. A client finds its server by ORCHESTRATOR_URL and ORCHESTRATOR_TOKEN, else by the files that `serve`
keeps in ORCHESTRATOR_HOME (~/.orchestrator). What shows something takes `--json`; what fails is then told as one line
of JSON on stderr, a problem (RFC 9457) as the HTTP API tells it: type, detail, fault, remedy, errors.

{EXIT_CODES}"""


class LazyGroup(TyperGroup):
    """Commands by name, imported when asked for; errors in one place."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command as it is listed and completed, not loaded; None where there is none, or in a build without it."""
        place = COMMANDS.get(cmd_name)
        if place is None or find_spec(place.module) is None:
            return None
        return TyperCommand(cmd_name, help=DOES[cmd_name])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is meant, loaded."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and loaded(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors with a remedy become a message and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
        except Exception as error:
            _mind_the_dashes(error)
            from orchestrator.cli.failing import told
            from orchestrator.cli.output import JSON_WANTED

            code = told(error, as_json=JSON_WANTED in ctx.meta)
            if code is None:
                raise
            raise typer.Exit(code) from None


def loaded(name: str) -> Any:
    """A command of the table, as typer runs it."""
    place = COMMANDS[name]
    found = getattr(import_module(place.module), place.name)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(rich_markup_mode="markdown")
        alone.command(name)(found)
        found = alone
    found._add_completion = False  # the group has it
    command = typer.main.get_command(found)
    command.name = name
    return command


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
