"""How does an export lie before the judges? Lives of jobs, what was in force when, documents compiled once.

Made by `verify`; read by the sentences. Never raises for a bad ledger: what cannot be read is left out here and
reported by the sentence that needs it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import msgspec

from orchestrator.core.audit.export import EventLine, Export
from orchestrator.core.audit.lives import NEVER, E, Life, Past, Seen, past_of
from orchestrator.core.audit.refusals import noes, spoken
from orchestrator.core.audit.volumes import Volumes
from orchestrator.core.capacity import agreed, find, in_part, least_of, narrowed, placed_in
from orchestrator.core.eligibility import compile_rules
from orchestrator.core.known import Known, in_records, with_record
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.contract import Contracts, Providers
from orchestrator.model.placement import Rules, Shape, Terms, parse_shape, parse_terms
from orchestrator.model.record import Record, What

Variant = tuple[frozenset[str], tuple[tuple[str, str], ...]]
"""Exemptions whose total was spent, and releases that the holder's own no had brought about."""


class Unreadable(ValueError):
    """A cited document is missing, has another hash, or is nothing that this version can read."""


class Withheld(Unreadable):
    """It may well be there: this export shows a part, without the contracts and providers that its offers cite."""


class Documents(Protocol):
    """Compiles documents from the canonical bytes that the ledger keeps; `Unreadable` where it cannot."""

    def contracts(self, digest: str, data: bytes) -> Contracts:
        """A contract set."""
        ...

    def providers(self, digest: str, data: bytes) -> Providers:
        """A provider set."""
        ...


class History:
    """A ledger as the judges see it."""

    def __init__(self, export: Export, documents: Documents) -> None:
        self.export = export
        self._documents = documents
        self.lives: dict[str, Life] = {}
        self.ledger: list[Seen] = []
        """Events of the whole ledger."""
        self.hidden: dict[str, list[EventLine]] = {}
        """Job (the whole ledger: "") → its events whose body is redacted."""
        self.unreadable: list[tuple[EventLine, str]] = []
        for line in export.events:
            self._take(line)
        self.absences = [(s.seq, e.since, e.until) for s, e in self._of_ledger(ev.ControllerAbsent)]
        self._contracts = [(s.seq, e.n, e.digest) for s, e in self._of_ledger(ev.ContractInForce)]
        self._providers = [(s.seq, e.n, e.digest) for s, e in self._of_ledger(ev.ProvidersInForce)]
        self._records = [(s.seq, msgspec.structs.replace(e.record, at=s.at)) for s, e in self._of_ledger(ev.Recorded)]
        reach = (ev.HolderUnreachable, ev.HolderReachable)
        self._reach = [(s.seq, s) for s in self.ledger if isinstance(s.event, reach)]
        self._capacity = [(s.seq, e.blocks) for s, e in self._of_ledger(ev.CapacityInForce)]
        self.lapsed_clauses = self._lapsed()
        """Clause → the event by which an offer under it first lapsed."""
        self.ended_at = export.events[-1].at if export.events else 0
        self._rules: dict[tuple[object, ...], list[tuple[int, Rules]]] = {}
        self._compiled: dict[str, Contracts | Providers] = {}
        self._shapes: dict[str, Shape] = {}
        self._terms: dict[str, Terms] = {}

    def _take(self, line: EventLine) -> None:
        life = self.lives.setdefault(line.job, Life(line.job, line.project)) if line.job else None
        if line.body is None:
            self.hidden.setdefault(line.job, []).append(line)
        else:
            try:
                seen = Seen(line.seq, line.at, ev.decode(line.body.encode()))
            except msgspec.DecodeError as wrong:
                self.unreadable.append((line, str(wrong)))
            else:
                if life is None:
                    self.ledger.append(seen)
                else:
                    life.add(seen)
                return
        if life is not None:
            life.readable = False

    def _of_ledger(self, kind: type[E]) -> Iterator[tuple[Seen, E]]:
        return ((s, s.event) for s in self.ledger if isinstance(s.event, kind))

    def _lapsed(self) -> dict[str, int]:
        first: dict[str, int] = {}
        for life in self.lives.values():
            for seen, lapse in life.of(ev.OfferLapsed):
                opened = life.opened(lapse.n)
                if opened is not None and opened[1].clause:
                    clause = opened[1].clause
                    first[clause] = min(seen.seq, first.get(clause, seen.seq))
        return first

    # ---- what is hidden ----

    @property
    def redacted(self) -> int:
        """How many events have no body."""
        return sum(map(len, self.hidden.values()))

    @property
    def without_rows(self) -> bool:
        """Whether rows were left out, as from every export that shows a part."""
        return bool(self.hidden) and not self.export.rows

    def hides(self, job: str, since: int, until: int, *kinds: str) -> bool:
        """Whether a body of these kinds (none named: of any) is hidden between two events of a job."""
        lines = self.hidden.get(job, ())
        return any(since < line.seq < until and (not kinds or line.kind in kinds) for line in lines)

    def clouded(self, job: str, seq: int) -> bool:
        """Whether something hidden, of the job, of what it was left of or of the whole ledger, may explain what is
        found at an event (0: at any time)."""
        if not self.hidden:
            return False
        past = [life.job for life, _ in self.past(self.lives[job])] if job in self.lives else [job]
        return any(self.hides(one, 0, seq or NEVER) for one in (*past, ""))

    def _lacking(self, words: str) -> Unreadable:
        return Withheld(words) if self.hidden else Unreadable(words)

    # ---- what was in force ----

    def contract_at(self, seq: int) -> int:
        """The contract version in force before event `seq`; 0: none."""
        return max((n for at, n, _ in self._contracts if at < seq), default=0)

    def providers_at(self, seq: int) -> int:
        """The provider set in force before event `seq`; 0: none."""
        return max((n for at, n, _ in self._providers if at < seq), default=0)

    def block(self, ref: str, seq: int) -> Block | None:
        """The block of this name that was owned before event `seq`."""
        told = self._capacity[: self._count(self._capacity, seq)] if ref else []
        return find(told[-1][1], ref) if told else None

    def absent(self, before: int, since: int, until: int) -> int:
        """Microseconds between two moments in which nobody led, as far as the ledger knew before event `before`."""
        clipped = ((max(a, since), min(b, until)) for seq, a, b in self.absences if seq < before)
        spans = sorted((a, b) for a, b in clipped if a < b)
        total, reached = 0, since
        for a, b in spans:
            if b > reached:
                total += b - max(a, reached)
                reached = b
        return total

    # ---- documents ----

    def document(self, digest: str) -> bytes:
        """A cited document; `Unreadable` where it is missing."""
        data = self.export.specs.get(digest)
        if data is None:
            raise Unreadable(f"the document {digest[:12]} is not in the ledger")
        return data

    def _set(self, digest: str) -> bytes:
        if self.hidden and digest not in self.export.specs:
            raise Withheld(f"the set {digest[:12]} is not shown")
        return self.document(digest)

    def contracts(self, n: int) -> Contracts | None:
        """A version of the contract set; None: version 0 or one without a document."""
        digest = next((d for _, v, d in self._contracts if v == n), "")
        if n and not any(v == n for _, v, _ in self._contracts):
            raise self._lacking(f"contract version {n} never came into force")
        if not digest:
            return None
        found = self._compiled.get(digest)
        if found is None:
            found = self._compiled[digest] = self._documents.contracts(digest, self._set(digest))
        assert isinstance(found, Contracts), "digests of two kinds cannot be equal"
        return found

    def providers(self, n: int) -> Providers:
        """A version of the provider set."""
        digest = next((d for _, v, d in self._providers if v == n), None)
        if digest is None:
            raise self._lacking(f"provider set {n} never came into force")
        found = self._compiled.get(digest)
        if found is None:
            found = self._compiled[digest] = self._documents.providers(digest, self._set(digest))
        assert isinstance(found, Providers), "digests of two kinds cannot be equal"
        return found

    def shape(self, life: Life) -> Shape:
        """The job's shape as submitted."""
        submitted = life.submitted
        if submitted is None:
            raise self._lacking("the job was never submitted")
        return self.shape_of(submitted.shape)

    def shape_of(self, digest: str) -> Shape:
        """A shape by its digest."""
        found = self._shapes.get(digest)
        if found is None:
            data = self.document(digest)
            try:
                found = self._shapes[digest] = parse_shape(data)
            except msgspec.DecodeError as wrong:
                raise Unreadable(f"the shape {digest[:12]} cannot be read: {wrong}") from wrong
        return found

    def _seen_by(self, contracts: Contracts | None, life: Life) -> Shape:
        """The job as a contract set sees it: with the labels of its own document that this set selects on."""
        shape = self.shape(life)
        selected = contracts.labels if contracts else frozenset[str]()
        if not selected:
            return msgspec.structs.replace(shape, labels=()) if shape.labels else shape
        assert life.submitted is not None, "a shape was found"
        spec = life.submitted.spec
        try:
            return shape.labelled(self.document(spec), selected)
        except msgspec.DecodeError as wrong:
            raise Unreadable(f"the job's document {spec[:12]} cannot be read: {wrong}") from wrong

    def terms(self, digest: str) -> Terms:
        """Terms by their hash."""
        found = self._terms.get(digest)
        if found is None:
            try:
                found = self._terms[digest] = parse_terms(self.document(digest))
            except msgspec.DecodeError as wrong:
                raise Unreadable(f"the terms {digest[:12]} cannot be read: {wrong}") from wrong
        return found

    # ---- what was known ----

    def records_before(self, seq: int) -> list[Record]:
        """What was on record before an event, each as it was put there last, with the time of that."""
        known = (record for _, record in self._records[: self._count(self._records, seq)])
        return list({record.id: record for record in known}.values())

    @staticmethod
    def _count(told: Sequence[tuple[int, Any]], seq: int) -> int:
        return bisect_left(told, seq, key=lambda one: one[0])

    def unreachable(self, seen: Seen) -> dict[str, int]:
        """holder → how long, in our presence, it had been out of reach when something happened."""
        since: dict[str, int] = {}
        for _, told in self._reach[: self._count(self._reach, seen.seq)]:
            if isinstance(told.event, ev.HolderUnreachable):
                since[told.event.holder] = told.at
            elif isinstance(told.event, ev.HolderReachable):
                since.pop(told.event.holder, None)
        return {who: seen.at - at - self.absent(seen.seq, at, seen.at) for who, at in since.items()}

    @cached_property
    def volumes(self) -> Volumes:
        """What was placed under exemptions, at each event that asks."""
        made = Volumes(self.contracts, self.terms)
        told = ((seen, life.job) for life in self.lives.values() for seen in life.seen)
        for seen, job in sorted(told, key=lambda one: one[0].seq):
            made.see(seen.seq, seen.at, job, seen.event)
        return made

    def rules(self, life: Life, opened: ev.OfferOpened, seen: Seen) -> Rules:
        """What contracts and law said about the job when this offer was opened (by `seen`), by the versions it cites
        and by what was known then."""
        contracts = self.contracts(opened.contract)
        shape = self._seen_by(contracts, life)
        shape = life.with_its_size(shape, seen.seq)
        shape = shape.triggered(life.trigger_of(opened, seen.seq) or shape.trigger)
        for record in self._records_of(life, seen.seq):
            shape = with_record(shape, record)
        block = self.block(opened.block, seen.seq)
        if block is not None:
            shape = placed_in(shape, block)
        spent = self._spent(contracts, shape, seen)
        rules = self._compiled_rules(contracts, opened, shape, seen, (spent, ()))
        if rules.only and contracts and block is None:
            said = noes(self.past(life))
            if released := spoken(said, self.terms, contracts, rules, (seen, opened.episode)):
                rules = self._compiled_rules(contracts, opened, shape, seen, (spent, released))
        return rules if block is None or not shape.divisible else self._in_part(rules, block, life, opened, seen)

    def _in_part(self, rules: Rules, block: Block, life: Life, opened: ev.OfferOpened, seen: Seen) -> Rules:
        """The same for as many workers of a divisible job as the block is said to have room for, and no fewer than
        anybody may take elsewhere."""
        elsewhere = self.rules(life, msgspec.structs.replace(opened, block=""), seen)
        return in_part(rules, block, opened.most or rules.shape.workers, least_of(rules, elsewhere))

    def past(self, life: Life) -> Past:
        """The job's life, and those of the jobs that it was left of."""
        return past_of(life, self.lives)

    def job_class(self, life: Life, n: int) -> str:
        """Of which class the job was when its n-th offer was opened: as submitted, or as an attester has recorded."""
        opened = life.opened(n)
        said = [r.name for r in self._records_of(life, opened[0].seq if opened else 0) if r.what == What.CLASS]
        return said[-1] if said else self.shape(life).job_class

    def _records_of(self, life: Life, seq: int) -> Iterator[Record]:
        """The records before an event that are about this very job, and of a class also about what it was left of."""
        parents = {other.job for other, _ in self.past(life)}
        for record in self.records_before(seq):
            if record.job == life.job or (record.job in parents and record.what == What.CLASS):
                yield record

    def _spent(self, contracts: Contracts | None, shape: Shape, seen: Seen) -> frozenset[str]:
        if not any(e.limit_ms is not None for c in (contracts.of_holders if contracts else ()) for e in c.exempt):
            return frozenset()
        limits = {f"{c.ref}/{e.id}": e.limit_ms for c in (contracts.of_holders if contracts else ()) for e in c.exempt}
        used = self.volumes.used.get(seen.seq, {})
        needed = {key: held.all + max(shape.gpu_ms, shape.whole_gpu_ms - held.own) for key, held in used.items()}
        return frozenset(key for key, needs in needed.items() if needs > (limits.get(key) or 0))

    def _compiled_rules(
        self, contracts: Contracts | None, opened: ev.OfferOpened, shape: Shape, seen: Seen, variant: Variant
    ) -> Rules:
        told = self._count(self._records, seen.seq), self._count(self._reach, seen.seq)
        block = self.block(opened.block, seen.seq)
        key = (shape, opened.contract, opened.providers, told, variant, block)
        known = self._rules.setdefault(key, [])
        for since, rules in reversed(known):
            if since <= seen.at and (rules.expires_us is None or seen.at < rules.expires_us):
                return rules
        records, next_us = in_records(self.records_before(seen.seq), shape, seen.at)
        down = self.unreachable(seen) if self._reach else {}
        facts = Known(records=records, down_us=down, spent=variant[0], noes=dict(variant[1]), next_us=next_us)
        providers = self.providers(opened.providers)
        made = compile_rules(contracts, narrowed(providers, block) if block else providers, shape, seen.at, facts)
        made = agreed(made, block) if block else made
        known.append((seen.at, made))
        return made
