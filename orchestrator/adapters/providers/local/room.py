"""Is there room for this offer on this machine? Yes or a typed no, at once; one answer per offer id.

Called by the local provider. What runs is read from the launches, what was promised is in memory: an earmark ends when
its launch comes, when it is withdrawn, or after `EARMARK_US`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from orchestrator.model.offer import Answer, OfferOut, Reason, Receipt, Scope
from orchestrator.model.placement import Terms, largest, parse_terms
from orchestrator.ports.provider import Misconfigured

EARMARK_US = 600_000_000
"""An accepted offer is launched in the engine's next turn; ten minutes outlast any restart of ours."""
HERE = "local"
"""The region of a machine that has none."""
NAME = re.compile(r"[0-9]{1,4}|(GPU|MIG)-.+")
"""What CUDA_VISIBLE_DEVICES calls a GPU."""
FIELDS = frozenset({"folder", "cpus", "gpus", "python", "head"})


@dataclass(frozen=True, slots=True)
class Size:
    """CPUs and GPUs."""

    cpus: int
    gpus: int

    def holds(self, other: Size) -> bool:
        """Whether the other fits in."""
        return other.cpus <= self.cpus and other.gpus <= self.gpus

    def less(self, other: Size) -> Size:
        """What is left."""
        return Size(self.cpus - other.cpus, self.gpus - other.gpus)


def machine(connection: Mapping[str, Any], shown: str | None) -> tuple[Size, list[str]]:
    """What this machine offers, and its GPUs by name: as the connection says, else what is found.

    `shown`: CUDA_VISIBLE_DEVICES of this server; what it does not name was kept from us. Raises `Misconfigured`.
    """
    unknown = sorted(set(connection) - FIELDS)
    if unknown:
        raise Misconfigured(
            f"local: unknown connection field {', '.join(unknown)}; there are {', '.join(sorted(FIELDS))}"
        )
    size = Size(connection.get("cpus", os.cpu_count() or 1), connection.get("gpus", 0))
    if not all(isinstance(n, int) and n >= 0 for n in (size.cpus, size.gpus)):
        raise Misconfigured(f"local: cpus and gpus are whole numbers, not {size.cpus!r} and {size.gpus!r}")
    if "gpus" not in connection:
        names = visible(shown, _found_gpus())
        return Size(size.cpus, len(names)), names
    names = [str(n) for n in range(size.gpus)] if shown is None else _named(shown)
    if size.gpus > len(names):
        raise Misconfigured(
            f"local: gpus is {size.gpus}, and CUDA_VISIBLE_DEVICES shows this server {len(names)} ({shown!r}); "
            "lower the one, or let the other name more"
        )
    return size, names[: size.gpus]


def visible(shown: str | None, found: int) -> list[str]:
    """Of so many GPUs those that CUDA_VISIBLE_DEVICES shows, as it names them; None: it is not set, which shows all."""
    if shown is None:
        return [str(n) for n in range(found)]
    return [name for name in _named(shown) if found and (not name.isdecimal() or int(name) < found)]


def _named(shown: str) -> list[str]:
    """Numbers and UUIDs, each once; as for CUDA, the first that is neither ends the list."""
    return [*dict.fromkeys(takewhile(NAME.fullmatch, shown.replace(" ", "").split(",")))]


def _found_gpus() -> int:
    """NVIDIA devices that this system shows."""
    return sum(1 for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())


def _found_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def asked(terms: Terms) -> Size:
    """What these terms take, over all workers."""
    return Size(terms.cpus * terms.workers, terms.gpus)


class Room:
    """The machine's answers."""

    def __init__(self, size: Size, memory: int | None = None) -> None:
        self.size = size
        self.memory = _found_memory() if memory is None else memory
        """Bytes that this machine has: more is refused; what is in use is the kernel's to share out."""
        self._answers: dict[str, Answer] = {}
        self._earmarks: dict[str, tuple[Size, int]] = {}

    def receipt(self, offer: OfferOut, used: Size, now_us: int) -> Receipt:
        """The offer's receipt with its answer; `used`: what launches take now."""
        answer = self._answers.get(offer.offer)
        if answer is None:
            answer = self._answers[offer.offer] = self._answer(offer, used, now_us)
        return offer.receipt(f"local:{offer.offer}", answer.provider_at, answer)

    def _answer(self, offer: OfferOut, used: Size, now_us: int) -> Answer:
        terms = parse_terms(offer.terms)
        size = asked(terms.sized(terms.fewest))
        if not self.size.holds(size):
            has = f"this machine has {self.size.cpus} CPUs and {self.size.gpus} GPUs"
            return _no(offer, Reason.SPEC, f"{has}, asked for {size.cpus} and {size.gpus}", now_us)
        if (memory := terms.memory * terms.fewest) > self.memory:
            has = f"this machine has {self.memory >> 30} GiB of memory"
            return _no(offer, Reason.SPEC, f"{has}, asked for {memory >> 30}", now_us)
        free = self.free(used, now_us)
        fitting = largest(terms, lambda s: free.holds(asked(s)) and s.memory * s.workers <= self.memory)
        if fitting is None:
            return _no(offer, Reason.CAPACITY, "this machine is busy", now_us)
        self._earmarks[offer.offer] = (asked(fitting), now_us + EARMARK_US)
        return Answer(
            offer=offer.offer,
            accepted=True,
            terms_hash=offer.terms_hash,
            price=0,
            region=next(iter(terms.regions), HERE),
            accelerator=next(iter(terms.accelerators), ""),
            workers=fitting.workers,
            ttl_us=EARMARK_US,
            provider_at=now_us,
        )

    def free(self, used: Size, now_us: int, but_for: str = "") -> Size:
        """What neither runs nor is promised (to others than the offer `but_for`)."""
        left = self.size.less(used)
        for offer, (size, until) in [*self._earmarks.items()]:
            if until <= now_us:
                del self._earmarks[offer]
            elif offer != but_for:
                left = left.less(size)
        return left

    def release(self, offer: str) -> bool:
        """End an earmark; whether there was one."""
        return self._earmarks.pop(offer, None) is not None


def _no(offer: OfferOut, reason: Reason, detail: str, now_us: int) -> Answer:
    return Answer(
        offer=offer.offer, accepted=False, reason=reason, scope=Scope.PROVIDER, detail=detail, provider_at=now_us
    )
