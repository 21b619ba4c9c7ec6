"""Was every clause that did not hold freed rightly? Sentences 14, 25, 26, 29 and 30.

What frees a clause is compiled anew from the documents that decisions cite and from what was on record before them;
how often an event was attested, and how much was placed under an exemption, is counted here from the events alone.
"""

from __future__ import annotations

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import Life, Seen
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.core.audit.rights import offers_and_uses
from orchestrator.core.clauses import applies
from orchestrator.model import event as ev
from orchestrator.model.contract import JUDGED, Because, Clause, OnOutage
from orchestrator.model.placement import Excluded, Freed, Gate
from orchestrator.model.record import What


@of_job(14, "An exclusive class runs only at its holder unless released.")
def exclusives_are_kept(life: Life, history: History, judge: Judge) -> None:
    """Judged for each provider that is told of a job of an exclusive class, or used for it: what had freed the job when
    it was told still does when it is used, as long as its contract version is in force."""
    for seen, provider, (opened_at, opened) in offers_and_uses(life):
        contracts = history.contracts(opened.contract)
        exclusives = {clause.ref for clause in (contracts.exclusives if contracts else ())}
        if not exclusives:
            continue
        same = opened.contract == history.contract_at(seen.seq)
        rules = history.rules(life, opened, seen if same else opened_at)
        freed = {free.clause: free.how for free in rules.freed if free.clause in exclusives}
        told = {free.clause: free.how for free in opened.freed if free.clause in exclusives}
        if not (rules.only or freed or told):
            continue
        apart = [x for x in rules.excluded if x.provider == provider and x.reason is Excluded.EXCLUSIVE]
        words = f"{provider} although {apart[0].clause} leaves {apart[0].need} alone" if apart else ""
        agreed = freed == told or seen is not opened_at
        if agreed and not apart and {*freed.values(), *told.values()} == {"override"}:
            continue  # not kept, but overridden: the report says so
        judge(not apart and agreed, life.job, seen.seq, words or f"it claims {told}, and freed are {freed}")


@of_job(25, "Exempt volume stays under its limit.")
def exempt_volume_has_room(life: Life, history: History, judge: Judge) -> None:
    """Judged for each attempt that was intended under an exemption with a limit; equal to the limit passes."""
    for seen, _ in life.of(ev.Intended):
        for use in history.volumes.uses.get(seen.seq, ()):
            if use.most is not None:
                words = f"{use.key}: {use.before + use.own} GPU-ms in its window, at most {use.most}"
                judge(use.before + use.own <= use.most, life.job, seen.seq, words)


@of_job(26, "Each exemption names clause, reason, evidence and approver.")
def exemptions_name_their_grounds(life: Life, history: History, judge: Judge) -> None:
    """Each exemption by which an offer was made is one that contract and records gave, on grounds that it names."""
    for seen, opened in life.of(ev.OfferOpened):
        claimed = [free for free in opened.freed if free.exemption]
        if not claimed:
            continue
        given = history.rules(life, opened, seen).freed
        for free in claimed:
            grounds = free in given and free.approver and (free.records or _judged(free))
            judge(bool(grounds), life.job, seen.seq, f"{free.key} is claimed, and contract and records do not give it")


def _judged(free: Freed) -> bool:
    return free.because in {because.value for because in JUDGED - {Because.CONSENT}}


@of_job(29, "An offer is judged by the version in force when it was opened.")
def offers_keep_their_version(life: Life, history: History, judge: Judge) -> None:
    """Each gated offer has the window, the patience and the terms of its clause in the version that it cites."""
    for seen, opened in life.of(ev.OfferOpened):
        if not opened.clause:
            continue
        gates = [gate for gate in history.rules(life, opened, seen).gates if gate.clause == opened.clause]
        agreed = [(g.holder, g.window_us, g.terms_hash, _patience(g)) for g in gates]
        made = opened.provider, opened.window, opened.terms, opened.undeliverable
        words = (
            f"version {opened.contract} of {opened.clause} says otherwise" if gates else "its version has no such gate"
        )
        judge(made in agreed, life.job, seen.seq, f"offer {opened.n}: {words}")


def _patience(gate: Gate) -> int | None:
    return gate.undeliverable_after_us if gate.on_outage is OnOutage.DEEMED_DECLINE else None


@of_job(30, "Termination is monotone and has its quorum.")
def terms_end_as_agreed(life: Life, history: History, judge: Judge) -> None:
    """For each offer and each clause over the job that events may end: ended for it if, and only if, attested."""
    for seen, opened in life.of(ev.OfferOpened):
        contracts = history.contracts(opened.contract)
        for clause in contracts.of_holders if contracts else ():
            if clause.ends and applies(clause, history.rules(life, opened, seen).shape, seen.at):
                ended = _attested(clause, history, seen)
                told = any(free.clause == clause.ref and free.how == "ended" for free in opened.freed)
                used = ended and opened.clause == clause.ref
                words = f"{clause.ref} {'has' if ended else 'has not'} ended, and the offer says otherwise"
                judge(told is ended and not used, life.job, seen.seq, words)


def _attested(clause: Clause, history: History, seen: Seen) -> bool:
    for end in clause.ends:
        said = {
            record.by
            for record in history.records_before(seen.seq)
            if record.what == What.EVENT and record.name == end.event
        }
        if len(said & set(end.attesters) if end.attesters else said) >= end.quorum:
            return True
    return False
