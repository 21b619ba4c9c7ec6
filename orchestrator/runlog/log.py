"""How is a run log read to its end, and how does one append to it?

Called by the agent, the training helper and the engine, with any Store. Whether an entry is lawful is for
`rules`; whether to ask again later is for the caller. It never sleeps, and never takes a store's "exists"
or silence for an answer: after each of them the loop reads the slot back (own id = success, another's =
folded, empty = the same slot again).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.model.wire import AttemptEntry, Beat, ControllerEntry, Done, Entry, Release, WireError, decode, encode
from orchestrator.runlog import paths
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.results import Stored, StoreUnavailable, Unknown
from orchestrator.runlog.rules import (
    EMPTY,
    Refusal,
    RunLog,
    fold,
    may_append_attempt,
    may_append_controller,
    overruled,
    verdict_for,
)
from orchestrator.runlog.store import Store

TRIES = 4  # puts into one slot that stays empty, before the store counts as unavailable
RACES = 10_000  # slots lost to others in one append: more is no race but a fault

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class JobLog:
    """One job's run log at its store."""

    store: Store
    project: str
    job: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A log read to its first empty slot, and when (by the clock given) that request was sent."""

    state: RunLog
    asked_ms: int

    def good_ms(self, epoch: int, nonce: str) -> int | None:
        """The time of this read if it is a good read for that attempt, else None: user code must end."""
        verdict = verdict_for(self.state, epoch, nonce)
        return self.asked_ms if verdict is None or verdict.good else None


@dataclass(frozen=True, slots=True)
class Appended:
    """The entry is in the log. `good_ms`: the time of the newest good read that this append amounts to."""

    state: RunLog
    good_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The entry may not be appended, and was not."""

    state: RunLog
    refusal: Refusal


def read(log: JobLog, state: RunLog = EMPTY, clock: Clock = boottime_ms) -> Reading:
    """Read on from `state` to the first empty slot.

    Raises StoreUnavailable where the store does not answer, or no longer holds what was read before
    (another bucket, an unmounted disk); WireError where an entry cannot be understood: who cannot read the
    log may not go on as if it ended.
    """
    for slot in range(state.position, paths.SLOTS + 1):
        asked_ms = clock()
        data = log.store.get(paths.log_slot(log.project, log.job, slot))
        if data is None:
            _still_there(log, slot - 1)
            return Reading(state, asked_ms)
        state = fold(state, slot, _decode(log, slot, data))
    raise StoreUnavailable(f"the run log of {log.job} is full")


def _still_there(log: JobLog, slot: int) -> None:
    """An empty slot means the end only while the slot before it is there."""
    if slot and log.store.get(paths.log_slot(log.project, log.job, slot)) is None:
        raise StoreUnavailable(f"slot {slot} of the run log of {log.job} has vanished from its store")


def _decode(log: JobLog, slot: int, data: bytes) -> Entry:
    try:
        return decode(data)
    except WireError as error:
        raise type(error)(f"slot {slot} of the run log of {log.job}: {error}") from error


def append_attempt(
    log: JobLog, state: RunLog, epoch: int, entry: AttemptEntry, clock: Clock = boottime_ms
) -> Appended | Refused:
    """Append an entry of attempt `epoch`, whose nonce it carries; after an error, again with the same entry.

    Refused also where the entry stands, found when it was read back, and something behind it has overruled the attempt.
    Raises like `read`; then the entry may or may not be in the log, or appear later.
    """
    result = _append(log, state, entry, lambda seen: may_append_attempt(seen, epoch, entry.nonce, entry), clock)
    if isinstance(result, Appended) and not isinstance(entry, Done | Release):
        against = overruled(result.state, epoch, entry.nonce)  # put behind it before we could read it back
        if against is not None:
            return Refused(result.state, against)
    return result


def append_controller(
    log: JobLog, state: RunLog, entry: ControllerEntry, clock: Clock = boottime_ms
) -> Appended | Refused:
    """Append an entry of the controller.

    Refused with ALREADY: the same is there, nothing to do. Raises like `read`.
    """
    return _append(log, state, entry, lambda seen: may_append_controller(seen, entry), clock)


def _append(
    log: JobLog, state: RunLog, entry: Entry, may: Callable[[RunLog], Refusal | None], clock: Clock
) -> Appended | Refused:
    data, tries, last, why = encode(entry), 0, 0, ""
    for _ in range(RACES):
        reading = read(log, state, clock)
        state = reading.state
        if state.has(entry.id):
            return Appended(state, reading.asked_ms)
        refusal = may(state)
        if refusal is not None:
            return Refused(state, refusal)
        tries = tries + 1 if state.position == last else 1
        if tries > TRIES:
            break
        last, sent_ms = state.position, clock()
        put = log.store.create(paths.log_slot(log.project, log.job, last), data)
        if isinstance(put, Stored):
            return Appended(fold(state, last, entry), sent_ms)
        why = f": {put.why}" if isinstance(put, Unknown) else ", and the store says that it is there"
    where = f"slot {last} of the run log of {log.job}"
    raise StoreUnavailable(f"{where} stays empty although it was put {tries - 1} times{why}")


def write_beat(log: JobLog, beat: Beat) -> None:
    """Overwrite the attempt's beat. Raises StoreUnavailable."""
    log.store.put(paths.beat(log.project, log.job, beat.epoch), beat.to_json())


def read_beat(log: JobLog, epoch: int) -> Beat | None:
    """The attempt's newest beat, or None. Raises StoreUnavailable or WireError."""
    data = log.store.get(paths.beat(log.project, log.job, epoch))
    return None if data is None else Beat.from_json(data)
