"""What will a job meet with that stops for another size, as contracts, law and prices stand now?

Called by the desk before such a wish is written, so that nothing stops for a size that nobody may run, and for the
notices of a job that is about to stop. Decides nothing: whom to ask is decided when the job is placed again.
"""

from __future__ import annotations

from orchestrator.core.book import trigger_of
from orchestrator.core.lifecycle import fold_job
from orchestrator.core.numbers import span
from orchestrator.core.rulebook import RuleBook
from orchestrator.core.sentences import HELD, gate_sentence
from orchestrator.core.standing import last_epoch
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, LedgerRow
from orchestrator.model.placement import Placement, Rules, Shape


def foreseen(rules: RuleBook, row: JobRow, shape: Shape, now: int, own: LedgerRow) -> tuple[Rules, Placement]:
    """Whom one would ask, had the attempt of this job ended now for another size; `shape`: what it is to be then."""
    ended = ev.Ended(epoch=last_epoch(row), how="gone", why="scaled")
    then = fold_job(row, row.job, row.project, now, ended)
    return rules.foreseen(then, shape.triggered(trigger_of(then, shape)), now, own)


def nobody(placement: Placement) -> str:
    """Why nobody may be asked; empty: somebody may."""
    return HELD[placement.held] if placement.held is not None else ""


def to_come(rules: RuleBook, row: JobRow, shape: Shape, now: int, own: LedgerRow) -> list[str]:
    """Sentences for whoever wished it: who may run it then, who is asked first, and what may end it."""
    agreed, placement = foreseen(rules, row, shape, now, own)
    if why := nobody(placement):
        return [f"once it has stopped it is {why}"]
    found = [f"once it has stopped only {agreed.only} may run it, by an exclusive"] if agreed.only else []
    found += [f"once it has stopped {gate_sentence(gate)}" for gate in placement.gates]
    if row.start_by_ms is not None:
        found.append(f"it fails if it does not run again within {span(row.start_by_ms)} of its stop (spec.startBy)")
    return found
