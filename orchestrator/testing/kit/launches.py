"""Promises about launches, stops and listings. Each function is one promise; its docstring is the sentence."""

from __future__ import annotations

import asyncio
import contextlib

from orchestrator.model.offer import Confirmed, Rejected, SightingState
from orchestrator.testing.kit.registry import promise
from orchestrator.testing.kit.subject import Session, must


@promise("Provider.launch")
async def launch_replies_in_order(s: Session) -> None:
    """Launch orders get one reply each, in their own order."""
    pairs = [await s.accepted() for _ in range(2)]
    orders = [s.order(offer, answer) for offer, answer in pairs]
    replies = await s.launch(orders)
    want, got = [o.key for o in orders], [getattr(r, "key", None) for r in replies]
    must(want == got, f"orders {want} got replies for {got}")


@promise("Confirmed")
async def whole_batch_is_launched(s: Session) -> None:
    """Every launch of a batch that was confirmed exists."""
    pairs = [await s.accepted() for _ in range(2)]
    replies = await s.launch([s.order(offer, answer) for offer, answer in pairs])
    for reply in replies:
        if isinstance(reply, Confirmed):
            await s.runs(reply.key)


@promise("Capabilities.idempotency")
async def same_key_same_launch(s: Session) -> None:
    """Where `idempotency` is promised, a launch sent again under its key is the same launch: nothing is made twice."""
    if not (await s.provider.capabilities()).idempotency:
        return
    order = await s.running()
    before = await s.seen(order.key)
    replies = await s.launch([order, order])
    await s.lag()
    listed = [x for x in (await s.provider.list_ours()).sightings if x.key == order.key]
    must(len(listed) == 1, f"{len(listed)} entries under one key after {replies}")
    must(
        before is not None and set(listed[0].machines) == set(before.machines), f"machines became {listed[0].machines}"
    )


@promise("Capabilities.list_lag_us")
async def confirmed_is_listed(s: Session) -> None:
    """What was confirmed longer than the declared lag ago is in every listing until it is stopped."""
    order = await s.launched()
    await s.lag()
    for _ in range(3):
        must(await s.seen(order.key), f"{order.key} was confirmed and is not listed")


@promise("Capabilities.list_by_label")
async def listing_carries_ledger(s: Session) -> None:
    """Everything listed carries the launch key and the ledger id that came with the order."""
    order = await s.launched()
    await s.lag()
    listing = (await s.provider.list_ours()).sightings
    must(all(x.ledger and x.key for x in listing), f"without key or ledger id: {[x for x in listing if not x.ledger]}")
    ours = [x.ledger for x in listing if x.key == order.key]
    must(all(ledger == order.ledger for ledger in ours), f"ordered for {order.ledger}, listed as {ours}")


@promise("Provider.list_ours")
async def every_ledger_is_listed(s: Session) -> None:
    """What was launched for another ledger is listed too: whoever reads the listing tells them apart."""
    await s.launched()
    await s.running(ledger="another-ledger")


@promise("Provider")
async def reads_change_nothing(s: Session) -> None:
    """Reading (capabilities, feed, listings, output, check), however often, changes nothing."""
    order = await s.running()
    before, p = await s.seen(order.key), s.provider
    for _ in range(2):
        await p.capabilities(), await p.observe(None, 0), await p.list_ours(), await p.check()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(s.subject.patience_s):
                _ = [part async for part in p.logs(order.key)]
    await s.lag()
    after = await s.seen(order.key)
    same = before and after and (before.state, set(before.machines)) == (after.state, set(after.machines))
    must(same, f"it was {before}, was read, and is {after}")


@promise("Observation.sightings")
async def feed_tells_running(s: Session) -> None:
    """A launch that comes to run is told in the feed, not only in listings."""
    cursor = (await s.provider.observe(None, 0)).cursor
    order = await s.running()

    async def told() -> bool | None:
        sightings = (await s.provider.observe(cursor, 0)).sightings
        return any(x.key == order.key and x.state is SightingState.RUNNING for x in sightings) or None

    await s.wait(told, f"a sighting of {order.key} running")


@promise("Rejected", needs="rejected")
async def rejected_leaves_nothing(s: Session) -> None:
    """A rejected launch has left nothing behind, and never will."""
    assert s.subject.rejected is not None
    offer, answer = await s.accepted()
    order = s.subject.rejected(s.order(offer, answer))
    [reply] = await s.launch([order])
    must(isinstance(reply, Rejected), f"an order that must be rejected got {reply}")
    await s.lag()
    for _ in range(3):
        must(await s.seen(order.key) is None, f"{order.key} was rejected, and is alive")
        await asyncio.sleep(s.subject.poll_s)


@promise("Provider.stop")
async def stop_of_unknown_acknowledged(s: Session) -> None:
    """A stop of something that never was is acknowledged like any other."""
    order = s.order(s.offer())
    replies = await s.provider.stop([order.key])
    must([(r.key, r.acknowledged) for r in replies] == [(order.key, True)], f"it replied {replies}")


@promise("Provider.stop")
async def stop_until_gone(s: Session) -> None:
    """A stop may be repeated for ever, is acknowledged each time, and in the end no listing shows the key."""
    order = await s.running()
    for _ in range(2):
        replies = await s.provider.stop([order.key])
        must(all(r.acknowledged for r in replies), f"it replied {replies}")
    await s.stop_all()
    replies = await s.provider.stop([order.key])
    must(all(r.acknowledged for r in replies), f"when it was gone it replied {replies}")
    await s.lag()
    must(await s.seen(order.key) is None, f"{order.key} came back")


@promise("Provider.launch")
async def gone_key_stays_gone(s: Session) -> None:
    """A key whose launch has ended starts nothing any more."""
    order = await s.launched()
    await s.stop_all()
    await s.launch([order])
    await s.lag()
    seen = await s.seen(order.key)
    must(seen is None, f"{order.key} was gone, and is {seen.state.value if seen else ''} again")


@promise("Provider.stop")
async def stop_touches_its_key_only(s: Session) -> None:
    """A stop ends what is under its key and nothing else of ours."""
    kept, stopped = await s.running(), await s.running()
    await s.provider.stop([stopped.key])

    async def gone() -> bool | None:
        return await s.seen(stopped.key) is None or None

    await s.wait(gone, f"the end of {stopped.key}")
    seen = await s.seen(kept.key)
    must(seen and seen.state is SightingState.RUNNING, f"{kept.key} was not stopped, and is {seen}")


@promise("Provider.list_ours", needs="foreign")
async def foreign_untouched(s: Session) -> None:
    """What does not carry our label and a ledger id is neither listed nor touched."""
    assert s.subject.foreign is not None
    before = set(await s.subject.foreign())
    await s.running()
    await s.lag()
    listed = {x.key for x in (await s.provider.list_ours()).sightings}
    must(not before & listed, f"it lists what is not ours: {sorted(before & listed)}")
    await s.provider.stop(sorted(before))
    await s.stop_all()
    await asyncio.sleep(s.subject.poll_s * 4)
    lost = before - set(await s.subject.foreign())
    must(not lost, f"it ended what is not ours: {sorted(lost)}")


@promise("Capabilities.delete_after")
async def delete_after_kept(s: Session) -> None:
    """Where `delete_after` is promised, a launch that old is gone without a word from us."""
    if not (await s.provider.capabilities()).delete_after:
        return
    order = await s.launched(delete_after_ms=round(s.subject.poll_s * 2000))

    async def gone() -> bool | None:
        return await s.seen(order.key) is None or None

    await s.lag()
    await s.wait(gone, f"the end of {order.key}, which is too old")


@promise("Provider.aclose", needs="reconnect")
async def closing_stops_nothing(s: Session) -> None:
    """Letting go of the connection stops nothing; a new one finds what runs under its key."""
    assert s.subject.reconnect is not None
    order = await s.running()
    await s.provider.aclose()
    s.provider = s.subject.provider = await s.subject.reconnect()
    await s.lag()
    seen = await s.seen(order.key)
    must(seen and seen.state is SightingState.RUNNING, f"{order.key} ran when the connection was closed, and is {seen}")
