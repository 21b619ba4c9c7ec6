"""The access port: how does a person get at a job that runs? Optional: a provider may give no way in at all.

Called by the HTTP front after the desk has written down who goes in where; implemented by adapters beside
`ports.provider.Provider`. A **rank** is one process of user code (on a gang of machines: one machine's), counted from
0. Whoever goes in changes nothing that the ledger or the run log knows: it is a look, and what it started ends with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from orchestrator.ports.provider import ProviderError

STDOUT, STDERR = 1, 2
"""Where output came from."""


class NoWayIn(ProviderError):
    """The provider gives no shell, or may not give one: by its nature, or because the operator did not allow it."""


class NotThere(ProviderError):
    """Nothing of that rank runs there now, or nothing listens on that port. The message says what there is."""


class Command(Struct, frozen=True, kw_only=True):
    """What to run beside a rank. Never logged and never in the ledger: arguments hold secrets."""

    argv: tuple[str, ...]
    terminal: tuple[int, int] | None = None
    """Rows and columns of the terminal that it gets; None: plain pipes."""
    term: str = ""
    """The kind of terminal, as TERM says it."""


class Stacks(Struct, frozen=True, kw_only=True):
    """What one process of a rank is doing."""

    rank: int
    pid: int
    title: str
    stacks: str = ""
    why: str = ""
    """Why there are no stacks, with a remedy."""


class Session(Protocol):
    """A command that runs beside a rank. One reader and one writer at a time."""

    code: int
    """Its exit status (128 + n: by signal n; 127: there is no such command), once `read` has given None."""

    async def read(self) -> tuple[int, bytes] | None:
        """(STDOUT or STDERR, what it printed); None: it has ended, and with it everything that it started."""
        ...

    async def write(self, data: bytes) -> None:
        """To its standard input; waits while it does not read. What comes after its end is nobody's."""
        ...

    async def eof(self) -> None:
        """Its standard input ends here."""
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """The terminal has another size."""
        ...

    async def end(self) -> None:
        """Ask for its end: SIGTERM, and a little later SIGKILL. `read` sees it."""
        ...

    async def aclose(self) -> None:
        """Let go. If it still runs it is ended."""
        ...


class Channel(Protocol):
    """A connection to a port beside a rank."""

    async def read(self) -> bytes:
        """What came; empty: the other side has ended it. `NotThere` where it shows only now that none listens."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; waits while the other side does not read. A broken connection ends `read` too."""
        ...

    async def eof(self) -> None:
        """Nothing more will be sent."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


@runtime_checkable
class Access(Protocol):
    """Ways into what runs under a launch key. All verbs may raise `ProviderError`; see above for the two of ours."""

    async def ranks(self, key: str) -> Mapping[int, str]:
        """Rank → where it runs, for people. Empty: no user code runs there now."""
        ...

    async def run_in(self, key: str, rank: int, command: Command) -> Session:
        """Run a command in the environment and folder of the rank's process."""
        ...

    async def connect(self, key: str, rank: int, port: int) -> Channel:
        """Connect to a loopback port beside the rank. 8265 is the Ray dashboard of the job, wherever it listens."""
        ...

    def output(self, key: str, rank: int, follow: bool) -> AsyncIterator[bytes]:
        """What the rank has printed so far, as far as it is still there; `follow`: until its process has ended."""
        ...

    async def stacks(self, key: str, rank: int) -> Sequence[Stacks]:
        """What the rank's Python processes are doing; where that may not be seen, why."""
        ...
