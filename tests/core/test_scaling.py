"""Another size, by its tables: what a range is, what the fold makes of a wish, why it may not be, how a stop reads."""

from __future__ import annotations

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from orchestrator.core.book import trigger_of
from orchestrator.core.effects import Act, effects_of, stop_of
from orchestrator.core.lifecycle import fold_job
from orchestrator.core.moves import JOB_MOVES, IllegalMove
from orchestrator.core.scaling import to_be, why_not
from orchestrator.model import event as ev
from orchestrator.model.contract import Trigger
from orchestrator.model.job import TERMINAL, AttemptRow, AttemptState, JobRow, JobState, SizeRow
from orchestrator.testing.builders import a_shape, job_id

QUEUED = JobRow(
    job=job_id(), project="default", name="", spec="", shape="two", limit_ms=1000, grace_ms=10, max_runtime_ms=1000,
    submitted_at=0, episode_at=0,
)  # fmt: skip
ATTEMPT = AttemptRow(epoch=1, offer=1, provider="azure", region="eu-1", intended_at=0, state=AttemptState.RUNNING,
                     started_at=1)  # fmt: skip
RUNNING = replace(QUEUED, state=JobState.RUNNING, attempts=(ATTEMPT,), started=1)
STOPPED = ev.Ended(epoch=1, how="released", why="scaled")


def folded(row: JobRow, *events: ev.AnyEvent) -> JobRow:
    for event in events:
        row = fold_job(row, row.job, row.project, 9, event)
    return row


def wish(workers: int, epoch: int = 0, least: int = 0, was: int = 2) -> ev.Scaled:
    return ev.Scaled(shape=f"of {workers}", workers=workers, least=least, was=was, epoch=epoch)


@pytest.mark.parametrize(("most", "least", "then"), [(4, 0, UNSET), (4, 4, UNSET), (4, 2, 2), (4, 1, 1)])
def test_a_range_whose_ends_are_one_is_one_size(most: int, least: int, then: object) -> None:
    for before in (a_shape(), a_shape(workers=8, min_workers=3)):
        made = before.ranged(most, least)
        assert (made.workers, made.min_workers, replace(made, workers=2, min_workers=UNSET)) == (most, then, a_shape())


@pytest.mark.parametrize("state", JobState)
def test_whatever_is_not_over_may_have_another_size_once_nothing_is_open(state: JobState) -> None:
    may = state not in TERMINAL and state not in (JobState.STOPPING, JobState.OFFERING)
    assert ("Scaled" in JOB_MOVES[state]) is may
    assert bool(why_not(replace(QUEUED, state=state), a_shape())) is not (may or state is JobState.OFFERING)


def test_what_waits_is_it_at_once_and_is_asked_about_anew() -> None:
    after = folded(replace(QUEUED, asked=("azure",), wait_until=99, round=3), wish(4, least=2))
    assert (after.shape, after.size, after.next) == ("of 4", SizeRow("of 4", 4, 2), None)
    assert (after.asked, after.wait_until, after.round, after.episode) == ((), None, 3, 1)
    assert trigger_of(after, a_shape()) is Trigger.NEW


@pytest.mark.parametrize(
    ("had", "wanted", "trigger"),
    [(None, 3, Trigger.SCALE_UP), (None, 1, Trigger.REPLACE), (1, 2, Trigger.SCALE_UP), (4, 3, Trigger.REPLACE)],
)  # fmt: skip
def test_what_runs_is_it_when_it_has_ended(had: int | None, wanted: int, trigger: Trigger) -> None:
    """`had`: of an elastic job, what was accepted; else the two that its shape has."""
    row = folded(replace(RUNNING, attempts=(replace(ATTEMPT, workers=had),)), wish(wanted, 1))
    assert (row.shape, to_be(row), row.attempts[0].workers) == ("two", f"of {wanted}", had or 2)
    assert (stop_of(row, 1, 5), [e.act for e in effects_of(row)]) == (("scale", 10), [Act.STOP])
    row = folded(row, STOPPED)
    assert (row.state, row.shape, row.next, row.episode) == (JobState.RECOVERING, f"of {wanted}", None, 2)
    assert trigger_of(row, a_shape()) is trigger


def test_the_last_wish_before_the_end_is_the_one() -> None:
    row = folded(RUNNING, wish(8, 1), wish(1, 1), STOPPED)
    assert (row.size, row.grown) == (SizeRow("of 1", 1), False)


@pytest.mark.parametrize(
    ("had", "most", "least", "trigger"),
    [(None, 2, 0, Trigger.REPLACE), (None, 4, 2, Trigger.SCALE_UP), (3, 4, 1, Trigger.SCALE_UP),
     (3, 3, 1, Trigger.REPLACE)],
)  # fmt: skip
def test_what_runs_as_it_may_runs_on_and_the_range_counts_when_it_is_placed_again(
    had: int | None, most: int, least: int, trigger: Trigger
) -> None:
    row = folded(replace(RUNNING, attempts=(replace(ATTEMPT, workers=had),)), wish(most, 0, least))
    assert (effects_of(row), row.shape, to_be(row)) == ((), "two", f"of {most}")
    gap(folded(row, ev.Ended(epoch=1, how="gone", why="machines_gone")), trigger)


def test_a_wish_that_is_taken_back_stops_nothing_any_more() -> None:
    row = folded(RUNNING, wish(8, 1), wish(2))
    assert (effects_of(row), stop_of(row, 1, 5)[0]) == ((), "unreachable")


@pytest.mark.parametrize(
    ("wished", "trigger"), [((8, 3), Trigger.SCALE_UP), ((2, 5), Trigger.REPLACE), ((1, 5), Trigger.REPLACE)]
)
@pytest.mark.parametrize("launching", [False, True])
def test_with_every_wish_it_is_a_growth_or_none_by_what_ran_last(
    wished: tuple[int, int], trigger: Trigger, launching: bool
) -> None:
    """The second one came in the gap, or while the replacement was launching: that never ran."""
    last, before = wished
    row = folded(RUNNING, wish(before, 1), STOPPED)
    if not launching:
        return gap(folded(row, wish(last, was=before)), trigger)
    replacement = replace(ATTEMPT, epoch=2, state=AttemptState.CONFIRMED, started_at=None)
    row = replace(row, state=JobState.LAUNCHING, attempts=(*row.attempts, replacement), fenced=3)
    row = folded(row, wish(last, 2, was=before), ev.Ended(epoch=2, how="gone", why="scaled"))
    return gap(row, trigger)


def gap(row: JobRow, trigger: Trigger) -> None:
    assert (row.episode, row.next, trigger_of(row, a_shape())) == (2, None, trigger)


def test_a_loss_is_none_whoever_grew_before_and_a_wish_after_it_may_be() -> None:
    lost = ev.Ended(epoch=1, how="gone", why="machines_gone")
    for size, trigger in ((3, Trigger.SCALE_UP), (1, Trigger.REPLACE)):
        row = folded(RUNNING, lost)
        assert trigger_of(row, a_shape()) is Trigger.REPLACE
        gap(folded(row, wish(size)), trigger)


def test_what_had_not_started_is_in_the_same_episode() -> None:
    launched = replace(ATTEMPT, state=AttemptState.CONFIRMED, started_at=None)
    row = replace(RUNNING, state=JobState.LAUNCHING, attempts=(launched,), asked=("azure",), fenced=2)
    row = folded(row, wish(8, 1), replace(STOPPED, how="gone"))
    assert (row.state, row.shape, row.episode, row.grown, row.asked) == (JobState.QUEUED, "of 8", 1, False, ())


@pytest.mark.parametrize(
    "end", [ev.Ended(epoch=1, how="done", exit=0), ev.Ended(epoch=1, how="done", exit=1, fails="user_failure"),
            ev.CancelAsked()],
)  # fmt: skip
def test_an_end_that_is_the_job_s_own_leaves_nothing_to_become(end: ev.AnyEvent) -> None:
    row = folded(RUNNING, wish(8, 1), end)
    assert (row.next, row.size, row.shape) == (None, None, "two")


def test_another_contract_set_sees_both_sizes_otherwise() -> None:
    row = folded(RUNNING, wish(8, 1), ev.Reshaped("two, labelled", "eight, labelled"))
    assert (row.shape, row.next) == ("two, labelled", SizeRow("eight, labelled", 8))


@pytest.mark.parametrize(("row", "epoch"), [(QUEUED, 1), (RUNNING, 0), (RUNNING, 2)])
def test_a_wish_names_what_stops_for_it(row: JobRow, epoch: int) -> None:
    with pytest.raises(IllegalMove, match="another size"):
        folded(row, wish(8, epoch))


def test_why_it_may_not_be() -> None:
    owned = replace(RUNNING, attempts=(replace(ATTEMPT, block="azure/b"),))
    assert "owned capacity (azure/b)" in why_not(owned, a_shape())
    assert "divisible" in why_not(QUEUED, a_shape(pieces=2, min_workers=1))
    assert "more than any provider has" in why_not(QUEUED, a_shape(workers=90_000, gpus_per_worker=128))
