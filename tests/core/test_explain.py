"""Every event has a sentence; a story reads the same however fast it happened."""

import msgspec
import pytest
from msgspec.structs import replace

from orchestrator.core import explain
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.placement import Freed
from orchestrator.model.record import Record

BLOCK = Block(name="b", provider="p", accelerator="H100", gpus=8, region="r", from_us=0, until_us=1)
EXAMPLE = {int: 3, str: "x", bool: True, Record: Record(id="x", what="event", name="agi"), tuple[Block, ...]: (BLOCK,)}


def offer(
    n: int, provider: str, clause: str = "", episode: int = 1, skipped: tuple[ev.Skip, ...] = ()
) -> ev.OfferOpened:
    return ev.OfferOpened(
        n=n, provider=provider, episode=episode, round=1, contract=1, providers=1, clause=clause, terms="t",
        window=60_000_000, skipped=skipped,
    )  # fmt: skip


def intended(epoch: int, n: int, provider: str) -> ev.Intended:
    return ev.Intended(epoch=epoch, offer=n, provider=provider, region="r", accelerator="H100", contract=1, episode=1)


def no(n: int, reason: str = "capacity") -> ev.OfferAnswered:
    return ev.OfferAnswered(n=n, accepted=False, reason=reason)


def yes(n: int) -> ev.OfferAnswered:
    return ev.OfferAnswered(n=n, accepted=True, price=2_210_000, region="us-east")


STORY = (
    ev.Submitted("d", "s", "digits", 20_000, 3_000, 600_000),
    offer(1, "azure", clause="agreement/first-right"), no(1),
    offer(2, "coreweave"), yes(2), intended(1, 2, "coreweave"), ev.LaunchConfirmed(1), ev.Started(1, 0, False),
    ev.WentUnknown(1, "unreachable"), ev.Fencing(2, "beat_silent"), ev.Fenced(2),
    ev.Ended(epoch=1, how="fenced", why="beat_silent", avoid_scope="provider", avoid_until=9),
    offer(3, "azure", clause="agreement/first-right", episode=2), no(3),
    offer(4, "oracle", episode=2, skipped=(ev.Skip("coreweave", "loss", 9),)), yes(4), intended(2, 4, "oracle"),
    ev.LaunchConfirmed(2), ev.Started(2, 24_000, False, 1, 120), ev.Ended(epoch=2, how="done", exit=0, ran_ms=81_000),
)  # fmt: skip


def test_a_story_without_times_and_numbers() -> None:
    assert explain.golden(explain.timeline((0, event) for event in STORY)).splitlines() == [
        "submitted",
        "offered to azure: first right of agreement/first-right",
        "azure declined: capacity",
        "offered to coreweave: open market",
        "coreweave accepted",
        "running at coreweave",
        "coreweave unreachable → unknown",
        "beat silent: what may still run at coreweave is fenced off and can save nothing any more",
        "episode 2: offered to azure: first right of agreement/first-right",
        "azure declined: capacity",
        "coreweave passed over: avoided, it just lost this job",
        "offered to oracle: open market",
        "oracle accepted",
        "resumed at oracle from its checkpoint",
        "done at oracle",
    ]


def test_the_same_story_told_slower_has_the_same_golden_form() -> None:
    slow = [(at * 7_000_000, event) for at, event in enumerate(STORY)]
    assert explain.golden(explain.timeline(slow)) == explain.golden(explain.timeline((0, e) for e in STORY))


def test_numbers_are_in_the_detail() -> None:
    lines = explain.timeline((0, event) for event in STORY)
    assert "coreweave accepted · $2.21 per GPU-hour, us-east" in [line.text for line in lines]
    assert "step 120 of attempt 1, waited 24 s to be alone" in [line.detail for line in lines]


def test_a_fence_before_a_launch_is_about_what_ran_before() -> None:
    again = (*STORY[:8], ev.Ended(epoch=1, how="released", why="killed"), *STORY[13:16], ev.Fencing(2, "launch"))
    lines = explain.timeline((0, event) for event in (*again, ev.Fenced(2), ev.Started(2, 0, True, 1, 120)))
    fence, resumed = lines[-2:]
    assert (fence.provider, fence.detail) == ("coreweave", "attempts before 2")
    assert fence.plain.startswith("before it is launched again: what may still run at coreweave is fenced off")
    assert resumed.detail == "step 120 of attempt 1, confirmed to be alone"


def test_a_moment_of_another_day_is_told_with_its_day() -> None:
    day_us, noon = 86_400_000_000, 43_200_000_000
    assert [explain.clock(noon + n * day_us, noon) for n in (0, 1)] == ["12:00:00Z", "1970-01-02 12:00:00Z"]


def test_a_rejected_launch_says_what_was_missing() -> None:
    no = ev.Ended(epoch=1, how="rejected", why="spec", charge=0, detail="numpy==9 is not in the environment.")
    told = explain.timeline((0, event) for event in (*STORY[:6], no))
    assert told[-1].text == "coreweave rejected the launch: spec · numpy==9 is not in the environment, $0.00"


def test_a_breach_is_said_only_where_the_capacity_was_firm() -> None:
    broken = ev.Ended(epoch=1, how="gone", why="never_started", refused=True, firm="quota")
    told = [explain.timeline((0, e) for e in (*STORY[:6], end))[-1].text for end in (broken, replace(broken, firm=""))]
    assert told[0].endswith("never started · evidence of a breach: its capacity is firm (quota)")
    assert "breach" not in told[1]


def test_who_is_passed_over_for_the_same_reason_is_said_once_in_an_episode() -> None:
    gone = (ev.Skip("gcp", "region"),)
    lines = explain.timeline((0, offer(n, f"p{n}", skipped=gone)) for n in (1, 2))
    assert [line.plain for line in lines].count("gcp passed over: no lawful region") == 1


RECORDS = [
    (Record(id="r", what="consent", holder="azure", project="vision"), "azure consents to project vision elsewhere"),
    (Record(id="r", what="evidence", name="own-site", job="J"), "evidence own-site for J"),
    (Record(id="r", what="waiver", holder="azure", classes=("api",), gpus=8), "azure waives api up to 8 GPUs"),
    (Record(id="r", what="event", name="agi"), "agi has happened"),
    (Record(id="r", what="override", clause="a/b"), "a/b is overridden for every job"),
]


@pytest.mark.parametrize(("record", "said"), RECORDS, ids=lambda value: getattr(value, "what", ""))
def test_a_record_says_whose_word_it_is(record: Record, said: str) -> None:
    (line,) = explain.timeline([(0, ev.Recorded(replace(record, by="ann", until=1_770_000_000_000_000)))])
    assert (line.plain, line.detail) == (f"on record: {said}", "by ann, until 2026-02-02 02:40:00Z, r")


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (Freed(clause="a/b", how="consent"), "a/b does not hold: its holder consented"),
        (Freed(clause="a/b", how="exempt", exemption="x", because="own_build"), "a/b exempts it by x (own build)"),
    ],
)
def test_an_offer_says_which_clause_was_no_obstacle(free: Freed, said: str) -> None:
    (line,) = explain.timeline([(0, replace(offer(1, "oracle"), freed=(free,)))])
    assert line.plain == f"offered to oracle: open market; {said}"


@pytest.mark.parametrize("kind", ev.AnyEvent.__args__, ids=lambda kind: kind.__name__)
def test_every_kind_has_a_sentence(kind: type[ev.AnyEvent]) -> None:
    required = [f for f in msgspec.structs.fields(kind) if f.required]
    event = kind(**{f.name: EXAMPLE.get(f.type) for f in required})
    (line,) = explain.timeline([(0, event)], quiet=True)
    assert line.plain and "None" not in line.text


@pytest.mark.parametrize(
    ("ms", "said"),
    [(250, "250 ms"), (12_500, "12.5 s"), (60_000, "1 min"), (250_000, "4 min 10 s"), (7_500_000, "2 h 5 min")],
)
def test_durations_are_said_as_people_say_them(ms: int, said: str) -> None:
    assert explain.span(ms) == said


@pytest.mark.parametrize(
    ("micro", "said"), [(2_210_000, "$2.21"), (50_000, "$0.05"), (1_234, "$0.001234"), (647_984, "$0.65"), (0, "$0.00")]
)
def test_money_is_said_in_dollars(micro: int, said: str) -> None:
    assert explain.dollars(micro) == said


def test_owned_capacity_is_told_from_the_market_and_from_a_first_right() -> None:
    in_block = replace(offer(1, "yves"), block="yves/b", trigger="owned")
    behind = replace(offer(2, "zeus", clause="c/rofr"), block="yves/b", trigger="owned")
    plain = [line.plain for line in explain.timeline([(0, ev.CapacityInForce((BLOCK,))), (0, in_block), (0, behind)])]
    assert plain == [
        "capacity owned: 8 H100 of p/b until 1970-01-01 00:00:00Z",
        "offered to yves: owned capacity yves/b",
        "offered to zeus: owned capacity yves/b, behind the first right of c/rofr",
    ]
