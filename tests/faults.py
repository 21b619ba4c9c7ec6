"""What faults must be survived, and which tests inject them? The closed list, by the words of the protocol.

A test that injects a fault says so: `@pytest.mark.fault("receipt lost")`. Worlds tell what befell them by themselves:
`befell` reads it from the lines that their providers spoke. `pytest --faults` prints the table.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.testing import scripts as do

TESTS = Path(__file__).parent
VIRTUAL = frozenset({"stories", "properties"})
"""Folders whose tests run the whole product on virtual time."""
REAL = frozenset(
    {
        "agent",
        "e2e",
        "kubernetes",
        "ledger",
        "local",
        "adapters",
        "proofs",
        "servers",
        "byhand",
        "wire",
    }
)
"""Folders in which the product meets real processes, sockets, stores or databases; the mock cloud alone is none."""

FAULTS = (
    "offer lost",
    "receipt lost",
    "holder silent for the whole window",
    "acceptance late",
    "acceptance racing a withdrawal",
    "counter-offer",
    "accepted but cannot launch",
    "price moves after refusal",
    "rival's quote dies inside the window",
    "launch reply lost",
    "launch request lost",
    "launch stuck and appearing minutes later",
    "launched twice under one key",
    "partial gang",
    "crash between any two appends and around every provider call",
    "provider's control plane down while its job runs on",
    "data plane lost while the API is fine",
    "provider returning with a zombie",
    "two take-overs in a row",
    "agent frozen past its limit",
    "guard frozen or killed",
    "worker frozen past its limit",
    "clocks wrong or jumping: ours",
    "clocks wrong or jumping: theirs",
    "two controllers",
    "a frozen ex-leader that wakes between commit and call",
    "ledger restored from an old backup",
    "list eventually consistent",
    "terminate failing silently",
    "checkpoint store down",
    "checkpoint store slow",
    "checkpoint store lying",
    "checkpoint truncated or its hash wrong",
    "contract amended mid-window",
    "cancel while a launch is unknown",
    "provider double-billing",
    "spot machines taken back",
)
"""Every fault of the protocol; several that it names together stand apart here."""

NOT_ENFORCED = {
    "rival's quote dies inside the window": "a right that is asked `after_quotes` is refused when it is loaded",
}
"""Faults of what this version does not do: the clause that would need it is refused. What is here needs no test."""
NEEDS_A_PROCESS = {
    "guard frozen or killed": "there is no guard without processes: a simulated agent is one task",
    "worker frozen past its limit": "a simulated attempt is one task: its worker is frozen with its agent",
}
"""Faults that virtual time cannot show. All but those that are not enforced must be shown for real."""


def by_fault() -> dict[str, dict[str, int]]:
    """fault → folder → how many tests are marked with it, as the files stand."""
    found: dict[str, dict[str, int]] = defaultdict(Counter)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in _marks(ast.parse(path.read_text())):
            found[name][path.relative_to(TESTS).parts[0]] += 1
    return found


def _marks(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def befell(spoken: Iterable[object]) -> Counter[str]:
    """How often each fault really happened, by the lines that a provider spoke."""
    return Counter(name for line in spoken for name in _named(line))


def _named(line: object) -> Iterator[str]:
    match line:
        case do.Starts(reply_lost=reply_lost, copies=copies, after_s=after_s):
            yield from ["launch reply lost"] * reply_lost
            yield from ["launched twice under one key"] * (copies > 1)
            yield from ["launch stuck and appearing minutes later"] * (after_s > 600)
        case do.Rejects(leaves=leaves):
            yield "partial gang" if leaves else "accepted but cannot launch"
        case do.Loses(verb=verb, reply=reply):
            yield from _LOST.get((verb, reply), ())
        case _:
            yield from _WHOLE.get(type(line), ())


_WHOLE: dict[type, tuple[str, ...]] = {
    do.Silent: ("holder silent for the whole window",),
    do.Counters: ("counter-offer",),
    do.NeverStarts: ("accepted but cannot launch",),
    do.RequestLost: ("launch request lost",),
    do.Unreachable: ("provider's control plane down while its job runs on",),
    do.DataCut: ("data plane lost while the API is fine",),
    do.Reclaims: ("spot machines taken back",),
    do.Freezes: ("agent frozen past its limit",),
    do.StopIgnored: ("terminate failing silently",),
    do.BilledTwice: ("provider double-billing",),
}
_LOST = {
    ("place_offers", False): ("offer lost",),
    ("place_offers", True): ("receipt lost",),
    ("launch", False): ("launch request lost",),
    ("launch", True): ("launch reply lost",),
}


def table(times: dict[tuple[str, str], int]) -> Iterator[str]:
    """The lines of the table: `times` is (fault, folder) → how often this run injected it."""
    marked, width = by_fault(), max(map(len, FAULTS))
    yield f"{'fault':{width}} | {'in virtual time':>22} | {'for real':>22}"
    for name in FAULTS:
        cells = [_cell(marked.get(name, {}), name, folders, times) for folders in (VIRTUAL, REAL)]
        why = NOT_ENFORCED.get(name) or NEEDS_A_PROCESS.get(name, "")
        yield f"{name:{width}} | {cells[0]:>22} | {cells[1]:>22}" + (f" | {why}" if why else "")


def _cell(marked: dict[str, int], name: str, folders: frozenset[str], times: dict[tuple[str, str], int]) -> str:
    if name in NOT_ENFORCED:
        return "not enforced"
    tests = sum(count for folder, count in marked.items() if folder in folders)
    seen = sum(count for (fault, folder), count in times.items() if fault == name and folder in folders)
    return f"{tests} tests, {seen} times" if tests or seen else "-"
