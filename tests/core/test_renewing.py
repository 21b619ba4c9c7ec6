"""May a block be prolonged? Tables over 64 H100 of oracle that are owned for a day more, and over azure's rights."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from orchestrator.core.known import concerns, reaches
from orchestrator.core.renewing import Facts, bound, renewals
from orchestrator.model.capacity import Block
from orchestrator.model.contract import DAY_US
from orchestrator.model.documents.compiling import moment_us
from orchestrator.model.record import Record
from tests.core.contract_worlds import HOUR, NOON, contract, shape, world

NAMED = "type: first_right, window: 15m, select: {trigger: [renew]}"
ALONE = "type: exclusive, release: [consent]"
Q1 = Block(
    name="q1", provider="oracle", accelerator="H100", gpus=64, region="abilene", from_us=NOON - DAY_US,
    until_us=NOON + DAY_US,
)  # fmt: skip
Q2 = replace(Q1, until_us=NOON + 2 * DAY_US)


def forbidden(*contracts: str, records: tuple[Record, ...] = (), block: Block = Q2, **facts: object) -> list[str]:
    """The clauses that forbid to prolong the block by a day."""
    agreed, providers = world(*contracts)
    told = replace(Facts(agreed, providers, records, {}, NOON), **facts)
    own = replace(Q1, provider=block.provider, region=block.region)
    return [one.right.clause.ref for renewal in renewals([own], [block], NOON) for one in bound(told, renewal)]


def record(what: str, **more: object) -> Record:
    return Record(id="r", what=what, by="ann", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "hours"),
    [
        ({}, 24), ({"gpus": 32}, 24), ({"price": 9, "contract": "other"}, 24), ({"until_us": Q1.until_us}, None),
        ({"until_us": Q1.until_us - 1}, None), ({"gpus": 65}, None), ({"name": "q2"}, None),
        ({"provider": "azure"}, None), ({"accelerator": "B200"}, None), ({"region": "eastus"}, None),
        ({"from_us": NOON + DAY_US + 6 * HOUR}, 18),
    ],
    ids=["longer", "smaller", "at another price", "as it was", "shorter", "larger", "another", "elsewhere",
         "of another kind", "in another region", "from later on"],
)  # fmt: skip
def test_a_renewal_is_the_same_block_no_larger_and_longer(changes: dict[str, object], hours: int | None) -> None:
    found = [renewal.more_ms / 3_600_000 for renewal in renewals([Q1], [replace(Q2, **changes)], NOON)]
    assert found == ([] if hours is None else [hours])


@pytest.mark.parametrize(("since", "until", "hours"), [(-6, 24, 24), (-6, 0, None), (-6, -1, None), (0, 1, 1)])
def test_what_is_past_is_not_gained(since: int, until: int, hours: int | None) -> None:
    """It ended six hours ago, and somebody finds that it goes on."""
    was, goes_on = (replace(Q1, until_us=NOON + end * HOUR) for end in (since, until))
    assert [one.more_ms / 3_600_000 for one in renewals([was], [goes_on], NOON)] == ([] if hours is None else [hours])


def test_a_block_that_was_not_owned_is_a_purchase() -> None:
    assert list(renewals([], [Q2], NOON)) == []


@pytest.mark.parametrize(
    ("clause", "holds"),
    [
        (NAMED, True),
        ("type: first_right, window: 15m", True),
        ("type: first_right, window: 15m, select: {trigger: [new, scale_up, replace]}", False),
        ("type: first_right, window: 15m, select: {trigger: [owned]}", False),
        ("type: first_right, window: 15m, select: {class: [training]}", True),
        ("type: first_right, window: 15m, select: {residency: [eu]}", False),
        ("type: first_right, window: 15m, select: {labels: {site: [own]}}", False),
        ("type: first_right, window: 15m, select: {gpus: {gte: 64}}", True),
        ("type: first_right, window: 15m, select: {gpus: {gte: 65}}", False),
        ("type: first_right, window: 15m, select: {gpuHours: {gte: 1536}}", True),
        ("type: first_right, window: 15m, select: {gpuHours: {gte: 1537}}", False),
        ("type: exclusive", True),
        ("type: exclusive, select: {class: [training]}", False),
        ("type: exclusive, select: {class: [training], trigger: [new, renew]}", True),
        ("type: exclusive, select: {trigger: [new]}", False),
        ("type: price, ceilingUsdPerGpuHour: 1, onExceed: held", False),
    ],
)
def test_which_clauses_are_about_a_renewal(clause: str, holds: bool) -> None:
    assert forbidden(contract(clause)) == (["c/k"] if holds else [])


@pytest.mark.parametrize("clause", [NAMED, "type: exclusive"])
def test_nobody_s_right_stands_against_its_own_block(clause: str) -> None:
    assert forbidden(contract(clause), block=replace(Q2, provider="azure", region="eastus")) == []


TWO = [contract(f"{NAMED}, rank: {rank}", holder=who, name=who) for who, rank in (("azure", 1), ("oracle", 2))]
OTHER = [contract(f"{NAMED}, rank: {rank}", holder=who, name=who) for who, rank in (("azure", 2), ("oracle", 1))]


def test_only_rights_before_that_of_the_block_s_provider_stand_against_it() -> None:
    assert (forbidden(*TWO), forbidden(*OTHER)) == (["azure/k"], [])
    assert forbidden(*OTHER, records=(record("waiver", holder="oracle", gpus=64),)) == ["azure/k"], "no right, no rank"


def test_what_is_all_its_provider_s_is_nobody_s_to_be_asked_about() -> None:
    assert forbidden(contract("type: exclusive", holder="oracle"), contract(NAMED, name="d")) == []


def test_all_rights_that_stand_against_it_are_told() -> None:
    assert forbidden(contract(NAMED), contract(ALONE, name="d")) == ["d/k", "c/k"]


@pytest.mark.parametrize(
    "without",
    [
        contract(NAMED, term="term: {from: 2027-01-01, to: 2027-12-31}"),
        contract(NAMED).replace("clauses:", "status: draft, clauses:"),
    ],
    ids=["not in its term", "a draft"],
)
def test_what_is_not_in_force_forbids_nothing(without: str) -> None:
    assert forbidden(without) == []


FREEING = [
    (NAMED, record("waiver", holder="azure", gpus=64), True),
    (NAMED, record("waiver", holder="azure", gpus=63), False),
    (NAMED, record("waiver", holder="azure", gpus=64, until=NOON + 1), True),
    (NAMED, record("waiver", holder="azure", gpus=64, until=NOON), False),
    (NAMED, record("waiver", holder="oracle", gpus=64), False),
    (NAMED, record("waiver", holder="azure", gpus=64, clause="c/k"), True),
    (NAMED, record("waiver", holder="azure", gpus=64, clause="c/other"), False),
    (NAMED, record("waiver", holder="azure", gpus=64, block="oracle/q1", block_to=Q2.until_us), True),
    (NAMED, record("waiver", holder="azure", gpus=64, block="oracle/q1", block_to=Q2.until_us - 1), False),
    (NAMED, record("waiver", holder="azure", gpus=64, block="oracle/q1", block_to=Q2.until_us + 1), False),
    (NAMED, record("waiver", holder="azure", gpus=64, block="oracle/q9", block_to=Q2.until_us), False),
    (NAMED, record("waiver", holder="azure", gpus=64, classes=("training",)), False),
    (NAMED, record("waiver", holder="azure", gpus=64, project="default"), False),
    (NAMED, record("consent", holder="azure"), False),
    (NAMED, record("override", clause="c/k"), True),
    (NAMED, record("override", clause="c/k", job="J"), False),
    (f"{NAMED}, exempt: [{{id: x, because: research}}]", record("evidence", name="x"), True),
    (f"{NAMED}, exempt: [{{id: x, because: research}}]", record("evidence", name="y"), False),
    (f"{NAMED}, exempt: [{{id: x, because: consent}}]", record("consent", holder="azure"), True),
    (f"{NAMED}, exempt: [{{id: x, because: research, select: {{class: [a]}}}}]", record("evidence", name="x"), False),
    (ALONE, record("consent", holder="azure"), True),
    (ALONE, record("consent", holder="azure", block="oracle/q1", block_to=Q2.until_us), True),
    (ALONE, record("consent", holder="oracle"), False),
    (ALONE, record("waiver", holder="azure", gpus=64), False),
    ("type: exclusive", record("consent", holder="azure"), False),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "said", "free"), FREEING)
def test_what_is_on_record_frees_it_or_does_not(clause: str, said: Record, free: bool) -> None:
    assert forbidden(contract(clause), records=(said,)) == ([] if free else ["c/k"])


@pytest.mark.parametrize(("attesters", "free"), [(["ann"], False), (["ann", "bob"], True)])
def test_an_event_ends_the_right_once_its_quorum_has_attested_it(attesters: list[str], free: bool) -> None:
    ends = "endsOn: [{event: agi, quorum: 2, attesters: [ann, bob]}], clauses:"
    said = tuple(Record(id=who, what="event", name="agi", by=who) for who in attesters)
    assert forbidden(contract(NAMED).replace("clauses:", ends), records=said) == ([] if free else ["c/k"])


@pytest.mark.parametrize(("limit", "free"), [("", True), (", maxGpuHoursPerWindow: [9999, 30d]", False)])
def test_an_exemption_with_a_total_frees_none_for_only_attempts_are_counted(limit: str, free: bool) -> None:
    small = f"exempt: [{{id: small, because: below_threshold, select: {{gpuHours: {{lt: 2000}}}}{limit}}}]"
    assert forbidden(contract(f"{NAMED}, {small}")) == ([] if free else ["c/k"])


@pytest.mark.parametrize(("hours", "free"), [(3, False), (4, True)])
def test_a_holder_that_is_away_for_long_enough_may_lose_it(hours: int, free: bool) -> None:
    away = "type: exclusive, release: [holder_outage], outageAfter: 4h"
    assert forbidden(contract(away), down_us={"azure": hours * HOUR}) == ([] if free else ["c/k"])


def test_a_holder_that_may_not_serve_by_law_is_not_asked() -> None:
    """Work that only operators of the EU may do is none of azure's; a law about some residency is not about a block."""
    law = contract("type: residency, operatorJurisdictionIn: [EU]", holder=None, name="law")
    of_some = contract(
        "type: residency, select: {residency: [eu]}, operatorJurisdictionIn: [EU]", holder=None, name="law"
    )
    assert (forbidden(contract(NAMED), law), forbidden(contract(NAMED), of_some)) == ([], ["c/k"])


def test_a_record_about_a_block_is_about_no_job_and_says_nothing_of_one() -> None:
    said = record("waiver", holder="azure", gpus=64, block="oracle/q1", block_to=Q2.until_us)
    assert not concerns(said, shape())
    assert not reaches(said, replace(said, id="s", block="", gpus=8))


REMEDIES = [
    (NAMED, "c/k gives azure the first right to 24 h more of 64 H100, and nothing on record frees it",
     "offer it to azure; if it declines, `orchestrator record waiver azure --gpus 64 --block oracle/q1 --to "
     "2026-06-03T12:00:00Z --clause c/k "
     "--until 2026-06-02T12:00:00Z`; then apply the document again"),
    (ALONE, "c/k keeps 24 h more of 64 H100 for azure alone, and nothing on record frees it",
     "ask azure; if it consents, `orchestrator record consent azure --block oracle/q1 --to "
     "2026-06-03T12:00:00Z --clause c/k "
     "--until 2026-06-02T12:00:00Z`; then apply the document again"),
    ("type: exclusive", "c/k keeps 24 h more of 64 H100 for azure alone, and nothing on record frees it",
     "let it end; or somebody answers for the breach: `orchestrator record override c/k --block oracle/q1 "
     "--to 2026-06-03T12:00:00Z --approver NAME --why REASON`; then apply the document again"),
    ("type: exclusive, exempt: [{id: x, because: research, evidence: [paper]}, "
     "{id: y, because: research, evidence: [in-vain], maxGpuHoursPerWindow: [9, 1d]}]",
     "c/k keeps 24 h more of 64 H100 for azure alone, and nothing on record frees it",
     "prove that it is exempt: `orchestrator record evidence paper --block oracle/q1 --to "
     "2026-06-03T12:00:00Z --clause c/k "
     "--until 2026-06-02T12:00:00Z`; then apply the document again"),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "reason", "remedy"), REMEDIES, ids=["right", "consent", "nothing", "evidence"])
def test_it_says_whose_right_it_is_and_what_to_do(clause: str, reason: str, remedy: str) -> None:
    agreed, providers = world(contract(clause))
    (renewal,) = renewals([Q1], [Q2], NOON)
    (found,) = bound(Facts(agreed, providers, (), {}, NOON), renewal)
    assert (found.reason, found.remedy(NOON)) == (reason, remedy)


def test_without_contracts_nobody_has_a_right() -> None:
    (renewal,) = renewals([Q1], [Q2], NOON)
    assert bound(Facts(None, world()[1], (), {}, moment_us(datetime(2026, 1, 1, tzinfo=UTC))), renewal) == []
