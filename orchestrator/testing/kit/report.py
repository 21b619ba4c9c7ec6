"""What did the kit find? Promises with their verdicts, as values and as lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """kept, broken, or not judged because the subject cannot be brought into that situation."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise, judged. `sentence` is what was promised, `detail` what was seen instead or what is missing."""

    number: int
    name: str
    sentence: str
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        """One line."""
        tail = f"\n      {self.detail}" if self.detail else ""
        return f"{self.number:>3} {self.verdict.value:<10} {self.name}: {self.sentence}{tail}"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about one provider, in the order of the promises."""

    provider: str
    findings: Sequence[Finding]

    def names(self, verdict: Verdict) -> tuple[str, ...]:
        """Names of the promises with that verdict."""
        return tuple(f.name for f in self.findings if f.verdict is verdict)

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the broken promises; empty: it passed."""
        return self.names(Verdict.BROKEN)

    def __str__(self) -> str:
        """All lines and a sum."""
        counts = ", ".join(f"{len(self.names(v))} {v.value}" for v in Verdict)
        return "\n".join([*map(str, self.findings), f"{self.provider}: {counts}"])
