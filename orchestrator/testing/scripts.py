"""What can a provider do to us? The lines of a `ScriptedProvider`'s part, as data.

Written by tests, read by `testing.scripted`. Seconds are of the story's clock; money is integer micro-dollars per
GPU-hour. A line says what happens, never how; the provider that speaks it decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.offer import OfferOut, Reason, Scope

# ---- to an offer ---------------------------------------------------------------------------------------------------


class Accepts(Struct, frozen=True, kw_only=True):
    """Yes, if capacity allows; None = what the provider's own price and region say, and all workers that fit."""

    after_s: float = 0.0
    price: int | None = None
    region: str | None = None
    accelerator: str | None = None
    workers: int | None = None
    ttl_s: float | None = 600.0
    spot: bool = False


class Declines(Struct, frozen=True, kw_only=True):
    """No, with a scope, for `for_s` (None: this offer only). `covers`: a waiver, (classes, GPUs, seconds from now)."""

    reason: Reason = Reason.CAPACITY
    scope: Scope = Scope.PROVIDER
    for_s: float | None = None
    after_s: float = 0.0
    detail: str = ""
    covers: tuple[tuple[str, ...], int, float] | None = None


class Counters(Struct, frozen=True, kw_only=True):
    """A yes to other terms than ours: it names a hash that is not the offer's."""

    price: int | None = None
    after_s: float = 0.0


class Silent(Struct, frozen=True):
    """Takes the offer and never says a word."""


class Dithers(Struct, frozen=True, kw_only=True):
    """Sends `considering` notices every `every_s` for `for_s`, then does the next thing (perhaps nothing)."""

    for_s: float
    then: Accepts | Declines | Counters | Silent
    every_s: float = 5.0


Say: TypeAlias = Accepts | Declines | Counters | Silent | Dithers

# ---- to a launch ---------------------------------------------------------------------------------------------------


class Starts(Struct, frozen=True, kw_only=True):
    """Confirmed; its machines run after `after_s`. `copies` 2: launched twice under one key."""

    after_s: float = 2.0
    reply_lost: bool = False
    copies: int = 1


class NeverStarts(Struct, frozen=True):
    """Confirmed, and provisioning for ever; `detail`: what it says of why."""

    detail: str = ""


class Rejects(Struct, frozen=True, kw_only=True):
    """Refused for good: nothing of it exists, or should not (`leaves`)."""

    reason: Reason = Reason.CAPACITY
    scope: Scope = Scope.PROVIDER
    for_s: float | None = None
    detail: str = ""
    leaves: int = 0
    """So many machines are there all the same, empty: a part of the gang."""


class RequestLost(Struct, frozen=True):
    """The launch never arrives; the caller learns only that it knows nothing."""


Do: TypeAlias = Starts | NeverStarts | Rejects | RequestLost

# ---- to a call -----------------------------------------------------------------------------------------------------


class Loses(Struct, frozen=True, kw_only=True):
    """The nth call of a verb (from 1) is lost: its request (nothing done) or its reply (done, nobody told)."""

    verb: str
    nth: int
    reply: bool = False


class Throttles(Struct, frozen=True, kw_only=True):
    """The nth call of a verb (from 1) is turned away for `for_s`; nothing done."""

    verb: str
    nth: int
    for_s: float = 1.0


Fault: TypeAlias = Loses | Throttles

# ---- to the world --------------------------------------------------------------------------------------------------


class At(Struct, frozen=True):
    """This many seconds after the provider was first called."""

    s: float


class AtStep(Struct, frozen=True):
    """When user code at this provider first finishes a step >= n."""

    n: int


When: TypeAlias = At | AtStep


class Unreachable(Struct, frozen=True, kw_only=True):
    """The control plane is away for `for_s` (None: for good); machines run on, and are there when it is back."""

    when: When
    for_s: float | None = None


class DataCut(Struct, frozen=True, kw_only=True):
    """Machines cannot reach their checkpoint store for `for_s` (None: for good)."""

    when: When
    for_s: float | None = None


class Kills(Struct, frozen=True, kw_only=True):
    """Every machine dies at once, without a word to any log."""

    when: When


class Freezes(Struct, frozen=True, kw_only=True):
    """Agents and user code stand still for `for_s`, then go on as if nothing had been."""

    when: When
    for_s: float


class Reclaims(Struct, frozen=True, kw_only=True):
    """Every machine is taken back `notice_s` after a notice that says so."""

    when: When
    notice_s: float = 30.0


class Frees(Struct, frozen=True, kw_only=True):
    """`gpus` more become free, and a notice says so."""

    when: When
    gpus: int


class StopIgnored(Struct, frozen=True):
    """An acknowledged stop did nothing (`Script.stops_ignored`)."""


class BilledTwice(Struct, frozen=True):
    """A final charge was sent once more (`Script.bills_twice`, `Script.bills_anew`)."""


Scene: TypeAlias = Unreachable | DataCut | Kills | Freezes | Frees | Reclaims

# ---- the whole part ------------------------------------------------------------------------------------------------

OfferPart: TypeAlias = Sequence[Say] | Callable[[OfferOut, int], Say]
"""What to say to the n-th distinct offer: a list (beyond its end: `Accepts()`), or a policy of (offer, n from 1)."""


class Script(Struct, frozen=True, kw_only=True):
    """All of one provider's part. The empty script accepts everything and starts everything."""

    offers: OfferPart = ()
    launches: Sequence[Do] = ()
    """To the n-th distinct launch key; beyond the end: `Starts()`."""
    scenes: Sequence[Scene] = ()
    faults: Sequence[Fault] = ()
    stops_ignored: int = 0
    """So many acknowledged stops of each key do nothing."""
    stops_stuck: int = 0
    """So many more leave it on its way out, and nothing ends before the next one."""
    stop_s: float = 1.0
    """From a stop that works until nothing is left."""
    bills_twice: bool = False
    """Each final charge is sent twice."""
    bills_anew: bool = False
    """Each final charge is sent once more under another id, so that it is a charge of its own."""
