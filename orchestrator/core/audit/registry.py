"""Which sentences are there, and what came of judging them? One function each, with the sentence it stands for.

A sentence's function is given one job's life (or the whole history) and a `Judge`, and calls it once for each thing
it judges. Registered by decorators when the modules beside this one are imported; run by `verify`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

Check: TypeAlias = Callable[..., None]
C = TypeVar("C", bound=Check)
MOST_FINDINGS = 1000
"""Findings kept of one sentence: beyond them only their number matters."""


class Finding(Struct, frozen=True):
    """A violation: of which sentence, by which event (seq 0: none in particular) of which job."""

    sentence: int
    job: str
    seq: int
    words: str


class Part(Struct, frozen=True):
    """A function that judges a sentence, or one side of it."""

    scope: str
    """job: given (life, history, judge); ledger: (history, judge); world: (history, world, judge)."""
    check: Check


class Sentence(Struct, frozen=True):
    """What must always hold, and the functions that judge it: from the ledger, from the world, or from both."""

    number: int
    words: str
    parts: tuple[Part, ...]

    def judged_with(self, world: bool) -> tuple[Part, ...]:
        """What can be judged where there are witnesses of the world, or none."""
        return tuple(part for part in self.parts if world or part.scope != "world")


SENTENCES: dict[int, Sentence] = {}
UNENFORCED = {
    13: "Charges + holds ≤ budget at every prefix.",
    24: "Precedence is kept.",
    28: "A charge counts once, for one commit.",
    33: "A matching offer cites a sealed firm quote valid beyond the deadline.",
    34: "A hard share maximum is never exceeded.",
    37: "A bridge ends in time.",
}
"""Sentences of clauses that this version does not enforce: nothing could break them, so nobody judges them."""


def unenforced() -> dict[int, str]:
    """Every sentence that nobody judges."""
    return {number: words for number, words in UNENFORCED.items() if number not in SENTENCES}


class Judge:
    """Counts what was judged of one sentence, and keeps what did not hold.

    Where bodies are hidden, a no that one of them may explain (`clouded`: asked with job and event) is no violation.
    """

    def __init__(self, number: int, clouded: Callable[[str, int], bool]) -> None:
        self.number = number
        self._clouded = clouded
        self.hidden = 0
        self.judged = 0
        self.violations = 0
        self.findings: list[Finding] = []

    def __call__(self, holds: bool, job: str, seq: int, words: str | Callable[[], str], *, sure: bool = False) -> bool:
        """Judge one thing; `words` say what is wrong where it does not hold. Returns `holds`.

        `sure`: all that it hangs on was seen, whatever else of the job is hidden.
        """
        if not holds and not sure and self._clouded(job, seq):
            self.withhold()
            return holds
        self.judged += 1
        if not holds:
            self.violations += 1
            if len(self.findings) < MOST_FINDINGS:
                self.findings.append(Finding(self.number, job, seq, words if isinstance(words, str) else words()))
        return holds

    def withhold(self) -> None:
        """One thing cannot be judged, because what it hangs on is hidden."""
        self.hidden += 1


def of_job(number: int, words: str = "") -> Callable[[C], C]:
    """Register a sentence that is judged job by job; without words, one more side of it."""
    return _register(number, words, "job")


def of_ledger(number: int, words: str) -> Callable[[C], C]:
    """Register a sentence that is judged over the whole ledger."""
    return _register(number, words, "ledger")


def of_world(number: int, words: str = "") -> Callable[[C], C]:
    """Register a sentence that needs journals of the world; without words, the world's side of another."""
    return _register(number, words, "world")


def _register(number: int, words: str, scope: str) -> Callable[[C], C]:
    def put(check: C) -> C:
        known = SENTENCES.get(number)
        if (known is None) is not bool(words):
            raise ValueError(f"sentence {number} is registered twice, or never with its words")
        parts = (*(known.parts if known else ()), Part(scope, check))
        SENTENCES[number] = Sentence(number, known.words if known else words, parts)
        return check

    return put


class Verdict(Struct, frozen=True):
    """What came of one sentence."""

    number: int
    words: str
    judged: int
    violations: int
    hidden: int = 0
    """Things that were not judged, because what they hang on is redacted."""


class Breach(Struct, frozen=True):
    """A use of an override: which clause was passed over for which job (empty: for a renewal of owned capacity), by
    which record, and who answers for it."""

    clause: str
    job: str
    seq: int
    record: str
    approver: str
    why: str = ""


class Report(Struct, frozen=True):
    """What came of all of them. `redacted`: events whose body is gone, which only sentence 17 can judge."""

    ledger: str
    events: int
    head: str
    redacted: int
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    declared: tuple[Breach, ...] = ()
    """Breaches that somebody answers for: offers that an override made possible. No violations of ours."""

    @property
    def violations(self) -> int:
        """How many there are, kept or not."""
        return sum(v.violations for v in self.verdicts)

    @property
    def hidden(self) -> int:
        """How many things were not judged, because what they hang on is redacted."""
        return sum(v.hidden for v in self.verdicts)

    @property
    def unjudged(self) -> tuple[int, ...]:
        """Sentences that had nothing to judge."""
        return tuple(v.number for v in self.verdicts if not v.judged)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "ledger": self.ledger,
            "events": self.events,
            "head": self.head,
            "redacted": self.redacted,
            "hidden": self.hidden,
            "violations": self.violations,
            "unjudged": list(self.unjudged),
            "unenforced": list(unenforced()),
            "declared": [
                {
                    "clause": b.clause,
                    "job": b.job,
                    "seq": b.seq,
                    "record": b.record,
                    "approver": b.approver,
                    "why": b.why,
                }
                for b in self.declared
            ],
            "overridden": len(self.declared),
            "sentences": [
                {
                    "sentence": v.number,
                    "words": v.words,
                    "judged": v.judged,
                    "violations": v.violations,
                    "hidden": v.hidden,
                }
                for v in self.verdicts
            ],
            "findings": [{"sentence": f.sentence, "job": f.job, "seq": f.seq, "words": f.words} for f in self.findings],
        }
