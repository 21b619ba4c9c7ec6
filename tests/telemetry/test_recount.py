"""The page's figures are counted again from `audit export`, by code that shares nothing with what counted first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from orchestrator.adapters.telemetry.prometheus import PrometheusTelemetry
from orchestrator.core.audit.export import export
from orchestrator.ports.telemetry import Live
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Recount:
    """Everything that the page shows of jobs, from an export's lines."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.found: Counter[str] = Counter()
        self.offers: dict[tuple[str, int], tuple[str, int]] = {}
        self.epochs: dict[tuple[str, int], str] = {}
        self.since: dict[str, tuple[str, int]] = {}
        self.lost: dict[str, str] = {}
        self.fences: dict[str, int] = {}
        for line in map(json.loads, lines):
            if line["line"] == "event":
                self.event(line["job"], line["at"], json.loads(line["body"]))

    def add(self, name: str, amount: float = 1, **labels: Any) -> None:
        inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        self.found[f"orchestrator_{name}{{{inside}}}" if labels else f"orchestrator_{name}"] += amount  # type: ignore[assignment]

    def enter(self, job: str, at: int, phase: str) -> None:
        before, since = self.since.get(job, ("", at))
        if before:
            self.add("phase_seconds_total", (at - since) / 1e6, phase=before)
        self.since[job] = (phase, at)

    def event(self, job: str, at: int, body: dict[str, Any]) -> None:
        act = getattr(self, body["kind"].lower(), None)
        if act is not None:
            act(job, at, body)

    def submitted(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("jobs_submitted_total")
        self.enter(job, at, "queued")

    def offeropened(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.offers[job, body["n"]] = (body["provider"], at)
        gated = "true" if body.get("clause") else "false"
        self.add("offers_opened_total", provider=body["provider"], gated=gated)
        self.enter(job, at, "offering")

    def closed(self, job: str, at: int, n: int, answer: str, reason: str) -> None:
        provider, opened = self.offers[job, n]
        self.add("offers_total", provider=provider, answer=answer, reason=reason)
        self.add("offer_answer_seconds_count", provider=provider)
        self.add("offer_answer_seconds_sum", (at - opened) / 1e6, provider=provider)

    def offeranswered(self, job: str, at: int, body: dict[str, Any]) -> None:
        accepted = body["accepted"]
        self.closed(job, at, body["n"], "accepted" if accepted else "declined", "" if accepted else body["reason"])
        self.enter(job, at, "offering" if accepted else "queued")

    def offerlapsed(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.closed(job, at, body["n"], "lapsed", body["how"])
        self.enter(job, at, "queued")

    def intended(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.epochs[job, body["epoch"]] = body["provider"]
        self.add("attempts_total", provider=body["provider"])
        if job in self.lost:
            self.add("failovers_total", origin=self.lost[job], target=body["provider"])
        self.enter(job, at, "launching")

    def started(self, job: str, at: int, body: dict[str, Any]) -> None:
        provider = self.lost[job] = self.epochs[job, body["epoch"]]
        self.add("attempts_started_total", provider=provider)
        self.enter(job, at, "running")

    def wentunknown(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("unknowns_total", provider=self.epochs[job, body["epoch"]], why=body["why"])

    def fencing(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.enter(job, at, "recovering")

    def fenced(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("fences_total")
        self.fences[job] = body["epoch"]

    def ended(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("attempts_ended_total", provider=self.epochs[job, body["epoch"]], how=body["how"])
        if body.get("refused") or (body["how"] == "rejected" and not body.get("late")):
            self.add("accept_failed_total", provider=self.epochs[job, body["epoch"]])
        if body.get("firm"):
            self.add("breach_evidence_total", provider=self.epochs[job, body["epoch"]])
        if body["how"] == "done":
            self.enter(job, at, "")
            self.add("jobs_finished_total", state="failed" if body.get("fails") else "succeeded")
        else:
            self.enter(job, at, "queued" if self.fence_stands(job, body["epoch"]) else "recovering")

    def fence_stands(self, job: str, epoch: int) -> bool:
        return self.fences.get(job, 0) > epoch

    def accessed(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("accesses_total", what=body["what"])

    def led(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("leads_total")

    def controllerabsent(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("absent_seconds_total", (body["until"] - body["since"]) / 1e6)

    def lateanswer(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("late_answers_total", answer="accepted" if body["accepted"] else "declined")

    def offerwithdrawn(self, job: str, at: int, body: dict[str, Any]) -> None:
        provider, _ = self.offers[job, body["n"]]
        self.add("offers_total", provider=provider, answer="withdrawn", reason=body["why"])
        self.enter(job, at, "queued")

    def swept(self, job: str, at: int, body: dict[str, Any]) -> None:
        self.add("swept_launches_total", provider=body["provider"])
        self.add("swept_gpus_total", body["gpus"], provider=body["provider"])


def shown(counters: dict[str, int]) -> dict[str, float]:
    """What the page says of the ledger, without histogram buckets, live values and this process's own durations."""
    page = PrometheusTelemetry().page(counters, Live()).body.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in page if not line.startswith("#"))
    own = ("_bucket", "orchestrator_turn", "orchestrator_commit", "orchestrator_facts", "_created")
    return {name: float(value) for name, value in values.items() if not any(part in name for part in own)}


def by_value(found: dict[str, float]) -> dict[str, float]:
    """Counts that are not zero, to the microsecond."""
    return {name: round(value, 6) for name, value in found.items() if round(value, 6)}


async def a_life_with_a_failover(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)


async def a_world_with_a_failover() -> World:
    declines = Script(offers=[do.Declines(for_s=300), do.Declines(for_s=300)])
    outage = Script(scenes=[do.Unreachable(when=do.AtStep(7)), do.DataCut(when=do.AtStep(7))])
    made = World({"azure": declines, "coreweave": outage, "oracle": Script()}, first_right("azure"))
    await a_life_with_a_failover(made)
    return made


async def test_the_page_is_what_the_export_says() -> None:
    world = await a_world_with_a_failover()
    recounted = Recount(export(MemoryLedger(world.disk).snapshot()))
    assert by_value(shown(dict(world.disk.counters))) == by_value(dict(recounted.found))
    assert recounted.found['orchestrator_failovers_total{origin="coreweave",target="oracle"}'] == 1


async def test_it_is_so_after_a_restart_too() -> None:
    world = await a_world_with_a_failover()
    await a_life_with_a_failover(world)
    recounted = Recount(export(MemoryLedger(world.disk).snapshot()))
    assert recounted.found["orchestrator_leads_total"] == 2
    assert by_value(shown(dict(world.disk.counters))) == by_value(dict(recounted.found))
