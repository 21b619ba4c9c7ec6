"""Rules about who may run a job, each broken: at the agent, at the run log, in the engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from orchestrator.core import failover, lifecycle, restoring, standing, sweep
from orchestrator.core.turn import Turn
from orchestrator.engine import orders
from orchestrator.engine.keeper import Keeper
from orchestrator.engine.lead import Lead
from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.wire import Claim, Fence, Start
from orchestrator.runlog import log, rules
from orchestrator.testing.agents import SimulatedAgent
from tests.mutants import worlds as in_
from tests.mutants.leaders import FROZEN_LEADER
from tests.mutants.swap import Swap
from tests.mutants.table import Mutant

# ---- the agent -------------------------------------------------------------------------------------------------------

_ending, _say, _turn = SimulatedAgent._ending, SimulatedAgent._say, SimulatedAgent._turn


def _never_by_itself(self: SimulatedAgent) -> Any:
    ending = _ending(self)
    if ending is None or ending.why != "limit":
        return ending
    self._good_ms = self._now()
    return None


def _does_not_look(self: SimulatedAgent) -> Any:
    self._good_ms = self._now()


async def _claims_nothing(self: SimulatedAgent, entry: Any, tries: int | None = None) -> str | None:
    return None if isinstance(entry, Claim) else await _say(self, entry, tries)


async def _at_once(self: SimulatedAgent, claimed_ms: int) -> str | None:
    start = Start(epoch=self.env.epoch, waited=True, id=self.site.token(), nonce=self.nonce)
    return await _say(self, start)


async def _at_once_and_says_so(self: SimulatedAgent, claimed_ms: int) -> str | None:
    start = Start(epoch=self.env.epoch, waited=False, id=self.site.token(), nonce=self.nonce)
    return await _say(self, start)


LIMITLESS = Swap(_ending, _never_by_itself)
BLIND = Swap(_ending, _does_not_look)
CLAIMLESS = Swap(_say, _claims_nothing)
HASTY = Swap(_turn, _at_once)
HASTY_AND_HONEST = Swap(_turn, _at_once_and_says_so)

# ---- the run log -----------------------------------------------------------------------------------------------------

Refused = rules.Refusal | None


def _without(reason: rules.RefusalReason) -> Swap:
    """Whoever appends is not refused for this."""
    told = rules.may_append_attempt

    def lenient(state: rules.RunLog, epoch: int, nonce: str, entry: Any) -> Refused:
        refusal = told(state, epoch, nonce, entry)
        return None if refusal is not None and refusal.reason is reason else refusal

    return Swap(told, lenient)


_overruled, _own_order, _may_append_controller = rules.overruled, rules._own_order, rules.may_append_controller


def _no_fence(state: rules.RunLog, epoch: int, nonce: str) -> Refused:
    against = _overruled(state, epoch, nonce)
    return None if against is not None and against.reason is rules.RefusalReason.FENCED else against


def _no_nonce(state: rules.RunLog, epoch: int, nonce: str) -> Refused:
    against = _overruled(state, epoch, nonce)
    return None if against is not None and against.reason is rules.RefusalReason.DUPLICATE else against


def _again_and_again(state: rules.RunLog, epoch: int, entry: Any) -> Refused:
    refusal = _own_order(state, epoch, entry)
    return None if refusal is not None and refusal.reason is rules.RefusalReason.REPEATED else refusal


def _done_or_not(state: rules.RunLog, entry: Any) -> Refused:
    refusal = _may_append_controller(state, entry)
    return None if refusal is not None and refusal.reason is rules.RefusalReason.FINISHED else refusal


_append_controller = log.append_controller


def _only_in_words(job_log: log.JobLog, state: rules.RunLog, entry: Any, *more: Any) -> Any:
    if isinstance(entry, Fence):
        return log.Appended(log.read(job_log, state, *more).state, 0)
    return _append_controller(job_log, state, entry, *more)


UNFENCED = Swap(_append_controller, _only_in_words)
FENCE_IGNORED = Swap(_overruled, _no_fence)
NONCE_IGNORED = Swap(_overruled, _no_nonce)
REPEATS_TAKEN = Swap(_own_order, _again_and_again)
DONE_UNREAD = Swap(_may_append_controller, _done_or_not)

# ---- the engine ------------------------------------------------------------------------------------------------------

_provider_down, _after_listing = failover.on_provider_down, sweep.after_listing
_order_for, _check, _missing = orders.order_for, Lead.check, Keeper._missing


def _dead_to_us(turn: Turn, provider: str) -> None:
    _provider_down(turn, provider)
    for job in sorted(turn.book.providers[provider].jobs):
        failover.fence(turn, turn.book.jobs[job], "unreachable")


def _absent_is_gone(ending: sweep.Ending, key: str, seen: Iterable[Any], as_of: int, list_lag_us: int) -> sweep.Ending:
    return _after_listing(ending, key, seen, as_of, 0)


def _nothing_missing(self: Keeper, row: Any, attempt: Any, state: Any) -> list[str]:
    return []


def _another_key() -> Any:
    """The second order of an attempt has the key of another."""
    sent: set[str] = set()

    def order_for(core: Any, row: Any, document: bytes) -> Any:
        order = _order_for(core, row, document)
        again, _ = order.key in sent, sent.add(order.key)
        return replace(order, key=f"{order.key}1") if again else order

    return order_for


async def _leads_for_ever(self: Lead) -> None:
    return None


def _epoch_again(row: Any) -> int:
    return max(standing.last_epoch(row), 1)


def _in_limbo(row: Any, at: int, e: Any, ran: bool) -> Any:
    return replace(_goes_on(row, at, e, ran), state=JobState.RECOVERING)


def _as_an_end(turn: Turn, row: Any, fact: Any) -> None:
    if (attempt := standing.active(row)) is not None:
        turn.emit(row.job, ev.Ended(epoch=attempt.epoch, how="gone", why="reclaimed"))


_goes_on = lifecycle._goes_on
SWEEPLESS = Swap(sweep.strays, lambda seen, ledger, owned: [])
UNCONFIRMED = Swap(_missing, _nothing_missing)
LAGLESS = Swap(_after_listing, _absent_is_gone)
UNLEASED = Swap(_check, _leads_for_ever)
LOGS_APART = Swap(restoring.is_ahead, lambda row, log: False)

RUNNING = (
    Mutant("limit: the agent goes on without good reads", (LIMITLESS,), [in_.CUT_OFF]),
    Mutant("limit and fence: it neither ends nor looks", (BLIND,), [in_.COMES_BACK, in_.CUT_OFF]),
    Mutant("fence: not put before a take-over", (UNFENCED,), [in_.DIES, in_.CUT_OFF]),
    Mutant("fence: not put, and nobody claims behind one", (UNFENCED, _without(rules.RefusalReason.UNFENCED)),
           [in_.DIES, in_.CUT_OFF]),
    Mutant("fence: ignored by whoever appends", (_without(rules.RefusalReason.FENCED),), [in_.STANDS_STILL],
           (Swap(rules.verdict_for, lambda state, epoch, nonce: None),)),
    Mutant("fence: ignored by whoever reads and appends", (FENCE_IGNORED,), [in_.STANDS_STILL]),
    Mutant("claim: skipped at the start", (CLAIMLESS,), [in_.TWICE], (_without(rules.RefusalReason.UNCLAIMED),
           REPEATS_TAKEN)),
    Mutant("claim: a duplicate's nonce is tolerated", (NONCE_IGNORED,), [in_.TWICE], (REPEATS_TAKEN,)),
    Mutant("take-over: no wait for W, no clear awaited", (HASTY,), [in_.SAID_GONE]),
    Mutant("take-over: a start that says so is taken", (HASTY_AND_HONEST, _without(rules.RefusalReason.UNCLEARED)),
           [in_.SAID_GONE]),
    Mutant("take-over: clear without a confirmed end", (UNCONFIRMED,), [in_.SAID_GONE]),
    Mutant("take-over: absent once is gone, whatever the list lag", (LAGLESS,), [in_.LATE_LISTS]),
    Mutant("failover: the log is not read for done before the fence", (DONE_UNREAD,), [in_.UNREAD]),
    Mutant("failover: unreachable is taken for dead", (Swap(_provider_down, _dead_to_us),), [in_.BLINKS]),
    Mutant("failover: a lost job is put back in its queue", (Swap(_goes_on, _in_limbo),), [in_.DIES]),
    Mutant("failover: a notice of spot machines is taken for their end", (Swap(failover.on_reclaim, _as_an_end),),
           [in_.TAKEN_BACK]),
    Mutant("sweep: stops nothing", (SWEEPLESS,), [in_.COMES_BACK]),
    Mutant("keys: a repeated launch has another key", (Swap(_order_for, _another_key()),), [in_.CALL_LOST]),
    Mutant("epochs: one is used again", (Swap(standing.next_epoch, _epoch_again),), [in_.DIES]),
    Mutant("lead: the lease is not looked at before a call", (UNLEASED,), [FROZEN_LEADER]),
    Mutant("restore: a job whose run log is ahead is not held", (LOGS_APART,), [in_.PUT_BACK]),
)  # fmt: skip
