"""Does everything hold? Runs every sentence over an export, and over the world where there are witnesses of it.

Called by `orchestrator audit verify`, by `mutate`, by stories and benchmarks. Pure: documents come compiled.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.audit import attempts, classes, offers, owned, proof, releases, rights, whole, world
from orchestrator.core.audit.export import Export
from orchestrator.core.audit.history import Documents, History, Life, Unreadable
from orchestrator.core.audit.registry import SENTENCES, Breach, Finding, Judge, Report, Sentence, Verdict
from orchestrator.core.audit.world import World
from orchestrator.model import event as ev

_MODULES = (attempts, classes, offers, owned, proof, releases, rights, whole, world)
"""Importing them registers their sentences."""


def verify(export: Export, documents: Documents, witnesses: World | None = None) -> Report:
    """Judge every sentence; those of the world only with witnesses."""
    history = History(export, documents)
    verdicts: list[Verdict] = []
    findings: list[Finding] = []
    for number in sorted(SENTENCES):
        sentence = SENTENCES[number]
        if sentence.scope == "world" and witnesses is None:
            continue
        judge = Judge(number)
        _run(sentence, history, witnesses, judge)
        verdicts.append(Verdict(number, sentence.words, judge.judged, judge.violations))
        findings.extend(judge.findings)
    told = export.ledger, len(export.events), export.head, history.redacted
    return Report(*told, tuple(verdicts), tuple(findings), tuple(_declared(history)))


def _declared(history: History) -> Iterator[Breach]:
    """Every offer that was made although a clause held, because somebody had overridden it."""
    for life in history.lives.values():
        for seen, opened in life.of(ev.OfferOpened):
            for free in opened.freed:
                if free.how == "override":
                    yield Breach(free.clause, life.job, seen.seq, ", ".join(free.records), free.approver)


def _run(sentence: Sentence, history: History, witnesses: World | None, judge: Judge) -> None:
    if sentence.scope == "ledger":
        sentence.check(history, judge)
    elif sentence.scope == "world":
        sentence.check(history, witnesses, judge)
    else:
        for life in history.lives.values():
            _run_life(sentence, life, history, judge)


def _run_life(sentence: Sentence, life: Life, history: History, judge: Judge) -> None:
    try:
        sentence.check(life, history, judge)
    except Unreadable as missing:
        judge(False, life.job, 0, f"it cannot be judged: {missing}")
