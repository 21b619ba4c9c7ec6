"""What happened to one job, as an export tells it, and to those that it was left of? Made by `history`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import Struct

from orchestrator.model import event as ev
from orchestrator.model.contract import Trigger
from orchestrator.model.placement import Shape

E = TypeVar("E", bound=ev.Event)
OFFER_ENDS = (ev.OfferAnswered, ev.OfferLapsed, ev.OfferWithdrawn)


class Seen(Struct, frozen=True):
    """One event of the ledger."""

    seq: int
    at: int
    event: ev.AnyEvent


@dataclass(slots=True)
class Life:
    """Everything that happened to one job, in order."""

    job: str
    project: str
    seen: list[Seen] = field(default_factory=list)
    readable: bool = True
    """False where a body is redacted or unreadable: the job cannot be folded."""
    _kinds: dict[type, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    _offers: dict[int, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    _epochs: dict[int, list[Seen]] = field(default_factory=lambda: defaultdict(list))

    def add(self, seen: Seen) -> None:
        """One more event, the latest."""
        self.seen.append(seen)
        self._kinds[type(seen.event)].append(seen)
        n, epoch = getattr(seen.event, "n", None), getattr(seen.event, "epoch", None)
        if n is not None:
            self._offers[n].append(seen)
        if epoch is not None:
            self._epochs[epoch].append(seen)

    def of(self, kind: type[E]) -> Iterator[tuple[Seen, E]]:
        """Its events of one kind."""
        return ((s, s.event) for s in self._kinds.get(kind, ()) if isinstance(s.event, kind))

    def of_offer(self, n: int, kind: type[E]) -> Iterator[tuple[Seen, E]]:
        """Events of one kind that name its n-th offer."""
        return ((s, s.event) for s in self._offers.get(n, ()) if isinstance(s.event, kind))

    @property
    def submitted(self) -> ev.Submitted | None:
        """How it came in."""
        return next((e for _, e in self.of(ev.Submitted)), None)

    def opened(self, n: int) -> tuple[Seen, ev.OfferOpened] | None:
        """The n-th offer's opening."""
        return next(self.of_offer(n, ev.OfferOpened), None)

    def in_part(self, n: int) -> bool:
        """Whether the n-th offer was for no more than a block of owned capacity had room for."""
        opened = self.opened(n)
        return opened is not None and opened[1].most is not None

    def intended(self, epoch: int) -> tuple[Seen, ev.Intended] | None:
        """The attempt's intention."""
        found = ((s, s.event) for s in self._epochs.get(epoch, ()) if isinstance(s.event, ev.Intended))
        return next(found, None)

    def ends_of(self, n: int) -> list[Seen]:
        """What closed the n-th offer, in order."""
        return [s for s in self._offers.get(n, ()) if isinstance(s.event, OFFER_ENDS)]

    def with_its_size(self, shape: Shape, seq: int) -> Shape:
        """The shape that it was submitted with, of the size that it had when an offer was opened: by the last wish, or
        as it was split.

        What was wished while an attempt was under way is so since its end, and no offer was made before that.
        """
        wish = next((e for s, e in reversed(list(self.of(ev.Scaled))) if s.seq < seq), None)
        if wish is not None:
            return shape.ranged(wish.workers, wish.least)
        split = self.split_before(seq)
        return shape.sized(split.workers if split else None)

    def under_way(self, seq: int) -> ev.Intended | None:
        """The attempt that was not over just before an event."""
        last = next((e for s, e in reversed(list(self.of(ev.Intended))) if s.seq < seq), None)
        over = last is not None and any(s.seq < seq and e.epoch == last.epoch for s, e in self.of(ev.Ended))
        return None if over else last

    def trigger_of(self, opened: ev.OfferOpened, seq: int) -> Trigger | None:
        """Why it is placed again in an episode after its first: None in that; it lost what ran last, or somebody has
        wished since that was placed that it be larger."""
        if opened.episode == 1:
            return None
        ran = [e.epoch for s, e in self.of(ev.Started) if s.seq < seq]
        placed = self.intended(ran[-1]) if ran else None
        since, workers = (placed[0].seq, placed[1].workers) if placed is not None else (seq, None)
        wishes = [e for s, e in self.of(ev.Scaled) if since < s.seq < seq]
        if not wishes:
            return Trigger.REPLACE
        had = wishes[0].was if workers is None else workers
        return Trigger.SCALE_UP if wishes[-1].workers > had else Trigger.REPLACE

    def split_before(self, seq: int) -> ev.Split | None:
        """How it was split before an event; None: it was whole."""
        return next((e for s, e in self.of(ev.Split) if s.seq < seq), None)


Past = list[tuple[Life, int]]
"""Lives that a job has been a part of, its own first, each with the event before which it belongs to the job's past."""
NEVER = 1 << 63


def past_of(life: Life, lives: Mapping[str, Life]) -> Past:
    """A job's own life, and of a job that was left of another also that one's, until it was split."""
    found = [(life, NEVER)]
    while (came := next(found[-1][0].of(ev.Submitted), None)) is not None and came[1].rest is not None:
        other = lives.get(came[1].rest.job)
        if other is None or came[0].seq >= found[-1][1]:
            break  # sentence 42 says so
        found.append((other, came[0].seq))
    return found
