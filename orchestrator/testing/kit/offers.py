"""Promises about offers, answers and the feed. Each function is one promise; its docstring is the sentence."""

from __future__ import annotations

import asyncio

import msgspec

from orchestrator.model.offer import Confirmed, Reason, Receipt, Scope
from orchestrator.testing.kit.registry import promise
from orchestrator.testing.kit.subject import Session, must


@promise("Provider.capabilities")
async def capabilities_constant(s: Session) -> None:
    """What a provider promises about itself does not change while we are connected."""
    said = [await s.provider.capabilities() for _ in range(3)]
    must(said[0] == said[1] == said[2], f"asked three times it said {said}")


@promise("Provider")
async def empty_batches(s: Session) -> None:
    """A verb that is given nothing does nothing and replies with nothing."""
    replies = [await s.provider.place_offers([]), await s.provider.launch([]), await s.provider.stop([])]
    must(not any(replies) and not await s.provider.withdraw([]), f"replies to nothing: {replies}")


@promise("Provider.place_offers")
async def receipts_in_order(s: Session) -> None:
    """Offers get one reply each, in their own order."""
    offers = [s.offer() for _ in range(3)]
    await s.place(offers)
    replies = await s.provider.place_offers(offers)
    want, got = [o.offer for o in offers], [r.offer for r in replies]
    must(want == got, f"offers {want} got replies for {got}")


@promise("Provider.place_offers")
async def same_offer_id_same_offer(s: Session) -> None:
    """An offer delivered again under its id is the same offer: the same reference, answered once."""
    offer = s.offer()
    first = await s.provider.place_offers([offer])
    answer = (await s.place([offer]))[offer.offer]
    again = await s.provider.place_offers([offer, offer])
    refs = {r.ref if isinstance(r, Receipt) else r.why for r in [*first, *again]}
    must(len(refs) == 1, f"one offer has the references {sorted(refs)}")
    await asyncio.sleep(s.subject.poll_s)
    told = [a for a in (await s.provider.observe(None, 0)).answers if a.offer == offer.offer]
    told += [a for r in again if isinstance(r, Receipt) and (a := r.answer) is not None]
    must(all(a.accepted == answer.accepted for a in told), f"one offer has the answers {told}")


@promise("Provider.place_offers")
async def receipts_echo(s: Session) -> None:
    """A receipt echoes the offer's ledger head and ordinal, at every delivery: both sides hold the same evidence."""
    offer = s.offer()
    await s.place([offer])
    for reply in await s.provider.place_offers([offer, offer]):
        said = (reply.ledger_head, reply.ordinal) if isinstance(reply, Receipt) else reply.why
        sent = (offer.ledger_head, offer.ordinal)
        must(said == sent, f"an offer with {sent} got a receipt with {said}")


@promise("Provider.observe")
async def no_answer_lost(s: Session) -> None:
    """Every answer is in the reply of the first `observe` that is sent after it, whatever cursor it carries."""
    capabilities = await s.provider.capabilities()
    cursor = (await s.provider.observe(None, 0)).cursor
    offers = [s.offer() for _ in range(3)]
    await s.place(offers)
    if capabilities.answers_itself:
        return
    seen = await s.provider.observe(cursor, 0)
    missing = {o.offer for o in offers} - {a.offer for a in seen.answers}
    must(not missing, f"answered, and then not in a reply from the cursor before: {sorted(missing)}")
    rest = await s.provider.observe(seen.cursor, 0)
    again = {o.offer for o in offers} & {a.offer for a in rest.answers}
    must(not again, f"told again after the cursor that covered them: {sorted(again)}")


@promise("Answer.terms_hash")
async def acceptance_names_terms(s: Session) -> None:
    """A yes names the hash of the terms that it accepts, byte for byte the offer's."""
    offer, answer = await s.accepted()
    must(answer.terms_hash == offer.terms_hash, f"offered {offer.terms_hash}, accepted {answer.terms_hash}")


@promise("Answer.workers")
async def acceptance_in_range(s: Session) -> None:
    """A yes to an elastic or divisible offer takes a number of workers of its range (none said: all), and is launched
    with it."""
    few = s.subject.terms.workers
    for divisible in (True, False):
        offer = s.offer(msgspec.structs.replace(s.subject.terms, min_workers=few, workers=2 * few, divisible=divisible))
        answer = (await s.place([offer]))[offer.offer]
        if not answer.accepted:
            return  # it need not know ranges
        taken = 2 * few if answer.workers is None else answer.workers
        must(few <= taken <= 2 * few, f"of {few} to {2 * few} workers it took {taken}")
        if divisible:
            await s.provider.withdraw([offer.offer])
    [reply] = await s.launch([s.order(offer, answer, workers=taken)])
    must(isinstance(reply, Confirmed), f"it took {taken} workers, and an order of as many got {reply}")


@promise("Answer.reason", needs="declined")
async def declines_are_typed(s: Session) -> None:
    """A no has a reason out of the closed set, a scope, and an end that lies ahead (or none: this offer only)."""
    offer = s.offer(s.subject.declined)
    answer = (await s.place([offer]))[offer.offer]
    as_of = (await s.provider.observe(None, 0)).as_of
    must(not answer.accepted, "it accepted terms that it must decline")
    must(isinstance(answer.reason, Reason), f"the reason is {answer.reason!r}")
    must(isinstance(answer.scope, Scope), f"the scope is {answer.scope!r}")
    ahead = answer.until is None or answer.until > as_of - s.subject.patience_s * 1_000_000
    must(ahead, f"it ended at {answer.until}, before it was said")


@promise("Provider.withdraw")
async def withdrawal_repeatable(s: Session) -> None:
    """A withdrawal is acknowledged, however often, for accepted, unknown and long withdrawn offers."""
    offer, _ = await s.accepted()
    for ids in ([offer.offer], [offer.offer], [s.offer().offer]):
        acknowledged = await s.provider.withdraw(ids)
        must(list(acknowledged) == ids, f"withdrew {ids}, acknowledged {list(acknowledged)}")


@promise("Provider.withdraw", needs="all_gpus")
async def withdrawal_releases(s: Session) -> None:
    """Withdrawing an accepted offer releases what was kept for it."""
    first, _ = await s.accepted(s.subject.all_gpus)
    second = s.offer(s.subject.all_gpus)
    answer = (await s.place([second]))[second.offer]
    must(not answer.accepted, "it accepted twice what it has once")
    await s.provider.withdraw([first.offer])
    third = s.offer(s.subject.all_gpus)
    answer = (await s.place([third]))[third.offer]
    must(answer.accepted, f"after the withdrawal it still has no room: {answer.reason} {answer.detail}")


@promise("Provider.observe")
async def long_poll_bounded(s: Session) -> None:
    """`observe` without news comes back when the wait is over, and its cursor goes on from there."""
    cursor = (await s.provider.observe(None, 0)).cursor
    try:
        async with asyncio.timeout(s.subject.patience_s):
            seen = await s.provider.observe(cursor, 200_000)
    except TimeoutError:
        must(False, f"asked to wait 0.2 s, it did not come back in {s.subject.patience_s} s")
    must(seen.cursor, "a reply without a cursor")


@promise("Provider.observe")
async def poll_wakes_for_news(s: Session) -> None:
    """`observe` that waits comes back as soon as there is news, not when the wait is over."""
    if (await s.provider.capabilities()).answers_itself:
        return
    cursor = (await s.provider.observe(None, 0)).cursor
    polling = asyncio.ensure_future(s.provider.observe(cursor, round(s.subject.patience_s * 2_000_000)))
    await asyncio.sleep(s.subject.poll_s)
    await s.deliver([s.offer()])
    done, _ = await asyncio.wait({polling}, timeout=s.subject.patience_s)
    polling.cancel()
    must(done, f"{s.subject.patience_s} s after an offer it still waits")


@promise("Capabilities.answers_itself")
async def answers_in_receipts(s: Session) -> None:
    """Where `answers_itself` is promised, every receipt carries the answer."""
    if not (await s.provider.capabilities()).answers_itself:
        return
    replies = await s.deliver([s.offer(), s.offer()])
    must(all(isinstance(r, Receipt) and r.answer is not None for r in replies), f"it replied {replies}")
