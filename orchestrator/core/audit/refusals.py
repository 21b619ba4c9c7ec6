"""Who has said no to a job, by the events alone? Also to the whole that it is a part of, and by taking another part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from orchestrator.core.audit.lives import Life, Past, Seen
from orchestrator.core.windows import NEVER
from orchestrator.model import event as ev
from orchestrator.model.contract import DAY_US, NO_TOLERANCE, Contracts, Release
from orchestrator.model.placement import Gate, Rules, Terms


class No(Struct, frozen=True, kw_only=True):
    """A holder's no to one offer, spoken, by silence, or to what it left when it took a part."""

    seq: int
    at: int
    how: str
    offer: ev.OfferOpened
    reason: str | None = None
    """Of a spoken one."""
    taken: int = 0
    """Workers of the part that it took."""
    job: str
    """Whose offer it was."""

    @property
    def to_the_job(self) -> bool:
        """Not to a place in what is owned already, behind no gate: that says nothing of what its provider sells."""
        return not self.offer.block or bool(self.offer.clause)

    def refused(self, terms: Callable[[str], Terms]) -> Terms:
        """What exactly it refused."""
        offered = terms(self.offer.terms)
        return offered.left_by(self.taken) if self.taken else offered


def noes(past: Past) -> Iterator[No]:
    """Every no that the job got. A withdrawn offer is none, nor is a launch that we sent late, nor what is said to no
    more of it than a block has room for."""
    for number in reversed(range(len(past))):
        life, until = past[number]
        younger = past[number - 1][0].submitted if number else None
        for seen in life.seen:
            found = _no_of(life, seen, younger) if seen.seq < until else None
            offer = life.opened(found.n) if found is not None else None
            if found is not None and offer is not None and offer[1].most is None:
                yield No(
                    seq=seen.seq, at=seen.at, how=found.how, offer=offer[1], reason=found.reason, taken=found.taken,
                    job=life.job,
                )  # fmt: skip


class _Found(Struct, frozen=True):
    n: int
    how: str
    reason: str | None = None
    taken: int = 0


def _no_of(life: Life, seen: Seen, younger: ev.Submitted | None) -> _Found | None:
    """What an event says no to; `younger`: the job that was left when this life was split."""
    match seen.event:
        case ev.OfferAnswered(n=n, accepted=False, reason=reason):
            return _Found(n, "declined", reason)
        case ev.OfferAnswered(n=n, accepted=True, workers=int(taken)) if _left(younger) == f"{life.job}-o{n}":
            return _Found(n, "split", "capacity", taken)
        case ev.OfferLapsed(n=n, how=how):
            return _Found(n, "lapsed" if how == "silence" else how)
        case ev.Ended(epoch=epoch, how="rejected", late=False) if not sent_late(life, epoch):
            intended = life.intended(epoch)
            return _Found(intended[1].offer if intended else 0, "accept_failed")
        case ev.Ended(epoch=epoch, refused=True) if held_in_time(life, epoch):
            intended = life.intended(epoch)
            return _Found(intended[1].offer if intended else 0, "accept_failed")
    return None


def _left(younger: ev.Submitted | None) -> str:
    return younger.rest.offer if younger is not None and younger.rest is not None else ""


def held_in_time(life: Life, epoch: int) -> bool:
    """Whether the provider held this launch inside its earmark's TTL, and user code never ran."""
    intended = life.intended(epoch)
    held = next((s.at for s, e in life.of(ev.LaunchConfirmed) if e.epoch == epoch), None)
    if intended is None or held is None or any(e.epoch == epoch for _, e in life.of(ev.Started)):
        return False
    until = _earmarked(life, intended[1].offer)
    return until is not None and held <= until


def sent_late(life: Life, epoch: int) -> bool:
    """Whether the launch left for sure after its earmark's TTL, whatever its end says: it never leaves before it was
    intended and every lower epoch fenced off."""
    intended = life.intended(epoch)
    until = _earmarked(life, intended[1].offer) if intended is not None else None
    if intended is None or until is None:
        return False
    return any(at > until for at in (intended[0].at, *(s.at for s, e in life.of(ev.Fenced) if e.epoch == epoch)))


def _earmarked(life: Life, n: int) -> int | None:
    """Until when capacity is kept for an offer that was accepted; None: no acceptance can be seen."""
    yes = ((s.at, e.ttl) for s, e in life.of_offer(n, ev.OfferAnswered) if e.accepted)
    return next((NEVER if ttl is None else at + ttl for at, ttl in yes), None)


def spoken(
    said: Iterable[No], terms: Callable[[str], Terms], contracts: Contracts, rules: Rules, now: tuple[Seen, int]
) -> tuple[tuple[str, str], ...]:
    """(exclusive, release) that its holder's own no to this job had brought about: its last word, if spoken, to terms
    that are no better `now` (an event, and the job's episode)."""
    seen, episode = now
    holder = next((c for c in rules.candidates if c.provider == rules.only), None)
    last: dict[str, str | None] = {}
    for no in said:
        if no.seq >= seen.seq or holder is None or no.offer.provider != holder.provider or not no.to_the_job:
            continue
        then = no.refused(terms)
        covered = not better(holder.terms, then)
        recent = no.offer.episode == episode and seen.at - no.at <= DAY_US
        last[no.offer.clause] = no.reason if covered and recent else None
    reasons = {reason for reason in last.values() if reason is not None}
    found = {}
    for clause in contracts.exclusives if reasons else ():
        if clause.holder != rules.only:
            continue
        if "capacity" in reasons and Release.UNMET_CAPACITY in clause.releases:
            found[clause.ref] = Release.UNMET_CAPACITY.value
        elif Release.HOLDER_DECLINED in clause.releases:
            found[clause.ref] = Release.HOLDER_DECLINED.value
    return tuple(sorted(found.items()))


def better(now: Terms, then: Terms, gate: Gate | None = None, price: int | None = None) -> list[str]:
    """In which dimensions the supplier of `now` (for `price`, if it is known) is better off than the one who refused
    `then`, by more than a gate agrees to. Regions are each supplier's own: the holder's, now and then, are compared."""
    found = []
    may = gate.tolerance if gate else NO_TOLERANCE
    if then.ceiling_microusd is not None:
        ceiling = now.ceiling_microusd if price is None else price
        most = then.ceiling_microusd * (1_000_000 + may.price_up_ppm)
        found += ["price"] if ceiling is None or ceiling * 1_000_000 > most else []
    if then.start_by_ms is not None:
        most = then.start_by_ms + may.start_later_ms
        found += ["start"] if now.start_by_ms is None or now.start_by_ms > most else []
    if _size(now) + (may.smaller_gpus if then.gpus_per_worker else 0) < _size(then):
        found.append("quantity")
    if now.max_runtime_ms < then.max_runtime_ms:
        found.append("duration")
    regions = gate.terms.regions if gate else now.regions
    if now.residency != then.residency or len(_looser(now, then, regions)) > may.looser_points:
        found.append("spec")
    return found


def _size(terms: Terms) -> int:
    """The least that will do: GPUs, or workers where they have none."""
    return terms.fewest * (terms.gpus_per_worker or 1)


def _looser(now: Terms, then: Terms, regions: tuple[str, ...]) -> list[str]:
    """The points of the spec in which it asks less than `then`, or leaves more to choose from."""
    found = [key for key in ("gpus_per_worker", "cpus", "memory") if getattr(now, key) < getattr(then, key)]
    if then.accelerators and not (now.accelerators and set(now.accelerators) <= set(then.accelerators)):
        found.append("accelerators")
    if set(regions) - set(then.regions):
        found.append("regions")
    if now.spot and not then.spot:
        found.append("spot")
    return found
