"""Every fault that the protocol names is injected in virtual time and for real, or it is said why it cannot be."""

from __future__ import annotations

from orchestrator.model.documents.compile import unenforced
from orchestrator.model.documents.conflicts import contracts_from
from orchestrator.simulate.world import World, first_right
from tests import faults


def test_every_fault_is_injected_in_virtual_time_and_for_real_or_says_why_not() -> None:
    marked = faults.by_fault()
    assert set(marked) <= set(faults.FAULTS), set(marked) - set(faults.FAULTS)
    excused = {faults.VIRTUAL: {**faults.NOT_ENFORCED, **faults.NEEDS_A_PROCESS}, faults.REAL: faults.NOT_ENFORCED}
    for folders, reasons in excused.items():
        assert not {n for n in faults.FAULTS if n not in reasons and not folders & set(marked.get(n, ()))}, folders


def test_no_quote_can_die_in_a_window_because_a_right_after_quotes_is_refused_when_it_is_loaded() -> None:
    matching = contracts_from(World._stated(first_right("azure", stage="after_quotes"), ["azure"]))
    assert [what for _, what in unenforced(matching)] == ["the stage after_quotes"]
    assert set(faults.NOT_ENFORCED) == {"rival's quote dies inside the window"}
