"""What loads, what is refused and with which words, and which bytes are digested."""

from __future__ import annotations

import pytest

from orchestrator.model.contract import NO_TOLERANCE, Tolerance
from orchestrator.model.documents import (
    DocumentError,
    canonical_bytes,
    compile_contracts,
    compile_providers,
    digest,
    disagreements,
    load_contracts,
    load_job,
    load_providers,
    unenforced,
    warnings,
)
from orchestrator.model.documents.base import load_canonical
from orchestrator.model.documents.contracts import ContractSet
from orchestrator.model.documents.providers import ProviderSet
from tests.core.contract_worlds import HEAD, TERM, contract, contract_set

FIRST = "type: first_right, window: 15m"


def problems(text: str | bytes, load: object = load_contracts) -> list[tuple[str, str]]:
    with pytest.raises(DocumentError) as caught:
        load(text)  # type: ignore[operator]
    assert all(problem.remedy and problem.reason for problem in caught.value.problems)
    return [(problem.path, problem.code) for problem in caught.value.problems]


def refused(text: str | bytes, load: object = load_contracts) -> dict[str, str]:
    return dict(problems(text, load))


@pytest.mark.parametrize(
    ("clause", "path", "code"),
    [
        (f"{FIRST}, basis: best_quote", "basis", "best_quote_before_market"),
        (f"{FIRST}, minWindow: 16m", "window", "window_too_short"),
        (f"{FIRST}, rounds: 2", "rounds", "rounds_without_after_final"),
        (f"{FIRST}, onOutage: bridge", "onOutage", "bridge_without_bridge_max"),
        ("type: first_right, window: 15", "window", "duration"),
        ("type: first_right, window: 0s", "window", "greater_than"),
        ("type: first_right", "window", "missing"),
        (f"{FIRST}, rank: 0", "rank", "greater_than_equal"),
        (f"{FIRST}, rank: '1'", "rank", "int_type"),
        (f"{FIRST}, tial: 1h", "tial", "extra_forbidden"),
        (f"{FIRST}, min_window: 1h", "min_window", "extra_forbidden"),
        (f"{FIRST}, select: {{class: []}}", "select.class", "too_short"),
        (f"{FIRST}, select: {{gpus: {{gte: 2, lt: 2}}}}", "select.gpus", "empty_range"),
        (f"{FIRST}, select: {{trigger: [renewal]}}", "select.trigger[0]", "enum"),
        (f"{FIRST}, reofferIf: {{smaller: 1.5}}", "reofferIf.smaller", "whole"),
        (f"{FIRST}, reofferIf: {{smaller: -1}}", "reofferIf.smaller", "greater_than_equal"),
        (f"{FIRST}, reofferIf: {{looserSpec: 0.5}}", "reofferIf.looserSpec", "whole"),
        (f"{FIRST}, reofferIf: {{looserSpec: -2}}", "reofferIf.looserSpec", "greater_than_equal"),
        (f"{FIRST}, reofferIf: {{looserSpec: true}}", "reofferIf.looserSpec", "number"),
        ("type: price, ceilingUsdPerGpuHour: 0", "ceilingUsdPerGpuHour", "greater_than"),
        ("type: price, ceilingUsdPerGpuHour: 0.0000001", "ceilingUsdPerGpuHour", "money"),
        ("type: price, ceilingUsdPerGpuHour: .nan", "ceilingUsdPerGpuHour", "number"),
        ("type: residency, minSeal: 5", "minSeal", "less_than_equal"),
    ],
)
def test_a_clause_is_refused_by_path(clause: str, path: str, code: str) -> None:
    assert refused(contract_set(contract(clause)))[f"spec.contracts[0].clauses[0].{path}"] == code


@pytest.mark.parametrize(
    ("contracts", "path", "code"),
    [
        ([contract(FIRST, "nobody")], "spec.contracts[0].holder", "unknown_holder"),
        ([contract(FIRST, None)], "spec.contracts[0].clauses[0]", "no_holder"),
        ([contract(FIRST), contract(FIRST)], "spec.contracts[1].id", "duplicate_id"),
        ([contract(FIRST, term="term: {from: 2026-02-01, to: 2026-01-31}")], "spec.contracts[0].term", "term"),
        ([contract(FIRST, term="term: {from: 2026-02-30, to: 2026-03-31}")], "spec.contracts[0].term.from", "date"),
        ([contract("type: residency", None)], "spec.contracts[0].clauses[0]", "says_nothing"),
        ([contract("type: right")], "spec.contracts[0].clauses[0]", "union_tag_invalid"),
        (
            [contract("type: exclusive"), contract("type: exclusive", "oracle", "d")],
            "spec.contracts[1].clauses[0]",
            "overlapping_exclusives",
        ),
    ],
)
def test_a_contract_is_refused_by_path(contracts: list[str], path: str, code: str) -> None:
    assert refused(contract_set(*contracts))[path] == code


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("", "", True),
        ("", ", rank: 2", False),
        (", select: {class: [a]}", ", select: {class: [b]}", False),
        (", select: {class: [a]}", "", True),
        (", select: {gpus: {lt: 8}}", ", select: {gpus: {gte: 8}}", False),
        (", select: {gpuHours: {lt: 8.5}}", ", select: {gpuHours: {gte: 8}}", True),
        (", select: {labels: {x: [a]}}", ", select: {labels: {x: [b]}}", False),
        (", select: {labels: {x: [a]}}", ", select: {labels: {y: [b]}}", True),
    ],
)
def test_equal_first_rights_of_two_holders_may_not_meet(one: str, other: str, clash: bool) -> None:
    text = contract_set(contract(FIRST + one), contract(FIRST + other, "oracle", "d"))
    if clash:
        assert refused(text) == {"spec.contracts[1].clauses[0]": "equal_rank_first_rights"}
    else:
        load_contracts(text)


def test_terms_that_do_not_meet_and_one_holder_twice_are_fine() -> None:
    later = "term: {from: 2027-01-01, to: 2027-01-01}"
    load_contracts(contract_set(contract(FIRST), contract(FIRST, "oracle", "d", later)))
    load_contracts(contract_set(contract(FIRST), contract(FIRST, "azure", "d")))


def test_every_problem_is_listed_at_once() -> None:
    text = contract_set(contract("type: first_right, window: 1x, rank: a, colour: red, rank: 2"))
    found = sorted(code for _, code in problems(text))
    assert found == ["duplicate_key", "duration", "extra_forbidden", "int_type"]


def test_a_near_word_is_suggested() -> None:
    with pytest.raises(DocumentError, match=r"undeliverableafter: the field is not known. Did you mean undel.*\?"):
        load_contracts(contract_set(contract(f"{FIRST}, undeliverableafter: 1h")))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &a [*a]", "self_reference"),
        ("a: &a [" + "x," * 400 + "]\nb: &b [" + "*a," * 300 + "]\nc: [*b, *b]", "alias_bomb"),
        ("[" * 33, "too_deep"),
        ("a: " + "x" * 300_000, "too_large"),
        ("a: 1\n---\nb: 1", "documents"),
        ("a: &x 1\nb: &x 2", "anchor"),
        ("a: [", "syntax"),
        ("", "empty"),
        (b"\xff\xfe", "encoding"),
        ("!!python/object:os.system {}", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("a: " + "9" * 5000, "number"),
        ("a: 1e999999", "number"),
        ("? [a]\n: b", "key"),
        ("a: 1\na: 2", "duplicate_key"),
    ],
)
def test_hostile_text_is_refused(text: str | bytes, code: str) -> None:
    assert code in [found for _, found in problems(text, load_job)]


def test_canonical_bytes_hold_only_what_is_set() -> None:
    clause = "type: price, ceilingUsdPerGpuHour: 3.10, mfcMaxRatio: 1.250, mfcComparators: [oracle]"
    found = canonical_bytes(load_contracts(contract_set(contract(clause), contract(FIRST, name="d"))))
    assert (
        b'"clauses":[{"ceilingUsdPerGpuHour":3100000,"id":"k","mfcComparators":["oracle"],"mfcMaxRatio":"1.25"' in found
    )
    assert b'{"id":"k","type":"first_right","window":900000}' in found
    assert b'"term":{"from":"2026-01-01","to":"2026-12-31"}' in found and b'"H100":"1"' in found


def test_the_digest_is_of_the_meaning_not_of_the_spelling() -> None:
    plain = contract_set(contract("type: first_right, window: 15m"))
    other = plain.replace("15m", "900s").replace("H100: 1}", "H100: 1.00}").replace("spec:\n", "spec:  # here\n")
    said = contract_set(contract("type: first_right, window: 15m, tail: 24h"))
    digests = [digest(load_contracts(text)) for text in (plain, other, said)]
    assert digests[0] == digests[1] != digests[2]
    assert digests[0] == "51f5693871cc30c52719419fce124bbe94249b9384cb3f52d95eba870a425d96"


def test_a_committed_amount_is_money_only_in_dollars() -> None:
    clause = "type: commit, starts: 2026-01-01, ends: 2026-12-31, amount: 250.0e9, unit: "
    in_usd, in_hours = (load_contracts(contract_set(contract(clause + unit))) for unit in ("usd", "gpu_hours"))
    assert b'"amount":250000000000000000' in canonical_bytes(in_usd)
    assert b'"amount":"250000000000"' in canonical_bytes(in_hours)
    for document in (in_usd, in_hours):
        assert load_canonical(ContractSet, canonical_bytes(document)) == document


WHOLE = """\
    - id: all
      holder: azure
      term: {from: 2026-01-01, to: 2026-12-31}
      endsOn: [{event: e, attesters: [p, q], quorum: 2, clauses: [a]}]
      clauses:
        - {id: a, type: exclusive, release: [holder_outage], outageAfter: 4h, select: {class: [api]}}
        - {id: b, type: precedence, lead: 1d}
        - {id: c, type: commit, unit: usd, amount: 1, starts: 2026-01-01, ends: 2026-12-31}
        - {id: d, type: share, bound: max, window: 90d, trajectory: [{at: 2026-01-01, pct: 5}]}
        - {id: e, type: price, mfcMaxRatio: 1.25, mfcComparators: [oracle], remedy: credit}
        - id: f
          type: first_right
          window: 15m
          stage: after_final
          basis: best_quote
          rounds: 3
          matchMarginPct: 5
          partial: {minGpus: 8}
          disclose: [price]
          onOutage: bridge
          bridgeMax: 6h
          standingWaiver: {class: [x], gpus: 8, until: 2026-02-01}
          reofferIf: {priceUpPct: 1, startLater: 0, smaller: 1, looserSpec: 0}
          exempt: [{id: x, because: consent, maxGpuHoursPerWindow: [640, 7d]}]
"""


def test_the_whole_document_parses_and_says_what_is_not_enforced_yet() -> None:
    document = load_contracts(contract_set(WHOLE))
    paths = [path.removeprefix("spec.contracts[0].") for path, _ in unenforced(document)]
    right = ["stage", "basis", "rounds", "matchMarginPct", "disclose", "onOutage"]
    assert paths == [
        *(f"clauses[{at}]" for at in range(1, 4)),
        "clauses[4].mfcMaxRatio",
        *(f"clauses[5].{key}" for key in right),
    ]
    assert load_canonical(ContractSet, canonical_bytes(document)) == document


def test_what_is_enforced_is_not_listed() -> None:
    outage = "onOutage: deemed_decline, undeliverableAfter: 1m"
    reoffer = "reofferIf: {priceUpPct: 1, startLater: 1h, smaller: 8, looserSpec: 2}"
    clause = f"{FIRST}, {outage}, tail: 1h, onReplace: inherit, rank: 3, minWindow: 1m, {reoffer}"
    assert unenforced(load_contracts(contract_set(contract(clause)))) == []
    assert unenforced(load_contracts(contract_set(contract("type: precedence", term=f"{TERM}, status: draft")))) == []


def test_tolerances_are_compiled_and_are_none_where_nothing_is_said() -> None:
    said = "reofferIf: {priceUpPct: 2.5, startLater: 1h, smaller: 8, looserSpec: 2.0}"
    agreed = compile_contracts(load_contracts(contract_set(contract(f"{FIRST}, {said}"), contract(FIRST, name="d"))))
    assert [right.tolerance for right in agreed.first_rights] == [
        Tolerance(price_up_ppm=25_000, start_later_ms=3_600_000, smaller_gpus=8, looser_points=2),
        NO_TOLERANCE,
    ]


def test_what_was_taken_when_a_tolerance_was_not_enforced_is_read_as_it_was_kept() -> None:
    """Drafts could say anything, and 0 was taken everywhere: a ledger holds such sets, under their digests."""
    zero = load_contracts(contract_set(contract(f"{FIRST}, reofferIf: {{smaller: 0, looserSpec: 0}}")))
    kept = canonical_bytes(zero)
    assert b'"reofferIf":{"looserSpec":"0","smaller":"0"}' in kept
    draft = kept.replace(b'"smaller":"0"', b'"smaller":"1.5"')
    assert canonical_bytes(load_canonical(ContractSet, draft)) == draft
    with pytest.raises(DocumentError, match="smaller"):
        load_canonical(ContractSet, draft, kept=False)


def test_warnings_of_a_share_out_of_reach_and_a_class_left_alone() -> None:
    share = "type: share, bound: target, window: 90d, trajectory: [{at: 2026-12-31, pct: 75}]"
    alone = "type: exclusive, select: {class: [api]}"
    document = load_contracts(contract_set(contract(FIRST), contract(share, "oracle", "s"), contract(alone, name="x")))
    assert [notice.code for notice in warnings(document)] == ["share_infeasible", "single_provider"]


PROVIDER_SET = """\
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {name: ours}
spec:
  providers:
    oracle:
      adapter: mock
      connection: {url: u, timeout: 2.5}
      regions: {abilene: US}
      operatorJurisdiction: US
      seal: 1
      accelerators: {H100: 1}
    azure:
      adapter: mock
      regions: {eastus: US}
      operatorJurisdiction: US
      seal: 3
      accelerators: {H100: 1, GB200: 2.5}
      prices: [{accelerator: H100, usdPerGpuHour: 3.20, source: book, date: 2026-01-01}]
      marketWindow: 30s
  stores: {main: {url: "file:///runs", jurisdiction: US}}
  policies: {patient: {isolation: {limit: 1h}, onUnreachable: confirmed_stop_only}}
"""


def test_providers_keep_the_order_of_their_file_through_canonical_bytes() -> None:
    document = load_providers(PROVIDER_SET)
    again = load_canonical(ProviderSet, canonical_bytes(document))
    for providers in (compile_providers(document), compile_providers(again)):
        assert [facts.name for facts in providers.providers] == ["oracle", "azure"]
        assert providers.providers[1].prices == (("H100", 3_200_000),)
        assert [(p.name, p.limit_us, p.store) for p in providers.policies] == [
            ("default", 900_000_000, "main"),
            ("patient", None, "main"),
        ]
    assert document.spec.providers["oracle"].connection_values() == {"url": "u", "timeout": 2.5}


def test_facts_that_contracts_rely_on_must_be_the_operators() -> None:
    document = load_contracts(contract_set(contract(FIRST)))
    found = disagreements(document, load_providers(PROVIDER_SET))
    assert [(p.path, p.code) for p in found] == [("spec.providers.azure.seal", "facts_differ")]
    without = load_contracts(f"{HEAD}spec:\n  contracts:\n{contract(FIRST, 'elsewhere')}")
    assert [p.path for p in disagreements(without, load_providers(PROVIDER_SET))] == ["spec.contracts[0].holder"]


def test_a_provider_set_is_refused_by_path() -> None:
    text = PROVIDER_SET.replace("limit: 1h", "limit: 20s").replace("seal: 3", "seal: 9")
    assert refused(text, load_providers) == {
        "spec.providers.azure.seal": "less_than_equal",
        "spec.policies.patient.isolation": "isolation",
    }
    text = PROVIDER_SET.replace("confirmed_stop_only", "wait, store: moon").replace(
        "accelerator: H100", "accelerator: B200"
    )
    assert sorted(refused(text, load_providers).values()) == ["unknown_accelerator", "unknown_store"]


def test_the_labels_that_contracts_read() -> None:
    clause = f"{FIRST}, select: {{labels: {{site: [own], team: [a]}}}}"
    assert compile_contracts(load_contracts(contract_set(contract(clause)))).labels == {"site", "team"}
