"""What do a client and the server say to each other about a running job: commands, ports, stacks?

Both sides of `api.inside` and `sdk.inside`. Over a WebSocket, binary messages are data, text messages are JSON objects:

    client → server    first of a command: `Asked`; then data for its input, {"eof": true}, {"size": [rows, columns]},
                       {"end": true}
    server → client    {"ticket": n} of a forward; data (of a command: one byte of STDOUT or STDERR first),
                       {"exit": status} last of a command, {"problem": …} last where it is refused
    either way         {"took": 1} for each data message that was passed on; at most WINDOW may be under way, so that
                       what is said besides always gets through

A command's text is in no address, so that no proxy logs it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.model.documents.views import View

WINDOW = 8
"""Data messages that may be under way in one direction."""
CHUNK = 65_536
"""Bytes in one of them, at most."""
MOST_RANKS = 100_000 * 128
"""Workers times GPUs of the largest job: a rank beyond it is a mistake."""
MOST_ARGUMENTS = 128 * 1024
"""Characters of a command: as much as systems take in one argument."""


class Asked(BaseModel):
    """A command to run beside a rank."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: list[Annotated[str, Field(pattern=r"^[^\x00]*$")]] = Field(min_length=1, max_length=4096)
    """No word holds a NUL, which no process can be given."""
    rank: int = Field(default=0, ge=0, le=MOST_RANKS)
    terminal: tuple[int, int] | None = None
    """Rows and columns; None: no terminal."""
    term: str = Field(default="", pattern=r"^[A-Za-z0-9._+-]{0,64}$")


class StacksView(View):
    """What one process of a rank is doing."""

    rank: int
    where: str = ""
    pid: int = 0
    title: str = ""
    stacks: str = Field(default="", description="as py-spy tells them")
    why: str = Field(default="", description="why there are none, with a remedy")
