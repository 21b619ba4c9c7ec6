"""Does a ledger keep the port's promises? The kit for whoever writes one: each promise by name, each on a fresh ledger.

Called by tests as `await check_ledger(factory)`, where `factory()` gives the opener of a new, empty ledger: every
`await opener()` opens that same ledger again, as a restarted server would. Returns what was broken; empty is good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from msgspec import Struct

from orchestrator.core.chain import genesis, hash_body, link
from orchestrator.ports.ledger import Batch, IdempotencyKey, Ledger, LedgerError, LedgerLocked, LiveRow, NewEvent

Opener: TypeAlias = Callable[[], Awaitable[Ledger]]
Check: TypeAlias = Callable[[Opener], Awaitable[None]]
PROMISES: dict[str, Check] = {}
"""name → check; a check raises `AssertionError` with what it saw."""


class Broken(Struct, frozen=True):
    """A promise that was not kept, and what was seen instead."""

    promise: str
    seen: str


async def check_ledger(factory: Callable[[], Opener]) -> tuple[Broken, ...]:
    """Try every promise on a ledger of its own."""
    broken: list[Broken] = []
    for name, check in PROMISES.items():
        try:
            await check(factory())
        except AssertionError as seen:
            broken.append(Broken(name, str(seen)))
    return tuple(broken)


def promise(check: Check) -> Check:
    """Register a check under its function's name."""
    PROMISES[check.__name__] = check
    return check


def demand(holds: bool, seen: str) -> None:
    """The kit's assert, kept under `python -O`."""
    if not holds:
        raise AssertionError(seen)


def new_event(at: int, job: str = "J1", body: bytes = b'{"kind":"Held","reason":"policy","v":1}') -> NewEvent:
    """An event whose content does not matter."""
    return NewEvent(at=at, kind="Held", project="default", job=job, body=body)


def row(job: str, state: str = "queued", live: bool = True, project: str = "default") -> LiveRow:
    """A row whose body tells its state."""
    return LiveRow(job=job, project=project, state=state, body=f"{job} {state}".encode(), live=live)


@promise
async def keeps_what_it_committed(opener: Opener) -> None:
    """Events, rows, documents, counters, keys, presence of a batch are there for the next server."""
    ledger = await opener()
    key = IdempotencyKey("default", "k", "digest", "J1", 99)
    done = await ledger.commit(
        Batch(
            events=[new_event(1), new_event(2)], rows=[row("J1"), row("")], specs={"d": b"doc"}, counters={"c": 2},
            keys=[key], presence=7,
        )
    )  # fmt: skip
    await ledger.commit(Batch(events=[new_event(3)], counters={"c": 3}, specs={"d": b"other"}))
    await ledger.close()
    again = await opener()
    demand(done.first_seq == 1, f"the first batch began at {done.first_seq}")
    demand([e.at async for e in again.events()] == [1, 2, 3], "events were lost or out of order")
    demand(list(await again.live_rows()) == [row(""), row("J1")], "rows differ")
    demand(await again.spec("d") == b"doc", "a document changed under its digest")
    demand(await again.spec("e") is None, "an unknown digest has a document")
    demand(await again.specs(["d", "e"]) == {"d": b"doc"}, "documents read together differ")
    demand(await again.counters() == {"c": 5}, f"counters are {await again.counters()}")
    demand(await again.find_key("default", "k") == key, "the key was lost")
    demand(await again.find_key("other", "k") is None, "the key counts in another project")
    demand(await again.presence() == 7, "presence was lost")
    await again.close()


@promise
async def hangs_a_whole_chain(opener: Opener) -> None:
    """Sequence dense, body hashes salted, every link as published; the head is the last link."""
    ledger = await opener()
    for at in range(3):
        done = await ledger.commit(Batch(events=[new_event(at), new_event(at)]))
    chain, salts = genesis(ledger.ledger_id), set()
    async for e in ledger.events():
        demand(e.body is not None and hash_body(e.salt, e.body) == e.body_hash, f"body hash of {e.seq} is wrong")
        chain = link(chain, e.seq, e.at, (e.kind, e.project, e.job), e.body_hash)
        demand(chain == e.chain, f"chain breaks at {e.seq}")
        salts.add(e.salt)
    demand(len(salts) == 6, "salts repeat")
    demand(await ledger.head() == (6, chain.hex()) and done.head == chain.hex(), "the head is not the last link")
    await ledger.close()


@promise
async def serves_many_committers(opener: Opener) -> None:
    """Commits that wait together each get their own place, in the order of asking."""
    ledger = await opener()
    batches = [Batch(events=[new_event(5, f"J{n:03}")] * 2, rows=[row(f"J{n:03}")]) for n in range(50)]
    done = await asyncio.gather(*(ledger.commit(batch) for batch in batches))
    demand([d.first_seq for d in done] == list(range(1, 101, 2)), "places overlap or are out of order")
    stored = [e async for e in ledger.events()]
    for n, d in enumerate(done):
        demand(stored[d.first_seq - 1].job == f"J{n:03}", f"batch {n} does not lie where it was told")
        demand(stored[d.first_seq].chain.hex() == d.head, f"batch {n} was told a wrong head")
    demand(len(await ledger.live_rows()) == 50, "rows were lost")
    await ledger.close()


@promise
async def refuses_time_that_runs_back(opener: Opener) -> None:
    """An event older than the last is refused whole, alone, and later batches go on."""
    ledger = await opener()
    await ledger.commit(Batch(events=[new_event(10)]))
    old = ledger.commit(Batch(events=[new_event(10), new_event(9)], rows=[row("J9")], counters={"c": 1}))
    good = ledger.commit(Batch(events=[new_event(11)]))
    first, second = await asyncio.gather(old, good, return_exceptions=True)
    demand(isinstance(first, LedgerError), f"the older event gave {first!r}")
    demand(not isinstance(second, BaseException) and second.first_seq == 2, f"the next batch gave {second!r}")
    demand(await ledger.row("J9") is None and await ledger.counters() == {}, "half of the refused batch was kept")
    demand(await ledger.last_at() == 11, f"the last event is at {await ledger.last_at()}")
    await ledger.close()


@promise
async def has_one_server(opener: Opener) -> None:
    """A second opener is refused while the first holds on, and served afterwards; terms only grow."""
    ledger = await opener()
    term = await ledger.next_term()
    try:
        await (await opener()).close()
    except LedgerLocked:
        pass
    else:
        raise AssertionError("two servers hold it at once")
    await ledger.close()
    again = await opener()
    demand(again.ledger_id == ledger.ledger_id, "the ledger's id changed")
    demand(await again.next_term() > term, "a term was given twice")
    await again.close()


@promise
async def pages_rows(opener: Opener) -> None:
    """Newest first, by project and state, live or not; live rows leave out the archived."""
    ledger = await opener()
    rows = [row("J1", "succeeded", False), row("J2", "running"), row("J3", project="p"), row("J4", "running"), row("")]
    await ledger.commit(Batch(events=[new_event(1)], rows=rows))

    async def jobs(project: str | None, states: list[str] | None, limit: int, before: str | None) -> list[str]:
        return [found.job for found in await ledger.rows(project, states, limit, before)]

    demand(await jobs(None, None, 9, None) == ["J4", "J3", "J2", "J1"], "not all rows, newest first")
    demand(await jobs("default", None, 2, "J4") == ["J2", "J1"], "paging or project is wrong")
    demand(await jobs(None, ["running"], 1, None) == ["J4"], "state or limit is wrong")
    demand(await jobs(None, ["succeeded"], 9, None) == ["J1"], "an archived row is not found by state")
    demand([r.job for r in await ledger.live_rows()] == ["", "J2", "J3", "J4"], "live rows are wrong")
    demand(await ledger.row("J1") == rows[0], "an archived row is not found by id")
    await ledger.close()


@promise
async def reads_events_of_one_job(opener: Opener) -> None:
    """In order, from a sequence number on."""
    ledger = await opener()
    await ledger.commit(Batch(events=[new_event(n, f"J{n % 3}") for n in range(9)]))
    demand([e.seq async for e in ledger.events(job="J1")] == [2, 5, 8], "events of a job are wrong")
    demand([e.seq async for e in ledger.events(after=5, job="J1")] == [8], "`after` is wrong for a job")
    demand([e.seq async for e in ledger.events(after=7)] == [8, 9], "`after` is wrong")
    await ledger.close()


@promise
async def touches_without_events(opener: Opener) -> None:
    """Presence moves alone; an empty batch moves nothing."""
    ledger = await opener()
    demand(await ledger.presence() is None, "present before the first time")
    await ledger.touch(5)
    done = await ledger.commit(Batch(events=[]))
    demand(await ledger.presence() == 5, "presence did not move")
    demand((done.first_seq, await ledger.head()) == (1, (0, done.head)), "an empty batch moved the head")
    await ledger.close()
