"""What does the cloud hold, and what happens next in it? Offers, earmarks, clusters, capacity, bills, its feed.

Called by its HTTP face, its switchboard and its clockwork, from one thread. It never waits, never talks to anybody,
and is told the time: whatever is due later sits on a heap until `advance`. Machines are started and killed by the
`Host` it is given, which reports back through `came_up` and `vanished`.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from pydantic import ValidationError

from orchestrator.mockcloud.bidding import Yes, bid, missing
from orchestrator.mockcloud.config import Bid, CloudConfig, Faults, Machines, Policy, Span
from orchestrator.mockcloud.journal import Journal
from orchestrator.mockcloud.profiles import profile
from orchestrator.mockcloud.receipts import Receipts
from orchestrator.mockcloud.records import (
    Cluster,
    ClusterOrder,
    ClusterState,
    Earmark,
    OfferIn,
    OfferRecord,
    Refusal,
    Terms,
)
from orchestrator.mockcloud.stock import SpotStock, Stock
from orchestrator.mockcloud.views import view

MS = 1000


class Host(Protocol):
    """What clusters are made of. Both calls return at once."""

    def start(self, cluster: Cluster) -> None:
        """Make its machines; report `came_up` or, where that fails for good, `vanished`."""
        ...

    def kill(self, cluster: Cluster) -> None:
        """End every process of it; report `vanished` when none is left."""
        ...


class Cloud:
    """One cloud's whole state."""

    def __init__(self, config: CloudConfig, journal: Journal, receipts: Receipts | None = None) -> None:
        self.config = config
        self.profile = profile(config.cloud)
        self.journal = journal
        self.receipts = receipts or Receipts()
        self.faults: Faults = config.faults
        self.policies = list(config.policies)
        self.offers: dict[str, OfferRecord] = {}
        self.clusters: dict[str, list[Cluster]] = {}
        self.feed: list[dict[str, Any]] = []
        self.host: Host
        self.on_change: Callable[[], None] = lambda: None
        self._shown: dict[str, Cluster] = {}
        self._frozen_at: int | None = None
        self._open = 0
        self._count = 0
        self._timers: list[tuple[int, int, Callable[[int], None]]] = []
        self._random = random.Random(f"{config.cloud}/{config.seed}")
        self.stock = Stock(config, self._tell)
        self.spot = SpotStock(config, self._tell) if config.spot else None
        self.stock.tell_prices()

    # ---- time ------------------------------------------------------------------------------------------------------

    def advance(self, now: int) -> None:
        """Let everything that is due happen, in order."""
        while self._timers and self._timers[0][0] <= now:
            _, _, deed = heapq.heappop(self._timers)
            deed(now)

    def next_due(self) -> int | None:
        """When something is due next."""
        return self._timers[0][0] if self._timers else None

    def shown(self, at: int) -> int:
        """A moment as this cloud's own clock shows it."""
        return at + self.faults.clock_offset * MS

    def _later(self, due: int, deed: Callable[[int], None]) -> None:
        self._count += 1
        heapq.heappush(self._timers, (due, self._count, deed))
        self.on_change()

    def _draw(self, span: Span) -> int:
        return self._random.randint(span.low, max(span.low, span.high)) * MS

    def _tell(self, what: str, /, **fields: Any) -> None:
        self.feed.append({"n": len(self.feed) + 1, "type": what, **fields})
        self.on_change()

    # ---- faults and capacity ---------------------------------------------------------------------------------------

    def break_with(self, faults: Faults, now: int) -> None:
        """From here on these faults, and no others."""
        if faults.listing == "frozen" and self.faults.listing != "frozen":
            self._frozen_at = now
        self.faults = faults
        self.on_change()

    # ---- offers ----------------------------------------------------------------------------------------------------

    def offer(self, doc: OfferIn, now: int) -> OfferRecord:
        """Take an offer in; the same id again is the same offer. Raises `Refusal`, and then nothing was kept."""
        known = self.offers.get(doc.id)
        if known is not None:
            if known.doc != doc:
                raise Refusal("mismatch", doc.id)
            return known
        if hashlib.sha256(doc.terms.encode()).hexdigest() != doc.terms_hash:
            raise Refusal("mismatch", "termsHash is not the sha256 of terms")
        if self._open >= self.config.max_open_offers:
            raise Refusal("throttled", "too many open offers", retry_after=1)
        record = OfferRecord(doc, ref=f"{self.config.cloud}-{doc.id}", at=now)
        self.offers[doc.id] = record
        self._open += 1
        self.journal.write("offer", offer=doc.id)
        self.receipts.offer(doc, record.ref, self.shown(now))
        self._consider(record, self._policy(), now)
        return record

    def withdraw(self, offer: str, now: int) -> None:
        """The offer is taken back: no answer any more, its earmark is released. Unknown ids are fine."""
        record = self.offers.get(offer)
        if record is None or record.withdrawn:
            return
        record.withdrawn = True
        self._open -= record.answer is None
        self.journal.write("withdrawn", offer=offer)
        self.receipts.withdrawn(offer, self.shown(now))
        self._release(record)

    def _policy(self) -> Policy:
        policy = self.policies[0]
        if policy.times is not None:
            rest = policy.times - 1
            self.policies[:1] = [policy.model_copy(update={"times": rest})] if rest else []
            self.policies = self.policies or [Policy()]
        return policy

    def _consider(self, record: OfferRecord, policy: Policy, now: int) -> None:
        if policy.considering:
            self._tell("notice", kind="considering", offer=record.doc.id, detail="")
        if policy.bid is Bid.SILENT:
            return
        wait = self._draw(policy.delay)
        if policy.late is not None:
            wait = record.doc.window_us + policy.late * MS
        if wait == 0:
            self._answer(record, policy, now)
        else:
            self._later(now + wait, lambda then: self._answer(record, policy, then))

    def _answer(self, record: OfferRecord, policy: Policy, now: int) -> None:
        if record.withdrawn or record.answer is not None:
            return
        try:
            yes = self._judge(record, policy)
        except Refusal as no:
            answer = self._no(no, policy)
        else:
            answer = self._yes(record, yes, policy, now)
        record.answer = {"offer": record.doc.id, **answer, "at": self.shown(now)}
        self._open -= 1
        self.journal.write("answer", offer=record.doc.id, accepted=answer["accepted"])
        self.receipts.answer(record.doc.id, answer["accepted"], self.shown(now))
        self._tell("answer", **record.answer)

    def _judge(self, record: OfferRecord, policy: Policy) -> Yes:
        if policy.bid is Bid.DECLINE:
            raise Refusal(policy.situation)
        try:
            terms = Terms.model_validate_json(record.doc.terms)
        except ValidationError as error:
            raise Refusal("too_large", "the terms are not to be read") from error
        need = policy.bid is not Bid.ACCEPT
        most = terms.ceiling_microusd if record.doc.trigger == "owned" and policy.price is None else None
        if terms.spot and self.spot is not None:
            with suppress(Refusal):
                return replace(bid(terms, self.spot, asked=policy.price, most=most, need_capacity=need), spot=True)
        return bid(terms, self.stock, asked=policy.price, most=most, need_capacity=need)

    def _pool(self, spot: bool) -> Stock:
        return self.spot if spot and self.spot is not None else self.stock

    def _no(self, no: Refusal, policy: Policy) -> dict[str, Any]:
        words = self.profile.errors[no.situation]
        region, kinds = next(iter(self.stock.capacity.items()), ("", {}))
        told = words.message.replace("{region}", region).replace("{accelerator}", next(iter(kinds), ""))
        return {
            "accepted": False,
            "code": words.code,
            "message": told.replace("{detail}", no.detail).strip(),
            "holdOffMs": no.hold_off if policy.hold_off is None else policy.hold_off,
        }

    def _yes(self, record: OfferRecord, yes: Yes, policy: Policy, now: int) -> dict[str, Any]:
        gpus = Terms.model_validate_json(record.doc.terms).gpus_per_worker * yes.workers
        stock = self._pool(yes.spot)
        kept = min(gpus, max(0, stock.free(yes.region, yes.accelerator))) if policy.bid is Bid.ACCEPT else gpus
        kept = gpus if kept == gpus else 0
        ttl = self.config.ttl * MS
        record.earmark = Earmark(yes.region, yes.accelerator, kept, yes.price, now + ttl, yes.spot)
        stock.take(yes.region, yes.accelerator, kept)
        self._later(now + ttl, lambda _: self._release(record))
        return {
            "accepted": True,
            "termsHash": "counter-" + record.doc.terms_hash[:16] if policy.counter else record.doc.terms_hash,
            "price": yes.price,
            "region": yes.region,
            "accelerator": yes.accelerator,
            "workers": yes.workers,
            "ttlMs": self.config.ttl,
            "spot": yes.spot,
        }

    def _release(self, record: OfferRecord) -> None:
        mark, record.earmark = record.earmark, None
        if mark is not None and mark.gpus:
            self._pool(mark.spot).take(mark.region, mark.accelerator, -mark.gpus)

    # ---- clusters --------------------------------------------------------------------------------------------------

    def create(self, order: ClusterOrder, now: int) -> Cluster:
        """Make a cluster; the same client token again is the same cluster. Raises `Refusal`."""
        known = self.clusters.get(order.key)
        if known and self.faults.tokens == "kept":
            if known[0].order.size != order.size:
                raise Refusal("mismatch", order.key)
            return known[0]
        price = self._admit(order, now)
        cluster = self._record(order, price, order.all_gpus, now)
        cluster.spot = self._on_spot(order)
        self._pool(cluster.spot).take(order.region, order.accelerator, order.all_gpus)
        self._later(now + self._draw(self.config.provisioning), lambda _: self._boot(cluster))
        self._later(now + order.delete_after_ms * MS, lambda then: self._expire(cluster, then))
        return cluster

    def _admit(self, order: ClusterOrder, now: int) -> int | None:
        """The price that holds. Raises `Refusal`."""
        try:
            return self._check(order, now)
        except Refusal as no:
            self.journal.write("refused", key=order.key, situation=no.situation)
            if self.faults.partial_gang and order.key not in self.clusters:
                part = self._record(order, None, 0, now)
                self._enter(part, ClusterState.RUNNING, now)
            raise

    def _check(self, order: ClusterOrder, now: int) -> int | None:
        if self.faults.launch not in ("", "dies"):
            raise Refusal(self.faults.launch)
        if order.region not in self.stock.regions:
            raise Refusal("no_such_region", order.region)
        record = self.offers.get(order.offer or "")
        mark = record.earmark if record is not None else None
        accepted = bool(record and record.answer and record.answer["accepted"])
        if record is not None and mark is not None and now < mark.expires:
            self._release(record)
        stock = self._pool(self._on_spot(order))
        no = missing(stock, order.region, order.accelerator, order.all_gpus) if order.all_gpus else None
        if no is not None:
            raise Refusal("allocation", order.accelerator) if accepted and no.situation == "capacity" else no
        return mark.price if mark is not None else stock.price(order.region, order.accelerator)

    def _on_spot(self, order: ClusterOrder) -> bool:
        """Whether what was accepted are spot machines."""
        record = self.offers.get(order.offer or "")
        return bool(record and record.answer and record.answer.get("spot"))

    def _record(self, order: ClusterOrder, price: int | None, gpus: int, now: int) -> Cluster:
        self._count += 1
        cluster = Cluster(self._new_id(order.key), order, price, now, gpus)
        self.clusters.setdefault(order.key, []).append(cluster)
        self._shown[cluster.id] = cluster
        self.journal.write("created", key=order.key, cluster=cluster.id, gpus=gpus, tags=order.tags)
        self._enter(cluster, ClusterState.PROVISIONING, now)
        return cluster

    def _new_id(self, key: str) -> str:
        """Seeded, and of the key: processes are known by it, so clouds of one seed on one machine share none."""
        drawn = f"{self._random.getrandbits(32):08x}/{key}"
        return f"{self.config.cloud}-{hashlib.sha256(drawn.encode()).hexdigest()[:8]}"

    def _enter(self, cluster: Cluster, state: ClusterState, now: int) -> None:
        cluster.history.append((now, state))
        self._tell("cluster", **view(cluster, state), at=self.shown(now))

    def _boot(self, cluster: Cluster) -> None:
        if cluster.state is ClusterState.PROVISIONING and self.faults.launch != "dies":
            self.host.start(cluster)

    def came_up(self, cluster: Cluster, address: str, token: str, now: int) -> None:
        """Its machines are there; `address` is empty where the cloud runs the user data by itself."""
        if cluster.state is not ClusterState.PROVISIONING:
            return
        cluster.address, cluster.token, cluster.running_at = address, token, now
        self._enter(cluster, ClusterState.RUNNING, now)
        self._later(now + self.config.charge_every * MS, lambda then: self._bill_again(cluster, then))
        if cluster.spot and self.config.spot is not None and self.config.spot.lasts is not None:
            self._later(now + self._draw(self.config.spot.lasts), lambda then: self.reclaim(cluster, then))
        if self.config.machines is Machines.PAPER:
            self._later(now + self.config.paper_run * MS, lambda then: self._run_out(cluster, then))

    def _run_out(self, cluster: Cluster, now: int) -> None:
        if cluster.state is ClusterState.RUNNING:
            self._enter(cluster, ClusterState.ENDED, now)

    def delete(self, key: str, now: int) -> list[Cluster]:
        """End everything under this client token; repeatable. Raises `Refusal` for an unknown one."""
        if key not in self.clusters:
            raise Refusal("not_found", key)
        self.journal.write("delete_asked", key=key)
        if self.faults.terminate == "works":
            for cluster in self.clusters[key]:
                self._end(cluster, now)
        return self.clusters[key]

    def _expire(self, cluster: Cluster, now: int) -> None:
        if self.faults.delete_after == "honoured":
            self._end(cluster, now)

    def _end(self, cluster: Cluster, now: int) -> None:
        if cluster.state in (ClusterState.DELETING, ClusterState.TERMINATED):
            return
        self._enter(cluster, ClusterState.DELETING, now)
        self._later(now + self.config.termination * MS, lambda _: self.host.kill(cluster))

    def reclaim(self, cluster: Cluster, now: int) -> None:
        """Give notice to spot machines, once; when it has run out they are taken back, whatever still runs there."""
        if self.config.spot is None or not cluster.spot or cluster.reclaimed:
            return
        cluster.reclaimed = True
        notice, key = self.config.spot.notice, cluster.order.key
        self.journal.write("reclaim_noticed", key=key, cluster=cluster.id, ms=notice)
        self._tell("notice", kind="reclaim", key=key, inMs=notice, at=self.shown(now), detail="")
        self._later(now + notice * MS, lambda _: self._take_back(cluster))

    def _take_back(self, cluster: Cluster) -> None:
        if cluster.state is not ClusterState.TERMINATED:
            self.journal.write("reclaimed", key=cluster.order.key, cluster=cluster.id)
            self.host.kill(cluster)

    def vanished(self, cluster: Cluster, why: str, now: int) -> None:
        """No process of it is left: capacity is free again, the bill is final."""
        if cluster.state is ClusterState.TERMINATED:
            return
        cluster.ended_at, cluster.detail = now, why
        self.journal.write("ended", key=cluster.order.key, cluster=cluster.id, why=why)
        self._enter(cluster, ClusterState.TERMINATED, now)
        self._bill(cluster, now, final=True)
        self._pool(cluster.spot).take(cluster.order.region, cluster.order.accelerator, -cluster.gpus)
        shown = (self.config.shown_terminated + self.config.list_lag) * MS
        self._later(now + shown, lambda _: self._forget(cluster))

    def _forget(self, cluster: Cluster) -> None:
        self._shown.pop(cluster.id, None)

    # ---- bills and listings ----------------------------------------------------------------------------------------

    def _bill_again(self, cluster: Cluster, now: int) -> None:
        if cluster.state is not ClusterState.TERMINATED:
            self._bill(cluster, now, final=False)
            self._later(now + self.config.charge_every * MS, lambda then: self._bill_again(cluster, then))

    def _bill(self, cluster: Cluster, now: int, *, final: bool) -> None:
        seconds = cluster.gpu_seconds(now)
        amount = seconds * (cluster.price or 0) // 3600
        ids = [cluster.id, cluster.id + "-again"] if final and self.faults.double_billing else [cluster.id]
        for name in ids:
            self._tell("charge", id=name, key=cluster.order.key, microdollars=amount, gpuSeconds=seconds, final=final)

    def listing(self, now: int) -> Iterator[dict[str, Any]]:
        """Clusters as they were `list_lag` ago, terminated ones for a while after their end."""
        if self.faults.listing == "empty":
            return
        then = now - self.config.list_lag * MS
        if self.faults.listing == "frozen" and self._frozen_at is not None:
            then = self._frozen_at
        for cluster in self._shown.values():
            state = cluster.state_at(then)
            if state is not None:
                yield view(cluster, state)
