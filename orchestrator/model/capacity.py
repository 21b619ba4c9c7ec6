"""What capacity is owned already? Blocks of accelerators at one provider, from one moment to another.

Made from the Capacity document; carried by the event `CapacityInForce`, kept in the ledger's own row, read by core and
the audit. What they decide: `core.capacity`.
"""

from __future__ import annotations

from msgspec import Struct


class Block(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One block, in force while `from_us <= t < until_us` (microseconds UTC)."""

    name: str
    provider: str
    accelerator: str
    gpus: int
    region: str
    from_us: int
    until_us: int
    price: int | None = None
    """Micro-dollars per GPU-hour that were agreed; None: not said."""
    contract: str = ""
    """By which it was acquired."""

    @property
    def ref(self) -> str:
        """How offers, attempts and people name it."""
        return f"{self.provider}/{self.name}"


def inside(block: str, provider: str) -> bool:
    """Whether what is offered or done at this provider is in the block of this ref, not beside it."""
    return block.partition("/")[0] == provider
