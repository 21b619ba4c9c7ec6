"""What is wrong with a document, where, and what to do about it?

Raised by everything in this package; shown by the CLI and the HTTP API. A refusal lists every problem
that could be found, each with its path; nothing half-done remains behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

UNNAMED = "the document"


class Problem(NamedTuple):
    """One reason for which a document is refused."""

    path: str  # e.g. spec.contracts[0].clauses[1].window
    reason: str  # a sentence
    remedy: str  # what to write instead
    code: str = "invalid"  # stable, lower_snake

    def __str__(self) -> str:
        remedy = self.remedy[:1].upper() + self.remedy[1:]
        return f"{self.path}: {self.reason}. {remedy}{'' if remedy.endswith('?') else '.'}"


class Notice(NamedTuple):
    """Something that the author should know although the document is taken."""

    path: str
    what: str
    code: str


class DocumentError(ValueError):
    """The document is refused, for all of `problems`. Always its author's to mend."""

    def __init__(self, problems: Sequence[Problem], name: str = UNNAMED) -> None:
        """`name`: what its author calls the document, as a file's name."""
        self.problems, self.name = tuple(problems), name
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return f"{self.name} is refused, {count}:\n" + "\n".join(f"  {p}" for p in self.problems)

    @classmethod
    @contextmanager
    def named(cls, name: str) -> Iterator[None]:
        """Refusals from here are of the document called `name`, where nobody has said of which they are."""
        try:
            yield
        except cls as error:
            error.name = name if error.name == UNNAMED else error.name
            raise


def path_of(steps: Sequence[str | int]) -> str:
    """`('spec', 'contracts', 0)` -> `spec.contracts[0]`; the document itself is `(document)`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.lstrip(".") or "(document)"
