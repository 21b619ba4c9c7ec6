"""What do contracts, law, records and prices say about a shape's jobs now? The answers, made once for many jobs.

Held by the book, which tells it what happens; read by the placement pass. An answer is good until something begins or
ends by itself (a term, a record, an outage long enough) or is told (a record, an amendment): then the shape is looked
at anew. A set without exemptions, exclusives and records costs one dictionary look-up a placement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.core.capacity import agreed, narrowed, next_begin, placed_in
from orchestrator.core.eligibility import compile_rules
from orchestrator.core.known import Known, in_records
from orchestrator.core.ranking import covers, rank, yielded
from orchestrator.core.ranking import open_gates as still_open
from orchestrator.core.renewing import Bound, Facts, bound, renewals
from orchestrator.core.shapebook import Moments, Ruled, ShapeBook, Variant
from orchestrator.core.totals import Limit, Totals, limiting, limits_of
from orchestrator.core.windows import present_between
from orchestrator.model.capacity import Block
from orchestrator.model.contract import Contracts, Providers
from orchestrator.model.job import JobRow, LedgerRow, RefusalRow
from orchestrator.model.placement import Gate, How, Placement, Refused, Rules, Shape, Terms

PLAIN: Variant = (frozenset(), ())
"""What holds for a job with no past and no total in its way."""


@dataclass(slots=True)
class RuleBook:
    """Contracts and providers in force, prices, totals. Mutable, owned by one book."""

    contracts: Contracts | None
    providers: Providers
    terms: dict[str, Terms] = field(default_factory=dict)
    quotes: dict[str, dict[tuple[str, str], int]] = field(default_factory=dict)
    prices_version: int = 0
    expiring: Moments = field(default_factory=Moments)
    """When some shape's answer stops being good by itself."""
    totals: Totals = field(default_factory=Totals)
    limits: dict[str, Limit] = field(default_factory=dict)
    """Also those of earlier versions: open offers keep theirs."""

    def __post_init__(self) -> None:
        self.limits.update(limits_of(self.contracts))

    def agree(self, contracts: Contracts | None) -> None:
        """Another version is in force; what was answered before is void, which the book sees to."""
        self.contracts = contracts
        self.limits.update(limits_of(contracts))

    # ---- answers ----

    def placement(self, shape: ShapeBook, row: JobRow, now: int, ledger: LedgerRow) -> tuple[Rules, Placement]:
        """Whom to ask for this job now."""
        ruled = self.ruled(shape, row, now, ledger)
        if ruled.prices != self.prices_version:
            ruled.placements.clear()
            ruled.prices = self.prices_version
        gates = self.open_gates(row, ruled.rules, now)
        key = tuple(gate.clause for gate in gates)
        found = ruled.placements.get(key)
        if found is None:
            found = ruled.placements[key] = rank(ruled.rules, self.prices(ruled.rules), gates)
        return ruled.rules, found

    def foreseen(self, row: JobRow, shape: Shape, now: int, ledger: LedgerRow) -> tuple[Rules, Placement]:
        """The same for a job that is not of this shape yet: nothing is kept of the answer."""
        rules = compile_rules(self.contracts, self.providers, shape, now, _known(PLAIN, shape, now, ledger))
        return rules, rank(rules, self.prices(rules), self.open_gates(row, rules, now))

    def ruled(self, shape: ShapeBook, row: JobRow, now: int, ledger: LedgerRow) -> Ruled:
        """Contracts and law for this job: what is alike for all of its shape is answered once."""
        spent = self._spent(shape, row, now) if self.limits else PLAIN[0]
        ruled = self._answer(shape, (spent, ()), now, ledger)
        if ruled.rules.only and row.refusals:
            noes = yielded(self.contracts, ruled.rules, [self._refused(r) for r in row.refusals], now, row.episode)
            if noes:
                ruled = self._answer(shape, (spent, tuple(sorted(noes.items()))), now, ledger)
        return ruled

    def _answer(self, shape: ShapeBook, variant: Variant, now: int, ledger: LedgerRow) -> Ruled:
        found = shape.ruled.get(variant)
        if found is not None and (found.rules.expires_us is None or now < found.rules.expires_us):
            return found
        known = _known(variant, shape.shape, now, ledger)
        rules = self._kept(shape, compile_rules(self.contracts, self.providers, shape.shape, now, known))
        if (begin := next_begin(ledger.blocks, now)) is not None:
            self.expiring.note(shape.key, begin)
        made = shape.ruled[variant] = Ruled(rules)
        return made

    def in_block(self, shape: ShapeBook, row: JobRow, block: Block, now: int, ledger: LedgerRow) -> Rules:
        """Contracts and law for this job, were it placed in a block of owned capacity."""
        owned = placed_in(shape.shape, block)
        spent = self.without_room(limiting(self.contracts, owned), row, owned, now) if self.limits else PLAIN[0]
        found = shape.owned.get((block, spent))
        if found is not None and (found.expires_us is None or now < found.expires_us):
            return found
        known = _known((spent, ()), owned, now, ledger)
        rules = compile_rules(self.contracts, narrowed(self.providers, block), owned, now, known)
        made = self._kept(shape, agreed(rules, block))
        shape.owned[block, spent] = made
        return made

    def unrenewed(self, blocks: Iterable[Block], now: int, ledger: LedgerRow) -> list[Bound]:
        """What others' rights forbid, were these the blocks that are owned."""
        facts = Facts(self.contracts, self.providers, ledger.records, _down(now, ledger), now)
        return [one for renewal in renewals(ledger.blocks, blocks, now) for one in bound(facts, renewal)]

    def _kept(self, shape: ShapeBook, rules: Rules) -> Rules:
        """The answer, kept; the shape is looked at again when it ends."""
        if rules.expires_us is not None:
            self.expiring.note(shape.key, rules.expires_us)
        return self.keep(rules)

    def keep(self, rules: Rules) -> Rules:
        """The answer, whose terms can be looked up from now on."""
        for terms, digest in _all_terms(rules):
            self.terms.setdefault(digest, terms)
        return rules

    def open_gates(self, row: JobRow, rules: Rules, now: int) -> tuple[Gate, ...]:
        """The first rights that this job has still to pass, in order."""
        if not (rules.gates and row.refusals):
            return rules.gates
        return still_open(rules, [self._refused(r) for r in row.refusals], now, row.episode)

    def free_until(self, row: JobRow, rules: Rules, provider: str, now: int) -> int | None:
        """Until when the refusals are good by which this provider may be asked; None: it needs none."""
        noes = [self._refused(r) for r in row.refusals]
        ends = []
        for gate in rules.gates:
            if gate.holder == provider:
                break
            good = [no.at_us + gate.tail_us for no in noes if covers(no, gate, now, row.episode)]
            ends += [max(good)] if good else []
        return min(ends, default=None)

    def _refused(self, row: RefusalRow) -> Refused:
        return Refused(
            provider=row.provider, clause=row.clause, at_us=row.at, how=How(row.how), episode=row.episode,
            terms_hash=row.terms, terms=self.terms.get(row.terms), reason=row.reason,
        )  # fmt: skip

    # ---- prices ----

    def prices(self, rules: Rules) -> dict[str, int]:
        """Cheapest lawful price by provider: quoted by the feed, else of the price book. Micro-dollars per GPU-hour."""
        found: dict[str, int] = {}
        for c in rules.candidates:
            price = self.quote(c.provider, c.accelerator, c.regions)
            price = c.list_price if price is None else price
            if price is not None:
                found[c.provider] = price
        return found

    def quote(self, provider: str, accelerator: str | None, regions: Iterable[str]) -> int | None:
        """The cheapest quoted price in these regions, if the provider quotes any."""
        quoted = self.quotes.get(provider)
        if not quoted or accelerator is None:
            return None
        return min((quoted[(accelerator, r)] for r in regions if (accelerator, r) in quoted), default=None)

    def set_prices(self, provider: str, rows: Mapping[tuple[str, str], int]) -> bool:
        """A provider's quoted prices; whether they are others than before."""
        if self.quotes.get(provider) == rows:
            return False
        self.quotes[provider] = dict(rows)
        self.prices_version += 1
        return True

    # ---- totals of exemptions ----

    def _spent(self, shape: ShapeBook, row: JobRow, now: int) -> frozenset[str]:
        if shape.limiting is None:
            shape.limiting = tuple(limiting(self.contracts, shape.shape))
        return self.without_room(shape.limiting, row, shape.shape, now) if shape.limiting else PLAIN[0]

    def without_room(self, keys: Iterable[str], row: JobRow, shape: Shape, now: int) -> frozenset[str]:
        """Those exemptions whose total has no room for this job."""
        limits = (self.limits[key] for key in keys if key in self.limits)
        return frozenset(limit.key for limit in limits if not self.totals.has_room(limit, row, shape, now))


def _known(variant: Variant, shape: Shape, now: int, ledger: LedgerRow) -> Known:
    records, next_us = in_records(ledger.records, shape, now)
    return Known(records=records, down_us=_down(now, ledger), spent=variant[0], noes=dict(variant[1]), next_us=next_us)


def _down(now: int, ledger: LedgerRow) -> dict[str, int]:
    return {holder: present_between(since, now, ledger.absences) for holder, since in ledger.unreachable}


def _all_terms(rules: Rules) -> list[tuple[Terms, str]]:
    return [(g.terms, g.terms_hash) for g in rules.gates] + [(c.terms, c.terms_hash) for c in rules.candidates]
