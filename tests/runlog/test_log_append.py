"""Appending, with stores that lie about put-if-absent (W1)."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.model.wire import Checkpoint, Claim, Fence, Start, Stop
from orchestrator.runlog.log import Appended, JobLog, Refused, append_attempt, append_controller, read
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import EMPTY, RefusalReason
from orchestrator.testing.stores import MemoryStore

ticks = itertools.count(1)


def clock() -> int:
    return next(ticks)


def claim(epoch: int = 1, nonce: str = "a", id: str = "c1") -> Claim:
    return Claim(epoch=epoch, provider="oracle", limit_ms=900, grace_ms=100, id=id, nonce=nonce)


def start(epoch: int = 1, nonce: str = "a") -> Start:
    return Start(epoch=epoch, waited=False, id=f"s-{nonce}", nonce=nonce)


@pytest.fixture
def log() -> JobLog:
    return JobLog(MemoryStore(), "default", "J")


def slots(log: JobLog) -> list[str]:
    return log.store.list("default/J/log")


def test_an_append_is_a_good_read_at_the_time_its_put_was_sent(log: JobLog) -> None:
    before = clock()
    result = append_attempt(log, EMPTY, 1, claim(), clock)
    assert isinstance(result, Appended)
    assert before < result.good_ms < clock()
    assert slots(log) == ["default/J/log/00000001"]


@pytest.mark.fault("checkpoint store lying")
@pytest.mark.parametrize("fault", ["say_exists", "lose_answer", "lose_request"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_store_that_lies_leaves_one_entry_in_one_slot(log: JobLog, fault: str, times: int) -> None:
    setattr(log.store.faults, fault, times)
    assert isinstance(append_attempt(log, EMPTY, 1, claim(), clock), Appended)
    assert isinstance(append_attempt(log, EMPTY, 1, start(), clock), Appended)
    assert [type(e).__name__ for e in read(log).state.entries] == ["Claim", "Start"]


@pytest.mark.fault("checkpoint store lying")
def test_exists_for_an_empty_slot_never_makes_the_log_pass_it(log: JobLog) -> None:
    log.store.faults.say_exists = 99
    with pytest.raises(StoreUnavailable, match="stays empty although it was put 4 times, and"):
        append_attempt(log, EMPTY, 1, claim(), clock)
    assert slots(log) == []


def test_what_the_store_said_of_a_put_that_failed_is_told(log: JobLog) -> None:
    log.store.faults.lose_request = 99
    with pytest.raises(StoreUnavailable, match="stays empty although it was put 4 times: the request was lost"):
        append_attempt(log, EMPTY, 1, claim(), clock)


def test_repeating_after_an_error_with_the_same_entry_appends_it_once(log: JobLog) -> None:
    log.store.faults.hold = 4
    with pytest.raises(StoreUnavailable):
        append_attempt(log, EMPTY, 1, claim(), clock)
    log.store.release_held()
    assert isinstance(append_attempt(log, EMPTY, 1, claim(), clock), Appended)
    assert len(slots(log)) == 1


def test_an_entry_held_back_in_the_network_meets_the_fence(log: JobLog) -> None:
    state = append_attempt(log, EMPTY, 1, claim(), clock).state
    state = append_attempt(log, state, 1, start(), clock).state
    late = Checkpoint(epoch=1, step=9, store="s", manifest="m", sha256="x", id="k", nonce="a")
    log.store.faults.hold = 4
    with pytest.raises(StoreUnavailable):
        append_attempt(log, state, 1, late, clock)
    append_controller(log, EMPTY, Fence(epoch=2, id="f", term=1), clock)
    assert [type(put).__name__ for put in log.store.release_held()] == ["Exists"] * 4
    refused = append_attempt(log, state, 1, late, clock)
    assert isinstance(refused, Refused) and refused.refusal.reason is RefusalReason.FENCED
    assert read(log).state.checkpoints == ()


def test_a_lost_race_is_folded_and_tried_at_the_next_slot(log: JobLog) -> None:
    state = append_attempt(log, EMPTY, 1, claim(), clock).state
    append_controller(log, EMPTY, Stop(epoch=1, reason="cancel", grace_ms=5, id="x", term=1), clock)
    refused = append_attempt(log, state, 1, start(), clock)
    assert isinstance(refused, Refused) and refused.refusal.reason is RefusalReason.STOPPED


def test_the_controller_writes_the_same_thing_once(log: JobLog) -> None:
    assert isinstance(append_controller(log, EMPTY, Fence(epoch=2, id="f1", term=1)), Appended)
    again = append_controller(log, EMPTY, Fence(epoch=2, id="f2", term=1))
    assert isinstance(again, Refused) and again.refusal.reason is RefusalReason.ALREADY


def test_a_log_whose_last_entry_vanished_is_unreadable_not_short(log: JobLog) -> None:
    state = append_attempt(log, EMPTY, 1, claim(), clock).state
    log.store.objects.clear()
    with pytest.raises(StoreUnavailable, match="vanished"):
        read(log, state)


def test_a_store_that_is_down_is_no_answer(log: JobLog) -> None:
    log.store.faults.down = True
    with pytest.raises(StoreUnavailable):
        read(log)


def test_an_entry_found_in_the_log_with_a_fence_behind_it_lets_nobody_run(log: JobLog) -> None:
    """Its answer was lost, it was read back only after the fence: no good read, and no start of user code."""
    append_attempt(log, EMPTY, 1, claim(), clock)
    append_attempt(log, EMPTY, 1, start(), clock)  # stored, and the agent never learned it
    append_controller(log, EMPTY, Fence(epoch=2, id="f", term=1), clock)
    again = append_attempt(log, EMPTY, 1, start(), clock)
    assert isinstance(again, Refused) and again.refusal.reason is RefusalReason.FENCED
