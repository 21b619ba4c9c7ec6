"""May a block of owned capacity be prolonged, or has somebody a right to what it is prolonged by (R1, `renew`)?

Called by the rule book when another set of blocks is to take effect, and by the audit. Pure. A renewal is decided as a
job of the block's GPUs for the hours that it gains would be: of no known class, hence by the strictest reading, of no
project, without labels and residency. Nobody is asked here: the answer is a refusal, or what is on record. A block that
is new, larger or elsewhere is a purchase, which is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

from msgspec import Struct

from orchestrator.core.eligibility import weighed
from orchestrator.core.known import Known, in_records
from orchestrator.core.numbers import span, stamp
from orchestrator.core.releases import Weighed
from orchestrator.model.capacity import Block
from orchestrator.model.contract import (
    DAY_US,
    Classification,
    Contracts,
    Exclusive,
    FirstRight,
    Providers,
    Release,
    Trigger,
)
from orchestrator.model.placement import Shape
from orchestrator.model.record import Record


class Renewal(Struct, frozen=True):
    """A block that goes on at the same size, or a smaller one, from `since_us` until its new end."""

    block: Block
    since_us: int

    @property
    def more_ms(self) -> int:
        """What it gains."""
        return (self.block.until_us - self.since_us) // 1000

    def shape(self, records: Iterable[Record]) -> Shape:
        """What contracts judge, all of it one worker; `records`: what is on record, of which some may be about it: to
        this very end, for whoever lets a month go has said nothing of a year, nor of a day (R8)."""
        end = self.block.until_us
        mine = sorted(r.id for r in records if (r.block, r.block_to) == (self.block.ref, end))
        return Shape(
            job_class="", accelerators=(self.block.accelerator,), gpus_per_worker=self.block.gpus, workers=1, cpus=0,
            memory=0, max_runtime_ms=self.more_ms, project="", trigger=Trigger.RENEW, records=tuple(mine),
            unsettled=Classification.STRICTEST.value,
        )  # fmt: skip


class Bound(Struct, frozen=True):
    """A renewal over which somebody else has a right that nothing frees."""

    renewal: Renewal
    right: Weighed

    @property
    def reason(self) -> str:
        """Which clause forbids it, and whose right that is."""
        block, clause = self.renewal.block, self.right.clause
        more = f"{span(self.renewal.more_ms)} more of {block.gpus} {block.accelerator}"
        first = f"gives {clause.holder} the first right to {more}"
        says = first if isinstance(clause, FirstRight) else f"keeps {more} for {clause.holder} alone"
        return f"{clause.ref} {says}, and nothing on record frees it"

    def remedy(self, now_us: int) -> str:
        """What to ask of the holder, and how its answer is put on record: for a day, and for this alone."""
        clause, block = self.right.clause, self.renewal.block
        which = f"--block {block.ref} --to {stamp(block.until_us)}"
        about = f"{which} --clause {clause.ref} --until {stamp(now_us + DAY_US)}`"
        found = []
        if isinstance(clause, FirstRight):
            waiver = f"`orchestrator record waiver {clause.holder} --gpus {block.gpus} {about}"
            found.append(f"offer it to {clause.holder}; if it declines, {waiver}")
        elif Release.CONSENT in clause.releases:
            found.append(f"ask {clause.holder}; if it consents, `orchestrator record consent {clause.holder} {about}")
        found += [f"prove that it is exempt: `orchestrator record evidence {name} {about}" for name in self._wanted()]
        override = f"`orchestrator record override {clause.ref} {which} --approver NAME --why REASON`"
        found = found or [f"let it end; or somebody answers for the breach: {override}"]
        return f"{'; or '.join(found)}; then apply the document again"

    def _wanted(self) -> list[str]:
        """Evidence that exemptions lack, and nothing else."""
        lacking = {no.exemption for no in self.right.not_exempt if no.why == "evidence"}
        wanting = (e for e in self.right.clause.exempt if e.id in lacking and e.limit_ms is None)
        return [name for exempt in wanting for name in exempt.needed]


def renewals(before: Iterable[Block], after: Iterable[Block], now_us: int) -> Iterator[Renewal]:
    """What a set of blocks prolongs of the set before it: of the same name, in the same place, no larger. Nobody gains
    hours that are past by now."""
    known = {block.name: block for block in before}
    for block in after:
        was = known.get(block.name)
        if was is not None and _same(was, block) and block.gpus <= was.gpus:
            since = max(was.until_us, block.from_us, now_us)
            if since < block.until_us:
                yield Renewal(block, since)


def _same(was: Block, block: Block) -> bool:
    return (was.provider, was.accelerator, was.region) == (block.provider, block.accelerator, block.region)


class Facts(Struct, frozen=True):
    """What a renewal is decided by."""

    contracts: Contracts | None
    providers: Providers
    records: tuple[Record, ...]
    """Everything on record."""
    down_us: Mapping[str, int]
    """holder → how long it has been out of reach."""
    now_us: int


def bound(facts: Facts, renewal: Renewal) -> list[Bound]:
    """The rights of others that forbid it; none: it may be."""
    return [Bound(renewal, one) for one in over(facts, renewal) if one.freed is None]


def over(facts: Facts, renewal: Renewal) -> list[Weighed]:
    """The rights of others that are over it, freed or not: exclusives, then first rights by rank, up to that of the
    block's own provider."""
    if facts.contracts is None:
        return []
    own = renewal.block.provider
    found = _weighed(facts, facts.contracts, renewal)
    alone = [one for one in found if isinstance(one.clause, Exclusive) and _of_blocks(one.clause)]
    rights = [one for one in found if isinstance(one.clause, FirstRight) and one.barred is None]
    if any(one.clause.holder == own and one.freed is None for one in alone):
        rights = []  # nobody else may serve at all
    earlier = takewhile(lambda one: one.clause.holder != own or one.freed is not None, rights)
    return [one for one in (*alone, *earlier) if one.clause.holder != own]


def _weighed(facts: Facts, contracts: Contracts, renewal: Renewal) -> list[Weighed]:
    shape = renewal.shape(facts.records)
    records, _ = in_records(facts.records, shape, facts.now_us)
    known = Known(now_us=facts.now_us, records=records, down_us=facts.down_us, spent=_totals(contracts))
    return weighed(contracts, facts.providers, shape, known)


def _of_blocks(clause: Exclusive) -> bool:
    """Whether it can be about capacity as such. What is exclusive to some class of work is kept where each job of it is
    placed, in a block as anywhere; a block has no class, so it is only bound by what names `renew`."""
    return clause.select.classes is None or Trigger.RENEW in (clause.select.triggers or ())


def _totals(contracts: Contracts) -> frozenset[str]:
    """Exemptions with a total, which free no renewal: only attempts are counted in it."""
    return frozenset(f"{c.ref}/{e.id}" for c in contracts.of_holders for e in c.exempt if e.limit_ms is not None)
