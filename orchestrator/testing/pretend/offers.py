"""How does a pretended supplier answer offers? As its script says, or "capacity" where GPUs are missing.

Called by `testing.scripted` and, for earmarks, by `pretend.machines`. One id is one offer, one answer is terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.model.offer import Answer, Covers, Notice, OfferOut, Receipt
from orchestrator.model.placement import Terms, largest, parse_terms
from orchestrator.testing import scripts as say
from orchestrator.testing.pretend.stage import CONSIDERING, Stage

Word: TypeAlias = say.Accepts | say.Declines | say.Counters


@dataclass(slots=True)
class Put:
    """An offer as the supplier holds it."""

    offer: OfferOut
    ref: str
    terms: Terms
    answer: Answer | None = None
    earmark: int = 0
    withdrawn: bool = False


class Offers:
    """Every offer ever put here."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.puts: dict[str, Put] = {}

    def put(self, offer: OfferOut) -> Receipt:
        """Take an offer; the same id again is the same offer and gives the same receipt."""
        put = self.puts.get(offer.offer)
        if put is None:
            number = len(self.puts) + 1
            put = Put(offer, f"{self._stage.name}-q{number}", parse_terms(offer.terms))
            self.puts[offer.offer] = put
            self._stage.note("offer", offer.offer)
            self._speak(put, self._line(offer, number))
        answer = put.answer if self._stage.capabilities.answers_itself else None
        return put.offer.receipt(put.ref, self._stage.clock.now_us(), answer)

    def _line(self, offer: OfferOut, number: int) -> say.Say:
        part = self._stage.script.offers
        if callable(part):
            return part(offer, number)
        return part[number - 1] if number <= len(part) else say.Accepts()

    def _speak(self, put: Put, line: say.Say) -> None:
        self._stage.spoken.append(line)
        if isinstance(line, say.Silent):
            return
        if isinstance(line, say.Dithers):
            self._dither(put, line, 0.0)
        elif line.after_s > 0:
            self._stage.later(line.after_s, self._answer, put, line)
        else:
            self._answer(put, line)

    def _dither(self, put: Put, line: say.Dithers, passed: float) -> None:
        if passed >= line.for_s:
            self._speak(put, line.then)
        elif not put.withdrawn:
            self._stage.tell(Notice(CONSIDERING, put.offer.offer))
            self._stage.later(line.every_s, self._dither, put, line, passed + line.every_s)

    def _answer(self, put: Put, line: Word) -> None:
        if put.withdrawn or put.answer is not None:
            return
        if isinstance(line, say.Accepts):
            fitting = put.terms.sized(line.workers) if put.terms.elastic and line.workers else None
            fitting = fitting or largest(put.terms, lambda sized: self._stage.fits(sized.gpus))
            if fitting is None or not self._stage.fits(fitting.gpus):
                line = say.Declines(detail="no GPUs free")
            else:
                put.terms = fitting
        put.answer = self._worded(put, line)
        self._stage.note("answer", put.offer.offer, accepted=put.answer.accepted)
        if isinstance(line, say.Accepts):
            self._mark(put, line.ttl_s)
        if not (self._stage.capabilities.answers_itself and line.after_s == 0):
            self._stage.tell(put.answer)

    def _worded(self, put: Put, line: Word) -> Answer:
        stage, offer, now = self._stage, put.offer, self._stage.clock.now_us()
        if isinstance(line, say.Declines):
            return Answer(
                offer=offer.offer,
                accepted=False,
                reason=line.reason,
                scope=line.scope,
                until=stage.until(line.for_s),
                detail=line.detail,
                provider_at=now,
                covers=_covers(line, now),
            )
        accelerator = next((a for a in put.terms.accelerators if a in stage.prices), "")
        asked = stage.prices.get(accelerator) if line.price is None else line.price
        if isinstance(line, say.Counters):
            other = f"not-{offer.terms_hash}"
            return Answer(offer=offer.offer, accepted=True, terms_hash=other, price=asked, provider_at=now)
        regions = put.terms.regions or (stage.stock.region,)
        home = stage.stock.region if stage.stock.region in regions else regions[0]
        return Answer(
            offer=offer.offer,
            accepted=True,
            terms_hash=offer.terms_hash,
            price=asked,
            region=line.region or home,
            accelerator=line.accelerator or accelerator,
            workers=line.workers or put.terms.workers,
            ttl_us=None if line.ttl_s is None else round(line.ttl_s * 1_000_000),
            provider_at=now,
            spot=line.spot,
        )

    def _mark(self, put: Put, ttl_s: float | None) -> None:
        put.earmark = put.terms.gpus
        self._stage.take(put.earmark)
        if self._stage.gpus is not None and ttl_s is not None:
            self._stage.later(ttl_s, self.unmark, put.offer.offer)

    def earmarked(self, offer: str) -> int:
        """GPUs that this offer's acceptance keeps free."""
        put = self.puts.get(offer)
        return put.earmark if put is not None else 0

    def unmark(self, offer: str) -> None:
        """The earmark is over: used, withdrawn or too old."""
        put = self.puts.get(offer)
        if put is not None:
            gpus, put.earmark = put.earmark, 0
            self._stage.release(gpus)

    def use(self, offer: str) -> None:
        """The launch takes the earmark's place: no GPUs come free, nobody is told."""
        self._stage.take(-self.earmarked(offer))
        if offer in self.puts:
            self.puts[offer].earmark = 0

    def withdraw(self, offer: str) -> str:
        """Take it back and release its earmark; an unknown id is acknowledged too."""
        put = self.puts.get(offer)
        if put is not None:
            put.withdrawn = True
            self._stage.note("withdrawn", offer)
            self.unmark(offer)
        return offer


def _covers(line: say.Declines, now: int) -> Covers | None:
    if line.covers is None:
        return None
    classes, gpus, seconds = line.covers
    return Covers(classes, gpus, now + round(seconds * 1e6))
