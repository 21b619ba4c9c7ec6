"""Does everything hold? Runs every sentence over an export, and over the world where there are witnesses of it.

Called by `orchestrator audit verify`, by `mutate`, by stories and benchmarks. Pure: documents come compiled.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.audit import (
    attempts,
    classes,
    offers,
    owned,
    proof,
    releases,
    renewals,
    rights,
    sizes,
    splits,
    whole,
    world,
)
from orchestrator.core.audit.export import Export
from orchestrator.core.audit.history import Documents, History, Unreadable, Withheld
from orchestrator.core.audit.lives import Life, Seen
from orchestrator.core.audit.registry import SENTENCES, Breach, Finding, Judge, Part, Report, Verdict
from orchestrator.core.audit.world import World
from orchestrator.model import event as ev
from orchestrator.model.placement import Freed

_MODULES = (attempts, classes, offers, owned, proof, releases, renewals, rights, sizes, splits, whole, world)
"""Importing them registers their sentences."""


def verify(export: Export, documents: Documents, witnesses: World | None = None) -> Report:
    """Judge every sentence; those of the world only with witnesses."""
    history = History(export, documents)
    verdicts: list[Verdict] = []
    findings: list[Finding] = []
    for number in sorted(SENTENCES):
        sentence = SENTENCES[number]
        parts = sentence.judged_with(world=witnesses is not None)
        if not parts:
            continue
        judge = Judge(number, history.clouded)
        for part in parts:
            _run(part, history, witnesses, judge)
        verdicts.append(Verdict(number, sentence.words, judge.judged, judge.violations, judge.hidden))
        findings.extend(judge.findings)
    told = export.ledger, len(export.events), export.head, history.redacted
    return Report(*told, tuple(verdicts), tuple(findings), tuple(_declared(history)))


def _declared(history: History) -> Iterator[Breach]:
    """Every offer that was made to another than the holder although a clause held, and every renewal, because somebody
    had overridden it: by what was on record, whatever the offer itself says of it."""
    why = {record.id: record.why for record in history.records_before(len(history.export.events) + 1)}
    for job, seen, free in (*_of_offers(history), *_of_renewals(history)) if why else ():
        reasons = "; ".join(why.get(record, "") for record in free.records)
        yield Breach(free.clause, job, seen.seq, ", ".join(free.records), free.approver, reasons)


def _of_renewals(history: History) -> Iterator[tuple[str, Seen, Freed]]:
    return (("", seen, free) for seen, free in renewals.overridden(history))


def _of_offers(history: History) -> Iterator[tuple[str, Seen, Freed]]:
    for life in history.lives.values():
        for seen, opened in life.of(ev.OfferOpened):
            yield from ((life.job, seen, free) for free in _overridden(history, life, opened, seen))


def _overridden(history: History, life: Life, opened: ev.OfferOpened, seen: Seen) -> list[Freed]:
    try:
        freed = history.rules(life, opened, seen).freed
    except Unreadable:  # which the sentences say
        freed = opened.freed
    return [free for free in freed if free.how == "override" and free.holder != opened.provider]


def _run(part: Part, history: History, witnesses: World | None, judge: Judge) -> None:
    if part.scope == "ledger":
        part.check(history, judge)
    elif part.scope == "world":
        part.check(history, witnesses, judge)
    else:
        for life in history.lives.values():
            _run_life(part, life, history, judge)


def _run_life(part: Part, life: Life, history: History, judge: Judge) -> None:
    try:
        part.check(life, history, judge)
    except Withheld:
        judge.withhold()
    except Unreadable as missing:
        judge(False, life.job, 0, f"it cannot be judged: {missing}", sure=True)
