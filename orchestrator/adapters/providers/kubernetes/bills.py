"""Which bills were told, so that each launch has one, whoever asks for it and however often?

Asked by the scribe when a launch is gone and when its record is closed, whichever is first; the bill itself is worked
out once (`billing`). A server before us may have been cut off before the engine had written a bill down: the newest of
those in closed records are told again, as they are, and count as told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.adapters.providers.kubernetes import billing, records
from orchestrator.adapters.providers.kubernetes.resources import LEDGER, Record
from orchestrator.adapters.providers.kubernetes.sightings import Launch
from orchestrator.model.offer import Charge

AGAIN = 1_000
"""Bills told again after a restart: far more than are told between two replies that we have written down."""


class Bills:
    """The bills of one ledger's launches in one cluster."""

    def __init__(self, ledger: str, tell: Callable[[Charge], None]) -> None:
        self._ledger, self._tell = ledger, tell
        self._told: dict[str, Charge] = {}

    def settle(self, launch: Launch) -> Charge | None:
        """The bill of a launch that is gone, told once; None: there is none, or it is another ledger's."""
        charge = self._told.get(launch.key)
        if charge is None and launch.ledger == self._ledger:
            charge = billing.bill(launch)
            if charge is not None:
                self._add(charge)
        return charge

    def restore(self, closed: Iterable[Record]) -> None:
        """Tell the newest of these records' bills again."""
        for record in sorted(closed, key=records.closed_at)[-AGAIN:]:
            charge = billing.told(record)
            if charge is not None and record.metadata.label(LEDGER) == self._ledger:
                self._add(charge)

    def forget(self, key: str) -> None:
        """Nothing of this launch is there any more."""
        self._told.pop(key, None)

    def _add(self, charge: Charge) -> None:
        self._told[charge.key] = charge
        self._tell(charge)
