"""What happened, in sentences: what does each event say, and why was it so?

Called wherever somebody reads the ledger: the demo, `explain`, the timeline's drawing, the API. Sentences are rendered
on reading and never stored. Every line has a plain form without times and numbers (what a golden file compares) and a
detail with them. Pure: the same events give the same lines; it never decides and never looks anything up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.numbers import clock, dollars, join, moment, so_many, span
from orchestrator.core.reasons import why
from orchestrator.model import event as ev
from orchestrator.model.contract import Trigger
from orchestrator.model.placement import Freed


class Tone(StrEnum):
    """How a line is meant: to colour it, never to decide by it."""

    PLAIN = "plain"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


class Line(Struct, frozen=True, kw_only=True):
    """One sentence about one event."""

    at: int
    """Microseconds UTC."""
    kind: str
    provider: str = ""
    """Whom it concerns; empty: the job itself or the whole ledger."""
    plain: str
    """The sentence without times and numbers."""
    detail: str = ""
    """The times and numbers to it; may be empty."""
    tone: Tone = Tone.PLAIN
    quiet: bool = False
    """True for what only a close reader wants: left out of a timeline."""

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.plain} · {self.detail}" if self.detail else self.plain


class Scene(Struct, frozen=True):
    """What earlier events said that a later sentence needs: providers by offer and epoch, what was told already."""

    offers: Mapping[int, str] = field(default_factory=dict)
    epochs: Mapping[int, str] = field(default_factory=dict)
    episode: int = 1
    asked: bool = False
    """Whether anybody was, in this round."""
    told: frozenset[tuple[str, str]] = frozenset()
    """(provider, reason) passed over in this episode: said once."""
    fencing: str = ""
    """Why the fence that is under way is wanted."""
    scaled: frozenset[int] = frozenset()
    """Epochs that a wish for another size has stopped."""


def timeline(events: Iterable[tuple[int, ev.AnyEvent]], *, quiet: bool = False) -> list[Line]:
    """The lines of one job's events, given as (microseconds UTC, event) in order; `quiet` True for all of them."""
    scene, lines = Scene(), []
    for at, event in events:
        scene, told = tell(scene, at, event)
        lines += [line for line in told if quiet or not line.quiet]
    return lines


def golden(lines: Iterable[Line]) -> str:
    """The plain form of a timeline, one line each: equal for equal stories, whenever and however fast they happened."""
    return "".join(f"{line.plain}\n" for line in lines)


def tell(scene: Scene, at: int, event: ev.AnyEvent) -> tuple[Scene, tuple[Line, ...]]:
    """The lines of one event (most have one, a decision also one per provider passed over), and the scene after it."""
    kind = ev.kind_of(event)
    passed = _passed_over(scene, at, kind, getattr(event, "skipped", ()))
    after = _next(scene, event)
    line = _TELL[kind](scene, event, Line(at=at, kind=kind, plain=""))
    return replace(after, told=after.told | {(p.provider, p.plain) for p in passed}), (*passed, line)


def _next(scene: Scene, event: ev.AnyEvent) -> Scene:
    match event:
        case ev.OfferOpened(n=n, provider=provider, episode=episode):
            told = scene.told if episode == scene.episode else frozenset[tuple[str, str]]()
            return replace(scene, offers={**scene.offers, n: provider}, episode=episode, told=told, asked=True)
        case ev.RoundEnded() | ev.Started():  # behind a start there is another episode, in which nobody was yet
            return replace(scene, asked=False)
        case ev.Intended(epoch=epoch, provider=provider):
            return replace(scene, epochs={**scene.epochs, epoch: provider})
        case ev.Fencing(why=reason):
            return replace(scene, fencing=reason)
        case ev.Scaled(epoch=epoch):
            return replace(scene, scaled=scene.scaled | {epoch})
        case _:
            return scene


def _passed_over(scene: Scene, at: int, kind: str, skipped: tuple[ev.Skip, ...]) -> tuple[Line, ...]:
    lines = (
        Line(
            at=at, kind=kind, provider=skip.provider, tone=Tone.WARN,
            plain=f"{skip.provider} passed over: {why(skip.reason)}",
            detail=f"until {clock(skip.until, at)}" if skip.until else "",
        )
        for skip in skipped
    )  # fmt: skip
    return tuple(line for line in lines if (line.provider, line.plain) not in scene.told)


# ---- one small function per kind -------------------------------------------------------------------------------------


def _say(line: Line, plain: str, detail: str = "", **more: Any) -> Line:
    return replace(line, plain=plain, detail=detail, **more)


def _opened(scene: Scene, e: ev.OfferOpened, line: Line) -> Line:
    where = f"first right of {e.clause}" if e.clause else "open market"
    if e.block:
        room = f", which has room for {so_many(e.most)}" if e.most is not None else ""
        where = f"owned capacity {e.block}{room}" + (f", behind the {where}" if e.clause else "")
    grown = ", to be larger" if e.trigger == Trigger.SCALE_UP else ""
    again = f"episode {e.episode}{grown}: " if e.episode != scene.episode else ""
    hold = f"{dollars(e.hold)} held" if e.hold is not None else ""
    until = clock(e.free_until, line.at) if again and e.free_until is not None else ""
    good = f"refusals of an earlier episode are good for it until {until}" if until else ""
    detail = join(f"window {span(e.window // 1000)}", hold, good)
    plain = "; ".join([f"{again}offered to {e.provider}: {where}", *map(freed, e.freed)])
    return _say(line, plain, detail, provider=e.provider)


def freed(free: Freed) -> str:
    """Why a clause that would hold does not."""
    if free.exemption:
        return f"{free.clause} exempts it by {free.exemption} ({why(free.because)})"
    return f"{free.clause} does not hold: {why(free.how)}"


def _delivered(scene: Scene, e: ev.OfferDelivered, line: Line) -> Line:
    provider = scene.offers.get(e.n, "")
    return _say(line, f"{provider} has the offer", provider=provider, quiet=True)


def _delivery_failed(scene: Scene, e: ev.DeliveryFailed, line: Line) -> Line:
    provider = scene.offers.get(e.n, "")
    nobody = ", nor does anything reach anybody: that is no refusal" if e.unheard else ""
    return _say(line, f"the offer does not reach {provider}{nobody}", e.why, provider=provider, tone=Tone.WARN)


def _answered(scene: Scene, e: ev.OfferAnswered, line: Line) -> Line:
    provider = scene.offers.get(e.n, "")
    if e.accepted:
        price = f"{dollars(e.price)} per GPU-hour" if e.price is not None else ""
        plain = f"{provider} accepted{_workers(e.workers)}" + (" on spot machines" if e.spot else "")
        return _say(line, plain, join(price, e.region), provider=provider, tone=Tone.GOOD)
    until = f"until {clock(e.until, line.at)}" if e.until else ""
    covers = f"whole {e.scope}" if e.scope else ""
    plain = f"{provider} declined: {why(e.reason)}"
    return _say(line, plain, join(e.detail.rstrip("."), covers, until), provider=provider, tone=Tone.WARN)


def _workers(accepted: int | None) -> str:
    """Of an elastic or divisible job, how large it will be."""
    return "" if accepted is None else f" with {so_many(accepted)}"


def _split(scene: Scene, e: ev.Split, line: Line) -> Line:
    provider = scene.offers.get(e.n, "")
    plain = f"split: {provider} took {so_many(e.workers)}, the other {e.left} are a job of their own"
    return _say(line, plain, e.rest, provider=provider)


def _late(scene: Scene, e: ev.LateAnswer, line: Line) -> Line:
    word = "yes" if e.accepted else "no"
    provider = scene.offers.get(e.n, "")
    return _say(line, f"{provider} said {word} too late: the offer was closed", provider=provider, quiet=True)


def _lapsed(scene: Scene, e: ev.OfferLapsed, line: Line) -> Line:
    provider = scene.offers.get(e.n, "")
    silent = e.how == "silence"
    plain = f"{provider} stayed silent: refused" if silent else f"{provider} could not be reached in time: refused"
    return _say(line, plain, f"window ended {clock(e.deadline)}", provider=provider, tone=Tone.WARN)


def _withdrawn(scene: Scene, e: ev.OfferWithdrawn, line: Line) -> Line:
    provider = scene.offers.get(e.n, "")
    return _say(line, f"offer to {provider} withdrawn: {why(e.why)}", provider=provider, tone=Tone.WARN)


def _round_ended(scene: Scene, e: ev.RoundEnded, line: Line) -> Line:
    plain = f"{'everybody refused: asked' if scene.asked else 'nobody could be asked: tried'} again in a new round"
    return _say(line, plain, f"at {clock(e.until, line.at)} or when capacity is released", tone=Tone.WARN)


def _intended(scene: Scene, e: ev.Intended, line: Line) -> Line:
    price = f"{dollars(e.price)} per GPU-hour" if e.price is not None else ""
    plain = f"launching at {e.provider}{_workers(e.workers)}"
    return _say(line, plain, join(e.region, e.accelerator, price), provider=e.provider, quiet=True)


def _confirmed(scene: Scene, e: ev.LaunchConfirmed, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    return _say(line, f"{provider} holds the launch", provider=provider, quiet=True)


def _unknown(scene: Scene, e: ev.WentUnknown, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    return _say(line, f"{provider} {why(e.why)} → unknown", e.detail.rstrip("."), provider=provider, tone=Tone.WARN)


def _seen(scene: Scene, e: ev.SeenAgain, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    return _say(line, f"found again at {provider} by its {e.how}", provider=provider, tone=Tone.GOOD)


def _reclaim(scene: Scene, e: ev.ReclaimNoticed, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    plain = f"{provider} gives notice that it takes its machines back: asked to save and stop"
    return _say(line, plain, f"until {clock(e.until, line.at)}", provider=provider, tone=Tone.WARN)


def _started(scene: Scene, e: ev.Started, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    if not e.resumed_epoch:
        return _say(line, f"running at {provider}", provider=provider, tone=Tone.GOOD)
    step = f"step {e.resumed_step} of attempt {e.resumed_epoch}"
    waited = "confirmed" if e.cleared else f"waited {span(e.waited_ms)}"
    plain = f"resumed at {provider} from its checkpoint"
    return _say(line, plain, join(step, f"{waited} to be alone"), provider=provider, tone=Tone.GOOD)


def _fencing(scene: Scene, e: ev.Fencing, line: Line) -> Line:
    return _fence(scene, e.epoch, e.why, replace(line, quiet=True), "is being fenced off")


def _fenced(scene: Scene, e: ev.Fenced, line: Line) -> Line:
    line = replace(line, tone=Tone.WARN)
    return _fence(scene, e.epoch, scene.fencing, line, "is fenced off and can save nothing any more")


def _fence(scene: Scene, epoch: int, code: str, line: Line, said: str) -> Line:
    """Of whoever had the newest attempt that is behind the fence."""
    provider = scene.epochs.get(max((n for n in scene.epochs if n < epoch), default=0), "")
    reason = f"{_because(scene, code, epoch - 1)}: " if code else ""
    where = f"at {provider}" if provider else "anywhere"
    return _say(line, f"{reason}what may still run {where} {said}", f"attempts before {epoch}", provider=provider)


def _because(scene: Scene, code: str, epoch: int) -> str:
    """A reason in words. A ledger that was put back may not know of the size for which the run log asked it to stop."""
    return why("scale_lost" if code == "scaled" and epoch not in scene.scaled else code)


def _ended(scene: Scene, e: ev.Ended, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    line = replace(line, provider=provider)
    detail = join(
        e.detail.rstrip("."),
        f"evidence of a breach: its capacity is firm ({e.firm})" if e.firm else "",
        f"ran {span(e.ran_ms)}" if e.ran_ms else "",
        dollars(e.charge) if e.charge is not None else "",
    )
    if e.fails:
        code = f"exit {e.exit}" if e.exit is not None else ""
        return _say(line, f"failed at {provider}: {why(e.fails)}", join(code, detail), tone=Tone.BAD)
    if e.how == "done":
        return _say(line, f"done at {provider}", detail, tone=Tone.GOOD)
    reason = f": {_because(scene, e.why, e.epoch)}" if e.why else ""
    spoken = {
        "released": f"attempt at {provider} released{reason}",
        "rejected": f"{provider} rejected the launch{reason}",
        "fenced": f"attempt at {provider} given up{reason}",
        "gone": f"attempt at {provider} is gone{reason}",
    }
    return _say(line, spoken.get(e.how, e.how), detail, tone=Tone.WARN, quiet=e.how == "fenced")


def _charged(scene: Scene, e: ev.Charged, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    return _say(line, f"billed by {provider}", dollars(e.charge), provider=provider, quiet=True)


def _accessed(scene: Scene, e: ev.Accessed, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    where = f"at {provider}" if e.rank is None else f"at rank {e.rank} of {provider}"
    wanted = {  # what came of it is not in the ledger: there may be no such rank, command or port
        "exec": f"run {e.name} {where}",
        "logs": f"read the output {where}",
        "dump": f"look at the stacks {where}",
        "forward": f"open port {e.name} {where}",
    }
    return _say(line, f"{e.by or 'somebody'} asked to {wanted.get(e.what, e.what)}", provider=provider)


def _submitted(scene: Scene, e: ev.Submitted, line: Line) -> Line:
    if e.rest is not None:
        return _say(line, "what was left of a job that was split", join(e.name, f"offer {e.rest.offer}"))
    return _say(line, "submitted", join(e.name, f"by {e.by}" if e.by else ""))


def _held(scene: Scene, e: ev.Held, line: Line) -> Line:
    return _say(line, f"held: {why(e.reason)}", tone=Tone.BAD)


def _scaled(scene: Scene, e: ev.Scaled, line: Line) -> Line:
    provider = scene.epochs.get(e.epoch, "")
    stops = f"; what runs at {provider} is asked to save and stop" if e.epoch else ""
    return _say(line, f"to have {so_many(e.workers, e.least)}{stops}", f"by {e.by}" if e.by else "", provider=provider)


def _swept(scene: Scene, e: ev.Swept, line: Line) -> Line:
    plain = f"swept at {e.provider}: alive and nobody's business"
    return _say(line, plain, f"{e.key}, {e.gpus} GPUs", provider=e.provider, tone=Tone.WARN)


def _recorded(scene: Scene, e: ev.Recorded, line: Line) -> Line:
    r = e.record
    subject = r.job or (f"project {r.project}" if r.project else "") or ", ".join(r.classes) or "every job"
    subject += " that cites it" if r.cited else ""
    subject = f"more of {r.block}, to {moment(r.block_to)}" if r.block_to is not None else subject
    said = {
        "consent": f"{r.holder} consents to {subject} elsewhere",
        "evidence": f"evidence {r.name} for {subject}",
        "waiver": f"{r.holder} waives {subject}" + (f" up to {r.gpus} GPUs" if r.gpus else ""),
        "event": f"{r.name} has happened",
        "class": f"{subject} is of class {r.name}",
        "override": f"{r.clause} is overridden for {subject}",
    }.get(r.what, r.what)
    until = f"until {moment(r.until)}" if r.until is not None else ""
    approved = f"approved by {r.approver}" if r.approver else ""
    tone = Tone.WARN if r.what == "override" else Tone.PLAIN
    detail = join(f"by {r.by or 'somebody'}", approved, r.why.rstrip("."), until, r.id)
    return _say(line, f"on record: {said}", detail, tone=tone)


def _capacity(scene: Scene, e: ev.CapacityInForce, line: Line) -> Line:
    owned = ", ".join(f"{b.gpus} {b.accelerator} of {b.ref} until {moment(b.until_us)}" for b in e.blocks)
    return _say(line, f"capacity owned: {owned or 'none'}", f"by {e.by}" if e.by else "")


def _absent(scene: Scene, e: ev.ControllerAbsent, line: Line) -> Line:
    return _say(line, "nobody led", f"{clock(e.since)} to {clock(e.until)}", tone=Tone.WARN)


def _reachable(scene: Scene, e: ev.HolderReachable, line: Line) -> Line:
    if e.unheard:
        plain = f"nobody can be reached: no outage of {e.holder} is counted until others can"
        return _say(line, plain, provider=e.holder, tone=Tone.WARN)
    return _say(line, f"{e.holder} answers again", provider=e.holder, tone=Tone.GOOD)


_TELL: Mapping[str, Callable[[Scene, Any, Line], Line]] = {
    "Submitted": _submitted, "OfferOpened": _opened, "OfferDelivered": _delivered, "DeliveryFailed": _delivery_failed,
    "OfferAnswered": _answered, "LateAnswer": _late, "OfferLapsed": _lapsed, "OfferWithdrawn": _withdrawn,
    "RoundEnded": _round_ended, "Split": _split, "Intended": _intended, "Confirmed": _confirmed,
    "WentUnknown": _unknown, "SeenAgain": _seen, "ReclaimNoticed": _reclaim, "Started": _started, "Fencing": _fencing,
    "Fenced": _fenced, "Ended": _ended, "Charged": _charged, "Accessed": _accessed, "Held": _held, "Swept": _swept,
    "Scaled": _scaled, "ControllerAbsent": _absent, "Recorded": _recorded, "CapacityInForce": _capacity,
    "HolderUnreachable": lambda s, e, line: _say(
        line, f"{e.holder} cannot be reached, while others can", provider=e.holder, tone=Tone.WARN
    ),
    "HolderReachable": _reachable,
    "Restored": lambda s, e, line: _say(line, "the ledger was put back from a backup", tone=Tone.WARN),
    "LogsRead": lambda s, e, line: _say(line, "every run log was read since", quiet=True),
    "CancelAsked": lambda s, e, line: _say(line, "cancel asked", f"by {e.by}" if e.by else "", tone=Tone.WARN),
    "Cancelled": lambda s, e, line: _say(line, "cancelled", tone=Tone.BAD),
    "Failed": lambda s, e, line: _say(line, f"failed: {why(e.reason)}", tone=Tone.BAD),
    "Resumed": lambda s, e, line: _say(line, f"goes on: {why(e.by)}", tone=Tone.GOOD),
    "Reshaped": lambda s, e, line: _say(line, "seen otherwise by the contracts in force", quiet=True),
    "Led": lambda s, e, line: _say(line, "a server took the lead", f"term {e.term}", quiet=True),
    "ContractInForce": lambda s, e, line: _say(line, "contracts in force", f"version {e.n}", quiet=True),
    "ProvidersInForce": lambda s, e, line: _say(line, "providers in force", f"version {e.n}", quiet=True),
}  # fmt: skip
