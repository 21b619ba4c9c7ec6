"""Whom may we ask: static rules, the order at a moment, and what an earlier refusal is worth."""

from __future__ import annotations

import timeit

import msgspec
import pytest

from orchestrator.core.eligibility import compile_rules, store_lawful
from orchestrator.core.ranking import better, covers, order
from orchestrator.model.contract import Trigger
from orchestrator.model.placement import Held, How, Refused, Rules, parse_shape, shape_bytes, terms_hash
from tests.core.contract_worlds import HOUR, MINUTE, NOON, TERM, contract, shape, world

RIGHT = contract("type: first_right, window: 15m")


def rules_of(*contracts: str, **job: object) -> Rules:
    agreed, providers = world(*contracts)
    return compile_rules(agreed, providers, shape(**job), NOON)


def no(rules: Rules, ago: int = MINUTE, **changes: object) -> Refused:
    gate = rules.gates[0]
    usual = {
        "provider": gate.holder,
        "clause": gate.clause,
        "at_us": NOON - ago,
        "how": How.DECLINED,
        "episode": 1,
        "terms_hash": gate.terms_hash,
    }
    return Refused(**(usual | changes))  # type: ignore[arg-type]


def test_no_contract_set_means_no_gate_and_the_order_of_the_file() -> None:
    _, providers = world()
    turned = msgspec.structs.replace(providers, providers=providers.providers[::-1])
    rules = compile_rules(None, turned, shape(), NOON)
    placement = order(rules, {"azure": 1, "oracle": 2}, (), NOON)
    assert (rules.gates, placement.market, rules.expires_us) == ((), ("oracle", "azure"), None)


def test_rules_are_good_until_the_next_term_begins_or_ends() -> None:
    later = contract(
        "type: first_right, window: 1m", name="d", term="term: {from: 2026-06-03, to: 2026-06-03}, status: active"
    )
    rules = rules_of(RIGHT, later.replace("type: first_right", "rank: 2, type: first_right"))
    assert rules.expires_us == NOON + 36 * HOUR
    after = compile_rules(*world(RIGHT), shape(), 2**62)
    assert (after.gates, after.expires_us) == ((), None)


def test_a_gate_carries_all_that_an_offer_needs() -> None:
    gate = rules_of(RIGHT, contract("type: price, ceilingUsdPerGpuHour: 3", None, "own")).gates[0]
    assert (gate.clause, gate.contract, gate.window_us, gate.tail_us) == ("c/k", "c", 15 * MINUTE, 24 * HOUR)
    assert gate.undeliverable_after_us == gate.window_us
    assert gate.terms.ceiling_microusd == 3_000_000 and gate.terms_hash == terms_hash(gate.terms)


@pytest.mark.parametrize(
    ("trigger", "named", "gated"),
    [
        (Trigger.NEW, "", True),
        (Trigger.REPLACE, "", True),
        (Trigger.OWNED, "", False),
        (Trigger.OWNED, "select: {trigger: [owned]}, ", True),
        (Trigger.NEW, "select: {trigger: [owned]}, ", False),
    ],
)
def test_owned_capacity_meets_a_right_only_where_it_is_named(trigger: Trigger, named: str, gated: bool) -> None:
    assert bool(rules_of(contract(f"{named}type: first_right, window: 1m"), trigger=trigger).gates) == gated


@pytest.mark.parametrize(
    ("select", "job", "selected"),
    [
        ("class: [research]", {}, False),
        ("gpus: {gte: 8}", {}, True),
        ("gpus: {lt: 8}", {}, False),
        ("gpus: {gte: 16}", {"workers": 2}, True),
        ("gpuHours: {gte: 800}", {}, True),
        ("gpuHours: {lt: 800}", {}, False),
        ("gpuHours: {gte: 800.001}", {}, False),
        ("residency: [eu]", {}, False),
        ("residency: [eu]", {"residency": "eu"}, True),
        ("labels: {team: [a, b]}", {"labels": (("team", "b"),)}, True),
        ("labels: {team: [a], site: [x]}", {"labels": (("team", "a"),)}, False),
    ],
)
def test_every_key_of_a_select(select: str, job: dict[str, object], selected: bool) -> None:
    clause = f"select: {{{select}}}, type: first_right, window: 1m"
    assert bool(rules_of(contract(clause), **job).gates) == selected


def test_stores_obey_the_law_that_regions_obey() -> None:
    """A bucket is made where no job may be; here checkpoints obey the same law (skypilot#3114, skypilot#8504)."""
    law = contract("type: residency, select: {residency: [eu]}, regionsIn: [EU, CH]", None, "law")
    rules = rules_of(law, residency="eu")
    assert [store_lawful(rules, place) for place in ("EU", "CH", "US")] == [True, True, False]
    assert store_lawful(rules_of(law), "US")


def test_two_laws_are_both_obeyed() -> None:
    one = contract("type: residency, regionsIn: [EU, US]", None, "one")
    two = contract("type: residency, regionsIn: [EU]", None, "two")
    rules = rules_of(one, two)
    assert [c.regions for c in rules.candidates] == [("swedencentral",)]
    assert rules.jurisdictions == ("EU",)
    assert (rules.excluded[0].clause, rules.excluded[0].need) == ("two/k", "EU")


def test_a_job_without_gpus_goes_anywhere() -> None:
    assert [c.accelerator for c in rules_of(gpus_per_worker=0, accelerators=()).candidates] == [None, None]


def test_a_refusal_is_good_to_the_end_of_its_tail() -> None:
    rules = rules_of(RIGHT)
    gate = rules.gates[0]
    ages = (0, 24 * HOUR, 24 * HOUR + 1, -1)
    assert [covers(no(rules, age), gate, NOON, 1) for age in ages] == [True, True, False, False]


@pytest.mark.parametrize(
    ("clause", "changes", "episode", "good"),
    [
        ("", {}, 2, False),
        ("onReplace: inherit, ", {}, 2, False),
        ("", {"how": How.LAPSED}, 1, True),
        ("", {"how": How.ACCEPT_FAILED}, 1, True),
        ("", {"how": How.UNDELIVERABLE}, 1, False),
        ("onOutage: deemed_decline, ", {"how": How.UNDELIVERABLE}, 1, True),
        ("", {"clause": ""}, 1, False),
        ("", {"provider": "oracle"}, 1, False),
        ("", {"terms_hash": "other"}, 1, False),
    ],
)
def test_what_a_refusal_is_worth(clause: str, changes: dict[str, object], episode: int, good: bool) -> None:
    rules = rules_of(contract(f"{clause}type: first_right, window: 15m"))
    placement = order(rules, {}, [no(rules, **changes)], NOON, episode)
    assert (placement.gates == (), placement.refused == ("azure",)) == (good, good)


@pytest.mark.parametrize("trigger", [Trigger.NEW, Trigger.SCALE_UP, Trigger.REPLACE])
def test_only_what_is_replaced_inherits_a_refusal(trigger: Trigger) -> None:
    rules = rules_of(contract("onReplace: inherit, type: first_right, window: 15m"), trigger=trigger)
    assert (order(rules, {}, [no(rules)], NOON, 2).gates == ()) is (trigger is Trigger.REPLACE)


@pytest.mark.parametrize(
    ("change", "dimension"),
    [
        ({"ceiling_microusd": 4}, "price"),
        ({"ceiling_microusd": None}, "price"),
        ({"start_by_ms": 9}, "start"),
        ({"start_by_ms": None}, "start"),
        ({"workers": 1}, "quantity"),
        ({"max_runtime_ms": 1}, "duration"),
        ({"cpus": 1}, "spec"),
        ({"memory": 1}, "spec"),
        ({"accelerators": ("H100", "A100")}, "spec"),
        ({"accelerators": ()}, "spec"),
        ({"regions": ("eastus", "swedencentral")}, "spec"),
        ({"residency": None}, "spec"),
    ],
)
def test_better_for_a_supplier_in_one_dimension_is_enough(change: dict[str, object], dimension: str) -> None:
    offered = rules_of(RIGHT, workers=2, residency="eu", start_by_ms=5, ceiling_microusd=3).gates[0].terms
    then = msgspec.structs.replace(offered, regions=("eastus",))
    assert better(msgspec.structs.replace(then, **change), then) == (dimension,)


def test_worse_for_a_supplier_is_covered() -> None:
    then = rules_of(RIGHT).gates[0].terms
    worse = {
        "ceiling_microusd": 1,
        "start_by_ms": 1,
        "workers": 2,
        "max_runtime_ms": 400_000_000,
        "regions": ("eastus",),
    }
    assert better(msgspec.structs.replace(then, **worse), then) == ()


def test_a_refused_holder_is_never_lost_when_all_others_are_too_dear() -> None:
    rules = rules_of(RIGHT, ceiling_microusd=3_000_000)
    placement = order(rules, {"oracle": 3_000_001}, [no(rules)], NOON)
    assert (placement.held, placement.market, placement.refused) == (None, (), ("azure",))


def test_a_held_job_is_told_to_nobody() -> None:
    law = contract("type: residency, regionsIn: [MOON]", None, "law")
    placement = order(rules_of(RIGHT, law), {}, (), NOON)
    assert (placement.held, placement.may_know) == (Held.NO_LAWFUL_PROVIDER, ())


def test_a_draft_gates_nobody() -> None:
    draft = contract("type: first_right, window: 1m", term=f"{TERM}, status: draft")
    assert rules_of(draft).gates == ()


def test_a_shape_comes_back_from_its_bytes() -> None:
    wanted = shape(labels=(("a", "b"),), trigger=Trigger.REPLACE)
    assert parse_shape(shape_bytes(wanted)) == wanted and hash(wanted) == hash(parse_shape(shape_bytes(wanted)))


def test_an_order_costs_less_than_a_hundred_microseconds() -> None:
    rules = rules_of(RIGHT)
    refusals = [no(rules, ago=48 * HOUR), no(rules)]
    once = min(timeit.repeat(lambda: order(rules, {"azure": 2, "oracle": 1}, refusals, NOON), number=100, repeat=9))
    assert once / 100 < 100e-6
