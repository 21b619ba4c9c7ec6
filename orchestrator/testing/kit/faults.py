"""Promises about calls that go wrong, and about money. Each function is one promise; its docstring is the sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from orchestrator.model.offer import Charge, LaunchOrder, OfferOut, OutcomeUnknown, Undelivered
from orchestrator.ports.provider import Misconfigured, Provider, Throttled, Unreachable
from orchestrator.testing.kit.registry import promise
from orchestrator.testing.kit.subject import Broken, Session, must


async def _cancelled(call: Awaitable[object], after_s: float) -> None:
    """Let the call live so long, then cancel it: a crash of ours in the middle."""
    task = asyncio.ensure_future(call)
    await asyncio.wait({task}, timeout=after_s)
    task.cancel()
    await asyncio.wait({task})


@promise("Provider.place_offers")
async def cancelled_offers_repeatable(s: Session) -> None:
    """A delivery cut off in the middle is made good by delivering again: one offer, one answer."""
    for after_s in (0.0, 0.001, 0.02):
        offer = s.offer()
        await _cancelled(s.provider.place_offers([offer]), after_s)
        must(offer.offer in await s.place([offer]), f"no answer to {offer.offer}")


@promise("Provider.launch")
async def cancelled_launch_repeatable(s: Session) -> None:
    """A launch cut off in the middle is made good by launching again (after a listing where keys are forgotten)."""
    idempotent = (await s.provider.capabilities()).idempotency
    for after_s in (0.0, 0.03):
        offer, answer = await s.accepted()
        order = s.order(offer, answer)
        await _cancelled(s.launch([order]), after_s)
        if not idempotent:
            await s.lag()
        if idempotent or await s.seen(order.key) is None:
            await s.launch([order])
        await s.runs(order.key)
        await s.lag()
        listed = [x for x in (await s.provider.list_ours()).sightings if x.key == order.key]
        must(len(listed) == 1, f"cut off after {after_s} s and repeated, {order.key} is listed {len(listed)} times")
        must(len(set(listed[0].machines)) <= order.workers, f"{order.workers} workers, machines {listed[0].machines}")
        await s.clean()


@promise("Provider")
async def cancelled_poll_loses_nothing(s: Session) -> None:
    """A long poll cut off in the middle ends at once, and the next from its cursor has what came meanwhile."""
    answers_itself = (await s.provider.capabilities()).answers_itself
    for after_s in (0.0, 0.05):
        cursor = (await s.provider.observe(None, 0)).cursor
        polling = asyncio.ensure_future(s.provider.observe(cursor, round(s.subject.patience_s * 2_000_000)))
        await asyncio.sleep(after_s)
        polling.cancel()
        done, _ = await asyncio.wait({polling}, timeout=s.subject.patience_s / 2)
        must(done, f"cut off, it was still waiting {s.subject.patience_s / 2} s later")
        if not answers_itself:
            await _told(s, cursor)


async def _told(s: Session, cursor: str) -> None:
    """An offer that is delivered now is answered in the feed from this cursor."""
    offer = s.offer()
    await s.deliver([offer])

    async def answered() -> bool | None:
        return any(a.offer == offer.offer for a in (await s.provider.observe(cursor, 0)).answers) or None

    await s.wait(answered, f"the answer to {offer.offer}")


async def _unreachable(call: Callable[[], Awaitable[Sequence[object]]], unknown: type, verb: str) -> None:
    """Passes for Unreachable, or where every single reply says that nothing is known."""
    try:
        replies = await call()
    except Unreachable:
        return
    must(
        replies and all(isinstance(r, unknown) for r in replies), f"{verb} of an unreachable provider replied {replies}"
    )


@promise("Unreachable", needs="away")
async def unreachable_is_not_a_no(s: Session) -> None:
    """Out of reach, it says so: never a rejection, a decline, an acknowledgement or an empty listing."""
    assert s.subject.away is not None
    offer, answer = await s.accepted()
    order, p = s.order(offer, answer), s.provider
    await s.subject.away(True)
    try:
        await _unreachable(lambda: s.launch([order]), OutcomeUnknown, "launch")
        await _unreachable(lambda: p.place_offers([s.offer()]), Undelivered, "place_offers")
        for verb, call in _reads(p, order, offer):
            try:
                reply = await call()
            except Unreachable:
                continue
            raise Broken(f"{verb} of an unreachable provider replied {reply}")
    finally:
        await s.subject.away(False)


def _reads(p: Provider, order: LaunchOrder, offer: OfferOut) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    return [
        ("list_ours", p.list_ours),
        ("observe", lambda: p.observe(None, 0)),
        ("stop", lambda: p.stop([order.key])),
        ("withdraw", lambda: p.withdraw([offer.offer])),
    ]


@promise("Unreachable", needs="away")
async def back_in_reach_goes_on(s: Session) -> None:
    """Back in reach, what ran still runs, and a launch of unknown outcome is settled by launching again."""
    assert s.subject.away is not None
    kept, pair = await s.running(), await s.accepted()
    order = s.order(*pair)
    await s.subject.away(True)
    try:
        await s.launch([order])
    except Unreachable:
        pass
    finally:
        await s.subject.away(False)
    await s.run([order])
    await s.lag()
    keys = [x.key for x in (await s.provider.list_ours()).sightings]
    must(keys.count(order.key) == 1 and keys.count(kept.key) == 1, f"of {kept.key} and {order.key} it lists {keys}")


@promise("Misconfigured", needs="lock_out")
async def locked_out_is_the_operators(s: Session) -> None:
    """With credentials that are turned down, every verb says that the operator must act, and `check` says what."""
    assert s.subject.lock_out is not None
    offer, answer = await s.accepted()
    order, p = s.order(offer, answer), s.provider
    await s.subject.lock_out(True)
    try:
        launching: tuple[str, Callable[[], Awaitable[object]]] = ("launch", lambda: s.launch([order]))
        for verb, call in (launching, *_reads(p, order, offer)):
            try:
                reply = await call()
            except Misconfigured:
                continue
            raise Broken(f"{verb} with credentials that are turned down replied {reply}")
        must(await p.check(), "its credentials are turned down, and `check` finds nothing missing")
    finally:
        await s.subject.lock_out(False)
    await s.lag()
    must(await s.seen(order.key) is None, f"{order.key} was turned down, and is alive")


@promise("Throttled", needs="throttle")
async def throttling_is_typed(s: Session) -> None:
    """Turned away, it says when to come back (`Throttled`), or waits and does it; nothing is half done."""
    assert s.subject.throttle is not None
    offer, answer = await s.accepted()
    order = s.order(offer, answer)
    await s.subject.throttle()
    try:
        await s.launch([order])
    except Throttled as turned:
        must(turned.retry_after_us > 0, f"come back after {turned.retry_after_us} us")
        must(await s.seen(order.key) is None, f"{order.key} was turned away, and is alive")
        await asyncio.sleep(turned.retry_after_us / 1_000_000)
        await s.launch([order])
    await s.runs(order.key)


@promise("Charge", needs="end")
async def bills_only_grow(s: Session) -> None:
    """What is billed under one charge id never shrinks, is one key's, and is the last word once it is final."""
    last: dict[str, Charge] = {}
    for charge in (await _bills(s))[1]:
        before = last.get(charge.id)
        if before is not None:
            must(before.key == charge.key, f"{charge.id} is for {before.key} and for {charge.key}")
            must(charge.microdollars >= before.microdollars, f"{charge.id} shrank: {before} to {charge}")
            must(not before.final or before == charge, f"{charge.id} was final and changed: {before} to {charge}")
        last[charge.id] = charge


@promise("Answer.price", needs="end")
async def bill_keeps_the_price(s: Session) -> None:
    """What is billed is at most the accepted price times the GPU-seconds that the bill itself states."""
    price, charges = await _bills(s)
    for charge in charges:
        most = (price or 0) * charge.gpu_seconds / 3600 + 1
        must(charge.microdollars <= most, f"accepted {price}, {charge.gpu_seconds} GPU-seconds, billed {charge}")


async def _bills(s: Session) -> tuple[int | None, list[Charge]]:
    """The accepted price, and every charge for one launch that ran and ended; free providers send none."""
    assert s.subject.end is not None
    offer, answer = await s.accepted()
    order = s.order(offer, answer)
    await s.run([order])
    await asyncio.sleep(s.subject.poll_s * 4)
    await s.subject.end(order.key)
    await asyncio.sleep(s.subject.poll_s * 4)
    await s.stop_all()
    await asyncio.sleep(s.subject.poll_s * 4)
    return answer.price, [c for c in (await s.provider.observe(None, 0)).charges if c.key == order.key]


@promise("Provider.logs")
async def logs_of_unknown_are_empty(s: Session) -> None:
    """The output of something that never was is empty, or refused with a word of ours; reading changes nothing."""
    key = s.order(s.offer()).key
    lines = [line async for line in s.provider.logs(key)]
    must(not lines, f"output of a launch that never was: {lines[:3]}")


@promise("Provider.check")
async def check_says_remedies(s: Session) -> None:
    """`check` of a provider that works finds nothing missing."""
    missing = await s.provider.check()
    must(not missing, f"it works, and says it lacks {list(missing)}")
