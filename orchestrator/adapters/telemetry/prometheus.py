"""How do the ledger's counters and this process's durations look to Prometheus?

Built by bootstrap, fed by the engine, read by the API's `/metrics`. Each instance has a registry of its own, so two
servers in one process never mix. Never decides, never counts jobs itself: counters are the ledger's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from orchestrator.core.counters import ANSWER_BUCKETS_US, FAMILIES, Family, zeros
from orchestrator.ports.telemetry import Live, Page

DURATION_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
_LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}
Labels = tuple[tuple[str, str], ...]


class PrometheusTelemetry:
    """One server's figures (ports.telemetry.Telemetry)."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._turns = self._histogram("orchestrator_turn_seconds", "Turns of the loop.", DURATION_BUCKETS)
        self._commits = self._histogram("orchestrator_commit_seconds", "Durable commits.", DURATION_BUCKETS)
        self._batches = self._histogram("orchestrator_commit_events", "Events in one commit.", BATCH_BUCKETS)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, registry=self._registry, buckets=buckets)

    def turn(self, seconds: float) -> None:
        """One turn of the loop took this long."""
        self._turns.observe(seconds)

    def commit(self, seconds: float, events: int) -> None:
        """One durable commit took this long and held so many events."""
        self._commits.observe(seconds)
        self._batches.observe(events)

    def page(self, counters: Mapping[str, int], live: Live) -> Page:
        """Everything in Prometheus' text format."""
        scrape = CollectorRegistry()
        known = {**zeros(live.providers_up), **counters}
        scrape.register(_Fixed([*_ledger(known), *_live(live), *self._registry.collect()]))
        return Page(CONTENT_TYPE_PLAIN_0_0_4, generate_latest(scrape))


class _Fixed:
    """A collector of families made beforehand."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def parse(key: str) -> tuple[str, Labels]:
    """A counter key's name and labels."""
    name, _, inside = key.partition("{")
    return name, tuple((label, _plain(value)) for label, value in _LABEL.findall(inside))


def _plain(value: str) -> str:
    return re.sub(r"\\.", lambda found: _ESCAPES.get(found[0], found[0]), value)


def _ledger(counters: Mapping[str, int]) -> Iterator[Metric]:
    by_name: dict[str, dict[Labels, int]] = defaultdict(dict)
    for key, value in counters.items():
        name, labels = parse(key)
        by_name[name][labels] = value
    for family in FAMILIES:
        yield _histogram(family, by_name) if family.kind == "histogram" else _counter(family, by_name[family.name])


def _scaled(family: Family, value: int) -> float:
    return value / 1_000_000 if family.microseconds else value


def _counter(family: Family, samples: Mapping[Labels, int]) -> Metric:
    names = [label for label, _ in next(iter(samples), ())]
    metric = CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=names)
    for labels, value in sorted(samples.items()):
        metric.add_metric([text for _, text in labels], _scaled(family, value))
    return metric


def _histogram(family: Family, by_name: Mapping[str, Mapping[Labels, int]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=["provider"])
    buckets: dict[str, dict[str, int]] = defaultdict(dict)
    for labels, value in by_name.get(f"{family.name}_bucket", {}).items():
        found = dict(labels)
        buckets[found["provider"]][found["le"]] = value
    for provider, values in sorted(buckets.items()):
        total = by_name[f"{family.name}_sum"].get((("provider", provider),), 0)
        metric.add_metric([provider], list(_cumulative(values)), sum_value=_scaled(family, total))
    return metric


def _cumulative(values: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    seen = 0
    for bound in [*(str(us / 1_000_000) for us in ANSWER_BUCKETS_US), "+Inf"]:
        seen += values.get(bound, 0)
        yield bound, seen


def _live(live: Live) -> Iterator[Metric]:
    yield _gauge("orchestrator_queued_jobs", "Jobs that wait for a place, by class.", "class", live.queued)
    yield _gauge("orchestrator_provider_up", "Whether a provider answers us.", "provider", live.providers_up)
    yield _gauge("orchestrator_open_offers", "Offers that wait for an answer.", "provider", live.open_offers)
    yield _gauge("orchestrator_active_attempts", "Attempts that are not over.", "provider", live.active_attempts)
    yield _gauge(
        "orchestrator_unknown_attempts", "Attempts that may or may not run.", "provider", live.unknown_attempts
    )
    yield _gauge(
        "orchestrator_store_unread_seconds", "Since this server last read the store.", "store", live.store_unread
    )
    yield _gauge(
        "orchestrator_store_limit_seconds", "Unread for so long, jobs stop by themselves.", "store", live.store_limit
    )
    yield GaugeMetricFamily("orchestrator_facts_waiting", "Facts in no commit yet.", value=live.facts_waiting)
    if live.ledger_behind is not None:
        text = "Since the ledger last took something in."
        yield GaugeMetricFamily("orchestrator_ledger_behind_seconds", text, value=live.ledger_behind)


def _gauge(name: str, text: str, label: str, values: Mapping[str, int | bool] | Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=[label])
    for value, number in sorted(values.items()):
        metric.add_metric([value], float(number))
    return metric
