"""Each rule of ours, broken alone: somebody notices. Nobody notices anything while all are whole.

The table is printed at the end of the run; `make prove-mutants` prints it alone.
"""

from __future__ import annotations

import pytest

from tests.mutants import rules_in_line
from tests.mutants.rules_asking import ASKING
from tests.mutants.rules_running import RUNNING
from tests.mutants.swap import Swap, broken
from tests.mutants.table import Lived, Mutant, Row, row, sentences

MUTANTS = (*RUNNING, *ASKING)
WORLDS = {world.name: world for mutant in MUTANTS for world in mutant.worlds}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
def test_in_every_world_the_whole_product_keeps_its_promises(world: Lived) -> None:
    assert sentences(world, ()) == frozenset()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.rule for mutant in MUTANTS])
def test_a_broken_rule_is_noticed(mutant: Mutant, told: list[Row]) -> None:
    told.append(row(mutant))
    assert told[-1].noticed, f"nobody noticed in {told[-1].tried} worlds"


@pytest.mark.parametrize("rule", rules_in_line.IN_LINE)
def test_a_broken_rule_of_order_is_noticed_by_whoever_waits(rule: str, told: list[Row]) -> None:
    told.append(rules_in_line.row(rule))
    assert told[-1].noticed, f"nobody noticed in {told[-1].tried} lines"


def test_a_swap_of_what_the_product_does_not_have_breaks_nothing_and_says_so() -> None:
    with pytest.raises(LookupError), broken(Swap(Lived.__init__, print)):
        pass
