"""Were contracts and law obeyed? Sentences 1, 20, 22, 23, 27 and 32, from the documents that decisions cite.

Gates, ceilings and lawful places are compiled anew from those documents; which refusal passes which gate is judged
here from the events alone, by code of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import Life, Seen
from orchestrator.core.audit.refusals import No, better, noes
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.core.eligibility import store_lawful
from orchestrator.model import event as ev
from orchestrator.model.contract import OnOutage, Trigger
from orchestrator.model.placement import Excluded, Gate, Rules


def stands(no: No, gate: Gate, seen: Seen, opened: ev.OfferOpened) -> bool:
    """Whether a no frees the job from this gate for what `seen` did with an offer, its terms not yet compared."""
    if no.seq >= seen.seq or no.offer.provider != gate.holder or no.offer.clause != gate.clause:
        return False
    if no.how == "undeliverable" and gate.on_outage is not OnOutage.DEEMED_DECLINE:
        return False
    inherited = gate.inherits and opened.trigger == Trigger.REPLACE
    if no.offer.episode != opened.episode and not inherited:
        return False
    return no.at <= seen.at <= no.at + gate.tail_us


def to_pass(rules: Rules, provider: str) -> Iterator[Gate]:
    """The gates that must be passed before this provider may be asked: all up to its own, if it has one."""
    for gate in rules.gates:
        if gate.holder == provider:
            return
        yield gate


def offers_and_uses(life: Life) -> Iterator[tuple[Seen, str, tuple[Seen, ev.OfferOpened]]]:
    """Every event that discloses the job to a provider or uses one, with the offer behind it."""
    for seen in life.seen:
        if isinstance(seen.event, ev.OfferOpened):
            yield seen, seen.event.provider, (seen, seen.event)
        elif isinstance(seen.event, ev.Intended):
            found = life.opened(seen.event.offer)
            if found is not None:
                yield seen, seen.event.provider, found


@of_job(
    1,
    "A gated job is intended away from the holder only after this job's offer was declined, lapsed, undeliverable "
    "past its limit, accept_failed, waived or bridged: within tail, in the same episode (or inherited).",
)
def gates_are_passed(life: Life, history: History, judge: Judge) -> None:
    """Judged for each provider that is told of the job or used while another's first right is over it."""
    heard = list(noes(history.past(life)))
    for seen, provider, (opened_at, opened) in offers_and_uses(life):
        for gate in to_pass(history.rules(life, opened, opened_at), provider):
            passed = any(stands(no, gate, seen, opened) for no in reversed(heard))
            words = f"{provider} before {gate.holder} had refused under {gate.clause}"
            judge(passed, life.job, seen.seq, words)


@of_job(23, "No better terms, in every dimension.")
def no_better_terms(life: Life, history: History, judge: Judge) -> None:
    """Whoever is used gets nothing better than what each holder refused, and no price above it."""
    for seen, intended in life.of(ev.Intended):
        found = life.opened(intended.offer)
        if found is None:
            continue
        for gate in to_pass(history.rules(life, found[1], found[0]), intended.provider):
            standing = [no for no in noes(history.past(life)) if stands(no, gate, seen, found[1])]
            if not standing:
                continue  # sentence 1 says so
            now = history.terms(found[1].terms).sized(intended.workers)
            won = [better(now, no.refused(history.terms), gate, intended.price) for no in standing]
            words = f"{intended.provider} got better terms than {gate.holder} refused: {', '.join(won[0])}"
            judge(not all(won), life.job, seen.seq, words)


@of_job(32, "Lapses never change gating.")
def lapses_change_nothing(life: Life, history: History, judge: Judge) -> None:
    """After a clause's offer lapsed, here or for another job, its gate is passed as ever or its holder is asked."""
    lapsed = history.lapsed_clauses
    if not lapsed:
        return
    heard = list(noes(history.past(life)))
    for seen, provider, (opened_at, opened) in offers_and_uses(life):
        rules = history.rules(life, opened, opened_at)
        earlier = {gate.clause for gate in rules.gates if lapsed.get(gate.clause, seen.seq) < seen.seq}
        if opened.clause in earlier:
            judge(True, life.job, seen.seq, "")
        for gate in to_pass(rules, provider):
            if gate.clause in earlier:
                passed = any(stands(no, gate, seen, opened) for no in reversed(heard))
                judge(passed, life.job, seen.seq, f"{provider} without {gate.clause}, whose offers had lapsed before")


@of_job(22, "No placement over a ceiling.")
def under_the_ceiling(life: Life, history: History, judge: Judge) -> None:
    """The accepted price is no higher than the lowest ceiling, the job's own or a clause's."""
    for seen, intended in life.of(ev.Intended):
        found = life.opened(intended.offer)
        if found is None or intended.price is None:
            continue
        ceiling = history.rules(life, found[1], found[0]).ceiling_microusd
        if ceiling is not None:
            words = f"{intended.price} at {intended.provider} is over the ceiling of {ceiling}"
            judge(intended.price <= ceiling, life.job, seen.seq, words)


@of_job(27, "Compute, code package, data, checkpoints, logs and the offer's recipient are all lawful.")
def all_is_lawful(life: Life, history: History, judge: Judge) -> None:
    """Recipient, regions of the terms, region of the attempt, and the store that holds everything else."""
    for seen, opened in life.of(ev.OfferOpened):
        rules = history.rules(life, opened, seen)
        if any(x.provider == opened.provider and x.reason is Excluded.EXCLUSIVE for x in rules.excluded):
            continue  # sentence 14 says so
        lawful = {c.provider: set(c.regions) for c in rules.candidates}
        words = f"{opened.provider} may not even know of this job"
        if judge(opened.provider in lawful, life.job, seen.seq, words):
            beyond = set(history.terms(opened.terms).regions) - lawful[opened.provider]
            judge(not beyond, life.job, seen.seq, f"the terms allow {', '.join(sorted(beyond))}")
        _store(life, history, rules, seen, opened, judge)
    for seen, intended in life.of(ev.Intended):
        found = life.opened(intended.offer)
        if found is not None and intended.region:
            regions = history.terms(found[1].terms).regions
            judge(intended.region in regions, life.job, seen.seq, f"it runs in {intended.region}, outside its terms")


def _store(life: Life, history: History, rules: Rules, seen: Seen, opened: ev.OfferOpened, judge: Judge) -> None:
    submitted = life.submitted
    stores = {s.name: s.jurisdiction for s in history.providers(opened.providers).stores}
    if submitted is None or not stores:
        return
    name = submitted.store or next(iter(stores))
    jurisdiction = stores.get(name)
    words = f"its checkpoints, logs and package lie in store {name} ({jurisdiction or 'unknown'})"
    judge(jurisdiction is not None and store_lawful(rules, jurisdiction), life.job, seen.seq, words)


@of_job(20, "Every decision cites the contract version in force.")
def cites_what_is_in_force(life: Life, history: History, judge: Judge) -> None:
    """An offer cites the versions in force when it is opened; an attempt the version of its offer."""
    for seen, opened in life.of(ev.OfferOpened):
        now = history.contract_at(seen.seq), history.providers_at(seen.seq)
        cited = opened.contract, opened.providers
        words = f"offer {opened.n} cites versions {cited}, in force are {now}"
        sure = not history.hides("", 0, seen.seq, "ContractInForce", "ProvidersInForce")
        judge(cited == now, life.job, seen.seq, words, sure=sure)
    for seen, intended in life.of(ev.Intended):
        found = life.opened(intended.offer)
        if found is not None:
            words = f"epoch {intended.epoch} cites version {intended.contract}, its offer {found[1].contract}"
            judge(intended.contract == found[1].contract, life.job, seen.seq, words, sure=True)
