"""What may a job do next? The table of legal moves, drawn.

Called by `python -m orchestrator.core.diagram`, which prints what the README holds between its marks; a test compares
the two. Draws `moves.JOB_MOVES` and adds nothing.
"""

from __future__ import annotations

from collections import defaultdict

from orchestrator.core.moves import ATTEMPT_MOVES, JOB_MOVES, OFFER_MOVES
from orchestrator.model.job import TERMINAL, JobState

WIDEST = 3
"""Event kinds on one line of a label."""


def job_diagram() -> str:
    """The job's states as a Mermaid diagram; moves that stay in a state are left out."""
    edges: dict[tuple[JobState, JobState], list[str]] = defaultdict(list)
    for state, moves in JOB_MOVES.items():
        for kind, targets in moves.items():
            for target in targets:
                if target is not state:
                    edges[state, target].append(kind)
    lines = ["stateDiagram-v2", "    [*] --> queued: Submitted"]
    lines += [f"    {a} --> {b}: {_label(kinds)}" for (a, b), kinds in edges.items()]
    lines += [f"    {state} --> [*]" for state in JobState if state in TERMINAL]
    return "\n".join(lines)


def _label(kinds: list[str]) -> str:
    rows = [", ".join(kinds[at : at + WIDEST]) for at in range(0, len(kinds), WIDEST)]
    return "<br/>".join(rows)


def table() -> str:
    """Offers and attempts: which event is legal in which state, and where it leads (…: the event says)."""
    rows = ["| event | of an offer or attempt that is | leads to |", "|---|---|---|"]
    for kind, (states, target) in [*OFFER_MOVES.items(), *ATTEMPT_MOVES.items()]:
        rows.append(f"| {kind} | {', '.join(states)} | {target or '…'} |")
    return "\n".join(rows)


def section() -> str:
    """Both, as the README holds them."""
    return f"```mermaid\n{job_diagram()}\n```\n\n{table()}\n"


if __name__ == "__main__":
    print(section(), end="")
