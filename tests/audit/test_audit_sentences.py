"""Each sentence holds for honest ledgers, and is shown to fail on a forged one, with a chain that is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.cli.audit import StoredDocuments
from orchestrator.core.audit.export import Export
from orchestrator.core.audit.registry import SENTENCES
from orchestrator.core.audit.verify import verify
from orchestrator.model.placement import parse_terms, terms_bytes
from orchestrator.testing.clock import STORY_BEGINS_US
from tests.audit import told
from tests.audit.forged import again, at_other_time, edited, export_of, place, put, without
from tests.audit.told import STORIES

DOCUMENTS = StoredDocuments()
LISTED = {*range(1, 10), 12, 14, 15, 17, 18, *range(20, 24), 25, 26, 27, 29, 30, 31, 32, 35, 36, *range(38, 45)}


def violated(export: Export) -> set[int]:
    return {v.number for v in verify(export, DOCUMENTS).verdicts if v.violations}


@pytest.mark.parametrize("story", [*STORIES, told.behind], ids=lambda story: story.__name__)
def test_an_honest_ledger_has_no_violations(story: Callable[..., object]) -> None:
    assert verify(export_of(story), DOCUMENTS).findings == ()


def test_every_listed_sentence_is_judged_by_some_story() -> None:
    judged = {v.number for s in STORIES for v in verify(export_of(s), DOCUMENTS).verdicts if v.judged}
    assert judged == LISTED
    assert {n for n, s in SENTENCES.items() if s.judged_with(world=False)} == LISTED


def earlier_gate(export: Export) -> Export:
    """The market is asked in the first episode without the holder's no."""
    return without(without(export, "OfferAnswered"), "OfferOpened")


def swapped(export: Export, kind: str, other: str, nth: int = 0) -> Export:
    a, b = place(export, kind), place(export, other, nth)
    first, second = export.events[a], export.events[b]
    return put(put(export, a, replace(second, at=first.at)), b, replace(first, at=second.at))


EVIDENCE = {"id": "evidence-x", "what": "evidence", "name": "approved", "approver": "Nobody", "project": "default"}
STRANGER = {"id": "event-x", "what": "event", "name": "agi", "by": "eve"}
FORGED_FREE = {"clause": "agreement/rofr", "how": "exempt", "holder": "zeus", "exemption": "x", "because": "research",
               "records": ["evidence-x"], "approver": "me"}  # fmt: skip

SMALL = {"clause": "agreement/rofr", "how": "exempt", "holder": "azure", "exemption": "small",
         "because": "below_threshold", "approver": "agreement"}  # fmt: skip
OWNED = {"name": "b", "provider": "yves", "accelerator": "H100", "gpus": 16, "region": "eu-1",
         "from_us": STORY_BEGINS_US, "until_us": STORY_BEGINS_US + 86_400_000_000}  # fmt: skip

FORGED: list[tuple[int, str, Callable[[], Export]]] = [
    (1, "the holder was never asked", lambda: earlier_gate(export_of(told.lost))),
    (1, "the tail is over", lambda: at_other_time(export_of(told.lost), "Intended", 24 * 3600 + 1)),
    (1, "the refusal is of the last episode", lambda: edited(export_of(told.lost), "OfferOpened", 2, episode=1)),
    (1, "intended too late, and called a no", lambda: edited(export_of(told.failed), "OfferAnswered", ttl=-1)),
    (1, "fenced too late, and called a no", lambda: at_other_time(export_of(told.failed), "Fenced", 601)),
    (2, "silence for a second too little", lambda: at_other_time(export_of(told.silence), "OfferLapsed", -2)),
    (2, "a deadline before the window's end", lambda: edited(export_of(told.silence), "OfferLapsed", deadline=1)),
    (2, "undeliverable too early", lambda: at_other_time(export_of(told.away), "OfferLapsed", -2)),
    (2, "undeliverable while nobody answered", lambda: edited(export_of(told.away), "DeliveryFailed", unheard=True)),
    (2, "undeliverable inside its window", lambda: at_other_time(export_of(told.unheard), "DeliveryFailed", -300)),
    (3, "a second offer beside the first", lambda: without(export_of(told.lost), "OfferAnswered")),
    (4, "an offer after the end", lambda: again(export_of(told.lost), "OfferOpened")),
    (4, "a second answer", lambda: again(export_of(told.lost), "OfferAnswered")),
    (5, "a yes to other terms", lambda: edited(export_of(told.priced), "OfferAnswered", 1, terms="0" * 64)),
    (5, "the holder is used without its yes", lambda: edited(export_of(told.lost), "OfferAnswered", 1, accepted=False)),
    (5, "a yes to more workers than offered", lambda: edited(export_of(told.elastic), "OfferAnswered", 1, workers=5)),
    (5, "a yes to no number of a range", lambda: edited(export_of(told.elastic), "OfferAnswered", 1, workers=None)),
    (5, "a number where there is one size", lambda: edited(export_of(told.priced), "OfferAnswered", 1, workers=1)),
    (5, "launched with more than accepted", lambda: edited(export_of(told.elastic), "Intended", workers=4)),
    (6, "a yes after the window", lambda: at_other_time(
        edited(export_of(told.priced), "OfferAnswered", 1, provider_at=None), "OfferAnswered", 3600, 1)),
    (6, "a yes to a lapsed offer", lambda: again(edited(export_of(told.priced), "OfferAnswered", accepted=True),
                                                 "OfferAnswered")),
    (7, "an epoch once more", lambda: edited(export_of(told.lost), "Intended", 1, epoch=1)),
    (7, "an epoch that its run log held", lambda: edited(export_of(told.behind), "Intended", 1, epoch=2)),
    (8, "two attempts at once", lambda: without(export_of(told.lost), "Ended")),
    (9, "neither cleared nor waited", lambda: edited(export_of(told.lost), "Started", 1, waited_ms=9, cleared=False)),
    (12, "a launch that nobody meant", lambda: without(export_of(told.priced), "Intended")),
    (12, "fenced off without a fence", lambda: without(export_of(told.lost), "Fenced")),
    (14, "the consent was never given", lambda: without(export_of(told.released), "Recorded")),
    (14, "to another than the holder", lambda: edited(export_of(told.released), "OfferOpened", provider="oracle")),
    (14, "a release that it does not name", lambda: edited(export_of(told.released), "OfferOpened", 1, freed=[])),
    (14, "the outage was too short", lambda: at_other_time(export_of(told.out_of_reach), "OfferOpened", -60, -1)),
    (14, "there was no outage", lambda: without(export_of(told.out_of_reach), "HolderUnreachable")),
    (14, "its holder declined a longer job", lambda: of_other_terms(export_of(told.declined), max_runtime_ms=10**9)),
    (14, "its holder never declined", lambda: without(export_of(told.declined), "OfferAnswered")),
    (15, "an offer after the cancellation", lambda: again(export_of(told.cancelled), "OfferOpened")),
    (18, "complete twice", lambda: again(export_of(told.priced), "Ended")),
    (20, "a version that was not in force", lambda: edited(export_of(told.lost), "OfferOpened", contract=7)),
    (20, "an attempt under another version", lambda: edited(export_of(told.lost), "Intended", contract=7)),
    (21, "dearer than accepted", lambda: edited(export_of(told.priced), "Intended", price=2_100_000)),
    (21, "billed above the price", lambda: edited(export_of(told.priced), "Ended", charge=10**9, gpu_seconds=8)),
    (21, "billed for more GPUs than accepted", lambda: edited(export_of(told.elastic), "Ended", gpu_seconds=10**6)),
    (22, "over the ceiling", lambda: edited(export_of(told.priced), "Intended", price=2_600_000)),
    (23, "dearer than what the holder refused", lambda: edited(export_of(told.priced), "Intended", price=2_600_000)),
    (23, "smaller than what the holder refused", lambda: edited(export_of(told.elastic), "Intended", workers=1)),
    (23, "of more of the holder's regions", lambda: of_other_terms(export_of(told.priced), regions=("eu-2",))),
    (23, "smaller than tolerated", lambda: of_other_terms(export_of(told.shrunk), workers=5)),
    (23, "looser than tolerated", lambda: of_other_terms(export_of(told.shrunk), cpus=99, memory=10**12)),
    (25, "the first used too much", lambda: edited(export_of(told.exempted), "Ended", ran_ms=3_600_000)),
    (26, "evidence that nobody recorded", lambda: without(export_of(told.exempted), "Recorded")),
    (26, "another stands for it", lambda: edited(export_of(told.exempted), "Recorded", record=EVIDENCE)),
    (26, "no such exemption", lambda: edited(export_of(told.exempted), "OfferOpened", freed=[FORGED_FREE])),
    (26, "a part of what is too large", lambda: edited(export_of(told.too_large), "OfferOpened", 1, freed=[SMALL])),
    (27, "in a place that the terms forbid", lambda: edited(export_of(told.priced), "Intended", region="moon-1")),
    (27, "told to a stranger", lambda: edited(export_of(told.priced), "OfferOpened", provider="aws")),
    (29, "the window of another version", lambda: edited(export_of(told.lost), "OfferOpened", window=60_000_000)),
    (29, "under the version after it", lambda: edited(export_of(told.amended), "OfferOpened", contract=2)),
    (30, "one attester too few", lambda: without(export_of(told.ended), "Recorded")),
    (30, "a stranger's word", lambda: edited(export_of(told.ended), "Recorded", record=STRANGER)),
    (30, "ended and asked again", lambda: edited(export_of(told.ended), "OfferOpened", 2, clause="agreement/rofr")),
    (31, "other bytes left us", lambda: edited(export_of(told.priced), "OfferDelivered", sent="0" * 64)),
    (31, "it said more than it may", lambda: edited(export_of(told.priced), "OfferOpened", window=1)),
    (35, "forgotten", lambda: forgotten(export_of(told.waiting))),
    (36, "another row", lambda: other_row(export_of(told.priced))),
    (40, "nothing is owned", lambda: without(export_of(told.owned), "CapacityInForce")),
    (40, "less is owned", lambda: edited(export_of(told.owned), "CapacityInForce", blocks=[{**OWNED, "gpus": 8}])),
    (40, "dearer than agreed", lambda: edited(edited(export_of(told.owned), "CapacityInForce", blocks=[OWNED | {
        "price": 2_000_000}]), "Intended", price=2_000_001)),
    (40, "no longer owned", lambda: edited(export_of(told.owned), "CapacityInForce", blocks=[OWNED | {
        "until_us": STORY_BEGINS_US + 3_599_000_000}])),
    (40, "not yet owned", lambda: edited(export_of(told.owned), "CapacityInForce", blocks=[OWNED | {
        "from_us": STORY_BEGINS_US + 3_600_000_000}])),
    (40, "of another kind", lambda: edited(export_of(told.owned), "CapacityInForce", blocks=[OWNED | {
        "region": "us-1"}])),
    (40, "called owned, in no block", lambda: edited(export_of(told.lost), "OfferOpened", 1, trigger="owned")),
    (40, "one more in a full block", lambda: edited(edited(export_of(told.owned), "OfferOpened", 3, provider="yves",
        block="yves/b", trigger="owned", terms=terms_of(export_of(told.owned), 0)), "Intended", 2, provider="yves")),
    (41, "its class was never recorded", lambda: without(export_of(told.classified), "Recorded")),
    (41, "a class that nobody doubted", lambda: doubted(export_of(told.priced))),
    (1, "what is left was never refused", lambda: edited(export_of(told.divided), "Submitted", 1, rest=None)),
    (1, "what is left is placed after the tail", lambda: at_other_time(
        export_of(told.divided), "OfferOpened", 24 * 3600 + 1, 1)),
    (5, "a part larger than the whole", lambda: edited(export_of(told.divided), "OfferAnswered", workers=9)),
    (42, "more is left than there was", lambda: edited(export_of(told.divided), "Split", left=6)),
    (42, "the whole is left", lambda: edited(export_of(told.divided), "Submitted", 1, shape=shape_of(0))),
    (42, "another part than was taken", lambda: edited(export_of(told.divided), "OfferAnswered", workers=4)),
    (42, "nobody took a part", lambda: edited(export_of(told.divided), "OfferAnswered", accepted=False)),
    (42, "nothing was split", lambda: without(export_of(told.divided), "Split")),
    (42, "nothing is left", lambda: without(export_of(told.divided), "Submitted", 1)),
    (42, "split, and whole all the same", lambda: edited(export_of(told.divided), "Split", shape=shape_of(0))),
    (42, "pieces of another part", lambda: left_otherwise(piece=0)),
    (42, "left of no offer", lambda: left_otherwise(offer="x-o1")),
    (42, "left of a stranger's offer", lambda: edited(export_of(told.strangers), "Submitted", 3, rest=rest_of(
        told.strangers, 3, offer=rest_of(told.strangers)["offer"]))),
    (42, "to start by a later moment", lambda: left_otherwise(since=10**16)),
    (42, "nobody was asked", lambda: left_otherwise(asked=[])),
    (42, "nobody said no", lambda: left_otherwise(refused=[])),
    (42, "another one said no", lambda: left_otherwise(refused=[{**rest_of()["refused"][0], "provider": "zeus"}])),
    (42, "of another lineage", lambda: left_otherwise(root="x")),
    (42, "of another document", lambda: edited(export_of(told.divided), "Submitted", 1, max_attempts=99)),
    (1, "a growth passes its holder by", lambda: edited(export_of(told.scaled), "OfferOpened", 1, provider="oracle")),
    (43, "a growth by nobody's wish", lambda: edited(export_of(told.scaled), "Scaled", workers=5)),
    (43, "a growth of another job", lambda: edited(export_of(told.scaled), "Scaled", shape=shape_of(0, told.scaled))),
    (43, "it had more than it says", lambda: edited(export_of(told.scaled), "Scaled", was=9)),
    (43, "nobody wished it", lambda: without(export_of(told.scaled), "Scaled")),
    (43, "what was lost is called new", lambda: edited(export_of(told.lost), "OfferOpened", 3, trigger="new")),
    (43, "a loss is called a growth", lambda: edited(export_of(told.lost), "OfferOpened", 3, trigger="scale_up")),
    (43, "a growth is called a loss", lambda: edited(export_of(told.scaled), "OfferOpened", 1, trigger="replace")),
    (43, "offered as the size that it had", lambda: edited(
        export_of(told.scaled), "OfferOpened", 1, terms=terms_of(export_of(told.scaled), 0))),
    (4, "scaled for an attempt that is over", lambda: swapped(export_of(told.scaled), "Scaled", "Ended")),
    (39, "an offer is left out", lambda: without(export_of(told.lost), "OfferOpened")),
    (39, "numbers left out without a restore", lambda: edited(export_of(told.lost), "OfferOpened", 2, n=7, unused=4)),
    (44, "its holder's no was never recorded", lambda: without(export_of(told.renewed), "Recorded")),
    (44, "a no to less", lambda: waived(gpus=15)),
    (44, "a no to another block", lambda: waived(block="yves/c")),
    (44, "a no to less of it", lambda: waived(block_to=1)),
    (44, "a no that was over", lambda: waived(until=STORY_BEGINS_US)),
    (44, "another's no", lambda: waived(holder="yves")),
    (44, "prolonged before the no", lambda: swapped(export_of(told.renewed), "Recorded", "CapacityInForce", 1)),
    (44, "prolonged where nothing is known", lambda: replace(export_of(told.renewed), specs={})),
    (39, "an ordinal once more", lambda: edited(export_of(told.lost), "OfferOpened", 2, ordinal=1)),
    (39, "a head that never was", lambda: edited(export_of(told.lost), "OfferOpened", 1, head="0" * 64)),
    (39, "another receipt", lambda: edited(export_of(told.lost), "OfferDelivered", echo=[2, "0" * 64])),
    (38, "late to an open offer", lambda: swapped(export_of(told.silence), "LateAnswer", "OfferLapsed")),
]  # fmt: skip


def waived(**changes: object) -> Export:
    """The holder has refused something else."""
    export = export_of(told.renewed)
    said = json.loads(export.events[place(export, "Recorded")].body or "")["record"]
    return edited(export, "Recorded", record={**said, **changes})


def shape_of(nth: int, story: Callable[..., object] = told.divided) -> str:
    """Of the nth job of the divided one, or of another story."""
    export = export_of(story)
    return str(json.loads(export.events[place(export, "Submitted", nth)].body or "")["shape"])


def rest_of(story: Callable[..., Any] = told.divided, nth: int = 1, **changes: Any) -> dict[str, Any]:
    """Where the nth job that came in comes from, told otherwise."""
    export = export_of(story)
    return {**json.loads(export.events[place(export, "Submitted", nth)].body or "")["rest"], **changes}


def left_otherwise(**changes: Any) -> Export:
    return edited(export_of(told.divided), "Submitted", 1, rest=rest_of(**changes))


def doubted(export: Export) -> Export:
    """The job came in by a policy that its provider set says to be another one."""
    found = json.loads(export.events[place(export, "ProvidersInForce")].body or "")["digest"]
    said = json.loads(export.specs[found])
    for _, policy in said["spec"]["policies"]:
        policy["classification"] = "held"
    made = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    digest = sha256(made).hexdigest()
    return edited(replace(export, specs={**export.specs, digest: made}), "ProvidersInForce", digest=digest)


def terms_of(export: Export, nth: int) -> str:
    """What the nth offer was about."""
    return str(json.loads(export.events[place(export, "OfferOpened", nth)].body or "")["terms"])


def of_other_terms(export: Export, **changes: object) -> Export:
    """The first offer was about something else."""
    made = terms_bytes(replace(parse_terms(export.specs[terms_of(export, 0)]), **changes))
    digest = sha256(made).hexdigest()
    return edited(replace(export, specs={**export.specs, digest: made}), "OfferOpened", terms=digest)


def forgotten(export: Export) -> Export:
    """An offered job of which nobody knows any more that it is."""
    bodies = [r.body.replace('"offering"', '"queued"').replace(',"offer":{', ',"x":{') for r in export.rows]
    rows = tuple(replace(r, body=body) for r, body in zip(export.rows, bodies, strict=True))
    return replace(export, rows=rows, specs={})


def other_row(export: Export) -> Export:
    return replace(export, rows=tuple(replace(r, body=r.body.replace("oracle", "azure")) for r in export.rows))


@pytest.mark.parametrize(("sentence", "forge"), [(s, f) for s, _, f in FORGED], ids=[f"{s} {w}" for s, w, _ in FORGED])
def test_a_forged_ledger_breaks_the_sentence(sentence: int, forge: Callable[[], Export]) -> None:
    forged = forge()
    assert sentence in violated(forged)
    assert 17 not in violated(forged) or sentence == 17, "the forger's chain is whole"


@pytest.mark.parametrize("refused", [{"workers": 4}, {"cpus": 99}, {"memory": 10**12}, {"regions": ("eu-2",)}], ids=str)
def test_what_a_refusal_covers_within_its_tolerances_is_no_better(refused: dict[str, Any]) -> None:
    """One worker less would be too few, a second point of the spec too many: that is judged above."""
    assert 23 not in violated(of_other_terms(export_of(told.shrunk), **refused))


def test_lapses_never_change_gating() -> None:
    """A second job that goes to the market at once, because the holder never answers anyway."""
    honest = export_of(told.silence)
    job = honest.events[place(honest, "Submitted")].job
    other = job[:-1] + ("0" if job[-1] != "0" else "1")
    copied = [replace(e, job=other, at=honest.events[-1].at) for e in honest.events if e.job == job]
    kept = [e for e in copied if e.kind not in ("OfferLapsed", "LateAnswer")]
    gated = next(at for at, e in enumerate(kept) if e.kind == "OfferOpened")
    forged = put(honest, len(honest.events) - 1, honest.events[-1], *kept[:gated], *kept[gated + 2 :])
    assert {1, 32} <= violated(forged)


@pytest.mark.parametrize("field", ["at", "kind", "project", "job", "body", "salt", "body_hash", "chain"])
def test_a_changed_byte_breaks_the_chain(field: str) -> None:
    honest = export_of(told.priced)
    line = honest.events[5]
    changed = replace(line, at=line.at + 1) if field == "at" else _flipped(line, field)
    events = (*honest.events[:5], changed, *honest.events[6:])
    assert 17 in violated(replace(honest, events=events))


def _flipped(line: object, field: str) -> object:
    text = getattr(line, field)
    hexadecimal = field in ("salt", "body_hash", "chain")
    return replace(line, **{field: ("0" if text[0] != "0" else "1") + text[1:] if hexadecimal else text + " "})


def test_a_redacted_body_leaves_the_chain_whole_and_is_counted() -> None:
    honest = export_of(told.priced)
    at = place(honest, "OfferDelivered")
    events = (*honest.events[:at], replace(honest.events[at], body=None), *honest.events[at + 1 :])
    report = verify(replace(honest, events=events), DOCUMENTS)
    assert (report.redacted, {f.sentence for f in report.findings} & {17, 36}) == (1, set())


def test_a_document_that_is_gone_is_never_passed_over() -> None:
    assert {1, 22, 27} <= violated(replace(export_of(told.priced), specs={}))


def test_an_override_is_told_also_where_its_offers_keep_silent_about_it() -> None:
    honest = export_of(told.overridden)
    silent = edited(honest, "OfferOpened", freed=[])
    told_of = [[(b.clause, b.approver, b.why) for b in verify(e, DOCUMENTS).declared] for e in (honest, silent)]
    assert told_of == [[("agreement/rofr", "Ann", "outage 4711")]] * 2
    assert verify(honest, DOCUMENTS).plain()["overridden"] == 1


def test_an_override_that_nobody_made_is_a_violation() -> None:
    assert 1 in violated(without(export_of(told.overridden), "Recorded"))
