"""The machine in the shed as a provider: every launch is one process with a folder, which outlives the server.

It sells CPUs, answers by itself, and keeps nothing in memory but earmarks: what runs is read from the folders and from
the processes' own environments, so a restarted server finds everything under its key.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.model import offer as say
from orchestrator.model.placement import parse_terms
from orchestrator.ports.provider import Misconfigured
from orchestrator.ports.runtime import Tools

LOOK_S, GRACE_US = 0.2, 10_000_000
START = 'exec >>output 2>&1; test -e stop && exit; set -C; echo $$ >started && exec "$PYTHON" -m orchestrator.agent'
"""The process itself says that it has begun, in a file that only one can make: a key launched twice runs once."""


class Shed:
    """`orchestrator.ports.provider.Provider`, by the entry point `shed`; `connection: {folder: /var/shed, cpus: 8}`."""

    def __init__(self, name: str, connection: Mapping[str, Any], tools: Tools) -> None:
        folder, cpus = connection.get("folder"), connection.get("cpus", os.cpu_count())
        if set(connection) - {"folder", "cpus"} or not isinstance(folder, str) or not isinstance(cpus, int):
            raise Misconfigured(f"provider {name}: connection is not {{folder: /a/path, cpus: 8}}; mend providers.yaml")
        self.name, self._folder, self._cpus, self._now = name, Path(folder).absolute(), cpus, tools.clock.now_us
        self._answers: dict[str, say.Answer] = {}
        self._earmarks: dict[str, int] = {}  # CPUs, by offer
        self._folder.mkdir(parents=True, exist_ok=True)

    async def capabilities(self) -> say.Capabilities:
        """Answers are in receipts; a key is the name of a folder, so it is recognised for ever."""
        return say.Capabilities(answers_itself=True)

    async def place_offers(self, offers: Sequence[say.OfferOut]) -> Sequence[say.Receipt | say.Undelivered]:
        """One id, one answer."""
        answers = [(o, self._answers.get(o.offer) or self._answer(o)) for o in offers]
        return [say.Receipt(o.offer, o.offer, None, answer, o.ledger_head, o.ordinal) for o, answer in answers]

    def _answer(self, offer: say.OfferOut) -> say.Answer:
        terms, said = parse_terms(offer.terms), dict[str, Any](accepted=False)
        if terms.fewest != 1 or terms.gpus or terms.cpus > self._cpus:
            said |= {"reason": say.Reason.SPEC, "detail": f"one worker of {self._cpus} CPUs, without GPUs, is the most"}
        elif terms.cpus > self._free():
            said |= {"reason": say.Reason.CAPACITY, "detail": "the shed is full"}
        else:
            self._earmarks[offer.offer] = terms.cpus
            region = next(iter(terms.regions), "")
            said = {"accepted": True, "terms_hash": offer.terms_hash, "price": 0, "region": region, "workers": 1}
        return self._answers.setdefault(offer.offer, say.Answer(offer=offer.offer, **said))

    async def launch(self, orders: Sequence[say.LaunchOrder]) -> Sequence[say.LaunchReply]:
        """The folder first, then the process: whatever we die between, the same key goes on from there."""
        return [self._launch(order) for order in orders]

    def _launch(self, order: say.LaunchOrder) -> say.LaunchReply:
        folder, made = self._folder / order.key, self._folder / f".{order.key}"
        self._earmarks.pop(order.offer, None)
        if not folder.exists():
            made.mkdir(exist_ok=True)
            (made / "order").write_text(json.dumps([order.ledger, order.cpus]))
            if order.cpus > self._free():
                (made / "stop").write_text("0")
            made.rename(folder)
        if not (folder / "started").exists():
            if (folder / "stop").exists():
                return say.Rejected(order.key, say.Reason.CAPACITY, detail="the shed was full, or it was stopped")
            told = {"ORCHESTRATOR_ATTEMPT": order.attempt, "SHED_KEY": order.key, "PYTHON": sys.executable}
            subprocess.Popen(["sh", "-c", START], cwd=folder, env={**os.environ, **told}, start_new_session=True)
        return say.Confirmed(order.key, str(folder))

    async def stop(self, keys: Sequence[str]) -> Sequence[say.StopReply]:
        """SIGTERM to whatever carries the key; later SIGKILL. We are asked again until a listing shows it gone."""
        alive = self._alive()
        for key in keys:
            asked = self._folder / key / "stop"
            if asked.parent.exists() and not asked.exists():
                asked.write_text(str(self._now()))
            late = asked.exists() and self._now() - int(asked.read_text()) > GRACE_US
            for pid in alive.get(key, ()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        return [say.StopReply(key, acknowledged=True) for key in keys]

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """Forget what was kept for them."""
        self._earmarks = {offer: cpus for offer, cpus in self._earmarks.items() if offer not in offers}
        return offers

    async def observe(self, cursor: str | None, wait_us: int) -> say.Observation:
        """The cursor is what was last told, so nothing is lost and nothing need be remembered."""
        told, until = json.loads(cursor or "{}"), self._now() + wait_us
        while (there := self._there()) == told and self._now() < until:  # noqa: ASYNC110 - folders call nobody
            await asyncio.sleep(LOOK_S)
        now, gone = self._now(), {key: ["gone", *told[key][1:]] for key in told.keys() - there.keys()}
        news = ((key, what) for key, what in (there | gone).items() if told.get(key) != what)
        seen = tuple(say.Sighting(key, say.SightingState(what[0]), now, what[1], (key,)) for key, what in news)
        return say.Observation(json.dumps(there), now, sightings=seen)

    async def list_ours(self) -> say.Listing:
        """Every folder whose end was not asked for, and every process that carries a key."""
        seen = await self.observe(None, 0)
        return say.Listing(seen.as_of, seen.sightings)

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """What the process has printed."""
        if (output := self._folder / key / "output").exists():
            yield output.read_bytes()

    async def check(self) -> Sequence[str]:
        """The folder must be ours to write."""
        return [] if os.access(self._folder, os.W_OK) else [f"{self._folder} cannot be written; make it the server's"]

    async def aclose(self) -> None:
        """Nothing is held open; processes live on."""

    def _alive(self) -> dict[str, list[int]]:
        """Processes by the key in their environments, which their children have too."""
        found: dict[str, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # not ours, or it has just ended
                for key in re.findall(rb"(?:^|\0)SHED_KEY=([^\0]+)", path.read_bytes()):
                    found.setdefault(key.decode(), []).append(int(path.parent.name))
        return found

    def _there(self) -> dict[str, list[Any]]:
        """State, ledger and CPUs of everything that is not gone, by its key."""
        alive, found = self._alive(), {}
        for folder in self._folder.glob("[!.]*"):
            started, stopped, lives = (folder / "started").exists(), (folder / "stop").exists(), folder.name in alive
            if lives or not stopped:  # what was cut off before its process began, begins when it is launched again
                begun = "running" if lives else "ended"
                state = "stopping" if stopped else begun if started else "provisioning"
                found[folder.name] = [state, *json.loads((folder / "order").read_text())]
        return found

    def _free(self) -> int:
        used: int = sum(cpus for state, _, cpus in self._there().values() if state != "ended")
        return self._cpus - used - sum(self._earmarks.values())
