"""The run log's rules as tables.

A log is written as a line: f2 = fence{2}, c1a = claim of epoch 1 by nonce a (limit 900, grace 100), s1a start, s2a!
start that waited, k1a5 checkpoint at step 5, x1 stop, l2 clear, r1a release with gone, r1a? release without, d1a done.
"""

from __future__ import annotations

import re

import pytest

from orchestrator.model.wire import Checkpoint, Claim, Clear, Done, Entry, Fence, Prune, Release, Start, Stop
from orchestrator.runlog import rules
from orchestrator.runlog.rules import EMPTY, RunLog, fold

TOKEN = re.compile(r"(?P<kind>[fcslkxrdp])(?P<epoch>\d)(?P<nonce>[a-z]?)(?P<rest>.*)")


def entry(token: str, n: int = 0) -> Entry:
    match = TOKEN.fullmatch(token)
    assert match, token
    epoch, nonce, rest, id = int(match["epoch"]), match["nonce"] or "a", match["rest"], f"{token}#{n}"
    own = {"epoch": epoch, "id": id, "nonce": nonce}
    ours = {"epoch": epoch, "id": id, "term": 1}
    why = {"": "stopped", "?": "lost_node", "K": "killed", "W": "lost_worker"}
    match match["kind"]:
        case "f":
            return Fence(**ours)
        case "l":
            return Clear(**ours)
        case "x":
            return Stop(**ours, reason="cancel", grace_ms=50)
        case "c":
            return Claim(**own, provider="p", limit_ms=None if rest == "-" else int(rest or 900), grace_ms=100)
        case "s":
            return Start(**own, waited=rest == "!")
        case "k":
            return Checkpoint(**own, step=int(rest), store="m", manifest=f"m{epoch}.{rest}", sha256="")
        case "p":
            return Prune(**own, paths=tuple(rest.split(",")))
        case "r":
            return Release(**own, why=why[rest], gone=rest in ("", "K"), ran_ms=0)
    return Done(**own, exit=0, result=None, ran_ms=0)


def log(line: str) -> RunLog:
    state = EMPTY
    for slot, token in enumerate(line.split(), 1):
        state = fold(state, slot, entry(token, slot))
    return state


@pytest.mark.parametrize(
    ("before", "token", "refusal"),
    [
        ("", "c1a", None),
        ("", "s1a", "unclaimed"),
        ("", "c2a", "unfenced"),
        ("c1a f2", "c2b", None),
        ("c1a", "s1a", None),
        ("c1a", "s1b", "duplicate"),
        ("c1a", "c1b", "duplicate"),
        ("c1a", "c1a", "repeated"),
        ("c1a s1a", "s1a", "repeated"),
        ("c1a", "k1a5", "not_started"),
        ("c1a s1a", "k1a5", None),
        ("c1a s1a k1a5", "k1a5", "not_increasing"),
        ("c1a s1a k1a5", "k1a6", None),
        ("c1a s1a k1a5 f2 c2b l2 s2b", "k2b1", None),
        ("c1a s1a f2", "k1a5", "fenced"),
        ("c1a s1a f2", "d1a", "fenced"),
        ("c1a s1a f2", "r1a", "fenced"),
        ("f3", "c2a", "fenced"),
        ("f2 c2b", "s2b", "uncleared"),
        ("f2 c2b", "s2b!", None),
        ("f2 c2b l2", "s2b", None),
        ("x1", "c1a", "stopped"),
        ("c1a x1", "s1a", "stopped"),
        ("f2 x2", "c2a", "stopped"),
        ("x1 f2", "c2a", None),
        ("c1a s1a x1", "k1a5", None),
        ("c1a s1a x1", "r1a", None),
        ("c1a s1a x1", "d1a", None),
        ("c1a s1a d1a", "k1a5", "finished"),
        ("c1a s1a r1a", "d1a", "released"),
        ("c1a s1a k1a1 k1a2 k1a3", "p1am1.1", None),
        ("c1a s1a k1a1 k1a2 k1a3", "p1am1.2", "protected"),
        ("c1a s1a k1a1 k1a2 k1a3 f2 c2b l2 s2b", "p2bm1.1", "protected"),
        ("c1a s1a k1a1 k1a2 k1a3 f2 c2b l2 s2b k2b4", "p2bm1.1", None),
    ],
)
def test_what_an_attempt_may_append(before: str, token: str, refusal: str | None) -> None:
    wanted = entry(token)
    found = rules.may_append_attempt(log(before), wanted.epoch, wanted.nonce, wanted)
    assert (found and found.reason) == refusal


def test_an_entry_of_another_epoch_or_nonce_is_the_programs_fault() -> None:
    assert rules.may_append_attempt(log("c1a"), 1, "b", entry("s1a")).reason == "foreign"


@pytest.mark.parametrize(
    ("before", "token", "refusal"),
    [
        ("", "f2", None),
        ("f2", "f2", "already"),
        ("f3", "f2", "fenced"),
        ("f2", "l2", None),
        ("", "l2", "unfenced"),
        ("f2 l2", "l2", "already"),
        ("f2 f3", "l2", "fenced"),
        ("", "x1", None),
        ("x2", "x1", "already"),
        ("x1", "x2", None),
        ("c1a s1a d1a", "f2", "finished"),
        ("c1a s1a d1a", "x1", "finished"),
    ],
)
def test_what_the_controller_may_append(before: str, token: str, refusal: str | None) -> None:
    found = rules.may_append_controller(log(before), entry(token))
    assert (found and found.reason) == refusal


@pytest.mark.parametrize(
    ("line", "who", "why"),
    [
        ("c1a s1a", "1a", None),
        ("c1a s1a", "1b", "duplicate"),
        ("c1a s1a f2", "1a", "fenced"),
        ("c1a f2 c2b", "1a", "fenced"),
        ("c1a s1a x1", "1a", "stopped"),
        ("x1 f2 c2b", "2b", None),
        ("f2 c2b x2", "2b", "stopped"),
        ("c1a s1a x1 f2", "1a", "fenced"),
        ("c1a s1a d1a", "1a", "finished"),
        ("c1a s1a r1a", "1a", "released"),
    ],
)
def test_who_must_end(line: str, who: str, why: str | None) -> None:
    found = rules.verdict_for(log(line), int(who[0]), who[1])
    assert (found and found.why) == why
    assert found is None or found.good is (why == "stopped")


@pytest.mark.parametrize(
    ("line", "epoch", "wait"),
    [
        ("f2", 2, 0),
        ("c1a f2", 2, 1000 + 5000 + 10),
        ("c1a f2 c2b9900 f3", 3, 10_000 + 5000 + 100),
        ("c1a f2 c2b9900 f3", 2, 6010),
        ("c1a- f2 c2b f3", 3, None),
    ],
)
def test_how_long_a_newcomer_waits(line: str, epoch: int, wait: int | None) -> None:
    assert rules.wait_ms(log(line), epoch) == wait


@pytest.mark.parametrize(
    ("line", "epoch", "expected"),
    [
        ("c1a s1a f2", 1, False),
        ("c1a s1a r1a", 1, True),
        ("c1a s1a r1a?", 1, False),
        ("c1a s1a d1a", 1, True),
        ("f2", 1, True),
        ("", 1, False),
        ("c1a f2 f3", 2, True),
    ],
)
def test_which_ends_the_log_proves(line: str, epoch: int, expected: bool) -> None:
    assert rules.confirmed(log(line), epoch) is expected


@pytest.mark.parametrize(
    ("line", "epoch", "left"),
    [
        ("c1a s1a f2", 2, (1,)),
        ("c1a s1a r1a f2", 2, ()),
        ("c1a s1a f2 c2b f3", 3, (2, 1)),
        ("c1a s1a f2 c2b s2b! f3", 3, (2,)),
        ("c1a s1a f2 l2 c2b s2b r2b f3", 3, ()),
        ("c1a s1a f2 c2b f3", 2, (1,)),
    ],
)
def test_what_a_clear_still_needs(line: str, epoch: int, left: tuple[int, ...]) -> None:
    assert rules.to_confirm(log(line), epoch) == left


def test_resuming_falls_back_from_the_newest_checkpoint() -> None:
    state = log("c1a s1a k1a5 k1a9 f2 c2b l2 s2b k2b10")
    assert rules.resume_point(state).step == 10
    assert [c.step for c in rules.resume_points(state)] == [10, 9, 5]
    assert rules.resume_point(EMPTY) is None


def test_a_pruned_checkpoint_is_not_resumed_from() -> None:
    state = log("c1a s1a k1a1 k1a2 k1a3 p1am1.1")
    assert [c.step for c in rules.resume_points(state)] == [3, 2]


@pytest.mark.parametrize(
    ("line", "loop"),
    [
        ("c1a s1a k1a5 r1aK f2 c2b l2 s2b r2bK", True),
        ("c1a s1a k1a5 r1aK f2 c2b l2 s2b r2bW", True),
        ("c1a s1a k1a5 r1aK f2 c2b l2 s2b k2b6 r2bK", False),
        ("c1a s1a r1aK f2 c2b l2 s2b r2bK", True),
        ("c1a s1a k1a5 r1a f2 c2b l2 s2b r2bK", False),
    ],
)
def test_dying_twice_at_the_same_checkpoint_is_a_crash_loop(line: str, loop: bool) -> None:
    assert rules.crash_loop(log(line)) is loop


def test_folding_a_slot_again_changes_nothing_and_no_slot_is_passed() -> None:
    state = log("c1a")
    assert fold(state, 1, entry("d1a")) is state
    with pytest.raises(ValueError, match="slot 3 cannot be folded before slot 2"):
        fold(state, 3, entry("s1a"))
