"""What runs at a pretended supplier? Launches by key: provisioning, lives on machines, stops, deaths, listings, bills.

Called by `testing.scripted`. One key is one launch for ever, unless the script says `copies`. A launch whose lives
have ended keeps (and bills) its machines until it is stopped or too old, as clouds do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from orchestrator.model.offer import (
    Charge,
    Confirmed,
    LaunchOrder,
    Notice,
    OutcomeUnknown,
    Rejected,
    Sighting,
    SightingState,
)
from orchestrator.testing import scripts as do
from orchestrator.testing.pretend.offers import Offers
from orchestrator.testing.pretend.stage import RECLAIM, Stage

_HAPPENED = {
    SightingState.RUNNING: "started",
    SightingState.ENDED: "job_ended",
    SightingState.GONE: "ended",
}
"""How the journal calls what a sighting tells."""


class Life(Protocol):
    """One attempt living on machines, whatever plays it (`testing.agents.SimulatedAgent`)."""

    def kill(self) -> None:
        """Dies at once, without a word to any log."""
        ...

    def freeze(self, frozen: bool) -> None:
        """Stands still, or goes on as if nothing had been."""
        ...

    def cut(self, cut: bool) -> None:
        """Its checkpoint store is out of reach, or in reach again."""
        ...


class Ground(Protocol):
    """Whom a life tells what becomes of it."""

    def stepped(self, key: str, step: int) -> None:
        """User code has finished this step."""
        ...

    def over(self, key: str, note: str) -> None:
        """The attempt's processes have ended by themselves."""
        ...


class Crew(Protocol):
    """Starts the attempts that run at suppliers (`testing.agents.Site`)."""

    def begin(self, order: LaunchOrder, machine: str, ground: Ground) -> Life:
        """One attempt starts on this machine now."""
        ...


@dataclass(slots=True)
class Launch:
    """A launch as the supplier holds it. Times are microseconds UTC."""

    order: LaunchOrder
    reply: Confirmed | Rejected
    made_at: int
    state: SightingState = SightingState.PROVISIONING
    machines: tuple[str, ...] = ()
    waits: str = ""
    """Why it never runs; empty: it does, or nobody says."""
    lives: list[Life] = field(default_factory=list)
    running_at: int | None = None
    stops: int = 0

    @property
    def gpus(self) -> int:
        """Over all workers."""
        return self.order.gpus * self.order.workers

    @property
    def alive(self) -> bool:
        """Whether anything of it exists."""
        return self.state is not SightingState.GONE


class Machines:
    """Every launch ever ordered here; also the `Ground` on which lives stand."""

    def __init__(self, stage: Stage, offers: Offers, crew: Crew | None, on_step: Callable[[int], None]) -> None:
        self._stage, self._offers, self._crew, self._on_step = stage, offers, crew, on_step
        self.launches: dict[str, Launch] = {}
        self._lost: set[str] = set()
        self._cut = self._frozen = False
        self.foreign = set(stage.stock.foreign)
        """Machines of others under our account: never listed, never to be touched."""

    # ---- launching -------------------------------------------------------------------------------------------------

    def launch(self, order: LaunchOrder) -> Confirmed | Rejected | OutcomeUnknown:
        """Take an order; the same key again is the same launch, unless `idempotency` is not among our promises."""
        known = self.launches.get(order.key)
        if known is not None:
            if known.alive and not self._stage.capabilities.idempotency:
                self._stage.note("created", order.key, gpus=known.gpus, ledger=order.ledger)
            return known.reply
        line = self._line(order.key)
        if isinstance(line, do.RequestLost):
            return OutcomeUnknown(order.key, "no reply; the request may not have arrived")
        launch = self._take(order, line)
        if isinstance(line, do.Starts) and line.reply_lost:
            return OutcomeUnknown(order.key, "no reply; the connection broke while waiting for it")
        return launch.reply

    def _line(self, key: str) -> do.Do:
        """The script's line for a new key; a key whose request was lost is started when it comes again."""
        if key in self._lost:
            self._lost.discard(key)
            return do.Starts()
        part, number = self._stage.script.launches, len(self.launches) + len(self._lost)
        line = part[number] if number < len(part) else do.Starts()
        self._stage.spoken.append(line)
        if isinstance(line, do.RequestLost):
            self._lost.add(key)
        return line

    def _take(self, order: LaunchOrder, line: do.Starts | do.NeverStarts | do.Rejects) -> Launch:
        launch = Launch(order, Confirmed(order.key, f"{self._stage.name}-c{len(self.launches) + 1}"), self._now())
        self.launches[order.key] = launch
        missing = launch.gpus - self._offers.earmarked(order.offer)
        if not isinstance(line, do.Rejects) and not self._stage.fits(missing):
            line = do.Rejects(detail="no GPUs free")
        if isinstance(line, do.Rejects):
            self._offers.unmark(order.offer)
            launch.state = SightingState.GONE
            launch.reply = Rejected(order.key, line.reason, line.scope, self._stage.until(line.for_s), line.detail)
            self._stage.note("refused", order.key)
            self._leave(launch, line.leaves)
            return launch
        self._offers.use(order.offer)
        self._stage.take(launch.gpus)
        self._stage.note("created", order.key, gpus=launch.gpus, ledger=order.ledger)
        self._provision(launch, line)
        return launch

    def _leave(self, launch: Launch, count: int) -> None:
        """A part of a gang that was refused: machines that are there, on which nothing ever runs."""
        if count:
            launch.state = SightingState.PROVISIONING
            launch.machines = tuple(f"{launch.order.key}-m{n}" for n in range(1, count + 1))
            self._stage.take(launch.gpus)
            self._stage.note("created", launch.order.key, gpus=launch.gpus, ledger=launch.order.ledger)

    def _provision(self, launch: Launch, line: do.Starts | do.NeverStarts) -> None:
        copies = line.copies if isinstance(line, do.Starts) else 1
        count = launch.order.workers * copies
        launch.machines = tuple(f"{launch.order.key}-m{n}" for n in range(1, count + 1))
        launch.waits = line.detail if isinstance(line, do.NeverStarts) else ""
        if self._stage.capabilities.delete_after:
            self._stage.later(launch.order.delete_after_ms / 1000, self._gone, launch, "too old")
        if self._crew is not None:
            self._see(launch, SightingState.PROVISIONING)
            if isinstance(line, do.Starts):
                self._stage.later(line.after_s, self._run, launch, copies)

    def _run(self, launch: Launch, copies: int) -> None:
        if launch.state is not SightingState.PROVISIONING or self._crew is None:
            return
        launch.running_at = self._now()
        self._see(launch, SightingState.RUNNING)
        for machine in launch.machines[:: launch.order.workers][:copies]:
            life = self._crew.begin(launch.order, machine, self)
            life.cut(self._cut)
            life.freeze(self._frozen)
            launch.lives.append(life)
        if self._frozen:
            self._stage.note("frozen", launch.order.key)

    # ---- the ground ------------------------------------------------------------------------------------------------

    def stepped(self, key: str, step: int) -> None:
        """See Ground."""
        self._on_step(step)

    def over(self, key: str, note: str) -> None:
        """See Ground. The machines stay until somebody stops them."""
        launch = self.launches[key]
        if launch.state is SightingState.RUNNING:
            self._see(launch, SightingState.ENDED, note)
            self._bill(launch, final=False)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def stop(self, key: str) -> None:
        """Ask for its end; unknown keys and repetitions are fine."""
        launch = self.launches.get(key)
        if launch is None or not launch.alive:
            return
        launch.stops += 1
        self._stage.note("delete_asked", key)
        script = self._stage.script
        if launch.stops <= script.stops_ignored:
            self._stage.spoken.append(do.StopIgnored())
        if launch.stops > script.stops_ignored and launch.state is not SightingState.STOPPING:
            self._see(launch, SightingState.STOPPING)
        if launch.stops > script.stops_ignored + script.stops_stuck:
            self._stage.later(script.stop_s, self._gone, launch, "stopped")

    def kill(self, key: str | None = None) -> None:
        """Every machine (of one key) dies now."""
        for launch in self._alive():
            if key in (None, launch.order.key):
                self._stage.note("killed", launch.order.key)
                self._gone(launch, "died")

    def reclaim(self, notice_s: float) -> None:
        """Every machine is taken back so many seconds from now; the feed says so at once."""
        for launch in self._alive():
            key = launch.order.key
            self._stage.tell(Notice(RECLAIM, key=key, until=self._stage.until(notice_s)))
            self._stage.later(notice_s, self.kill, key)

    def _gone(self, launch: Launch, why: str) -> None:
        if not launch.alive:
            return
        for life in launch.lives:
            life.kill()
        self._see(launch, SightingState.GONE, why)
        self._bill(launch, final=True)
        self._stage.release(launch.gpus)

    def freeze(self, frozen: bool) -> None:
        """Everything that runs stands still, or goes on."""
        self._frozen = frozen
        for launch in self._alive():
            self._stage.note("frozen" if frozen else "thawed", launch.order.key)
            for life in launch.lives:
                life.freeze(frozen)

    def cut(self, cut: bool) -> None:
        """Nothing that runs reaches its store, or everything does again."""
        self._cut = cut
        for launch in self._alive():
            for life in launch.lives:
                life.cut(cut)

    # ---- what is seen and billed -----------------------------------------------------------------------------------

    def listing(self) -> tuple[Sighting, ...]:
        """Everything alive that was made more than the declared lag ago."""
        oldest = self._now() - self._stage.capabilities.list_lag_us
        return tuple(self._sighting(launch) for launch in self._alive() if launch.made_at <= oldest)

    def _alive(self) -> list[Launch]:
        return [launch for launch in self.launches.values() if launch.alive]

    def _now(self) -> int:
        return self._stage.clock.now_us()

    def _sighting(self, launch: Launch, detail: str = "") -> Sighting:
        order = launch.order
        detail = detail or launch.waits
        return Sighting(order.key, launch.state, self._now(), order.ledger, launch.machines, launch.gpus, detail)

    def _see(self, launch: Launch, state: SightingState, detail: str = "") -> None:
        launch.state = state
        if state in _HAPPENED:
            self._stage.note(_HAPPENED[state], launch.order.key, detail=detail)
        self._stage.tell(self._sighting(launch, detail))

    def _bill(self, launch: Launch, final: bool) -> None:
        if launch.running_at is None:
            return
        gpu_seconds = launch.gpus * (self._now() - launch.running_at) // 1_000_000
        price = self._price(launch.order)
        charge = Charge(f"{launch.order.key}-bill", launch.order.key, price * gpu_seconds // 3600, gpu_seconds, final)
        self._stage.tell(charge)
        script = self._stage.script
        if final and (script.bills_twice or script.bills_anew):
            self._stage.spoken.append(do.BilledTwice())
            self._stage.tell(replace(charge, id=charge.id + "-again") if script.bills_anew else charge)

    def _price(self, order: LaunchOrder) -> int:
        put = self._offers.puts.get(order.offer)
        agreed = put.answer.price if put is not None and put.answer is not None else None
        return self._stage.prices.get(order.accelerator, 0) if agreed is None else agreed
