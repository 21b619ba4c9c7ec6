"""What does an exit code of `orchestrator` mean? One list for all commands, shown in their help."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; scripts may rely on them."""

    OK = 0
    FAILED = 1  # an expectation was not met, an audit found a violation, a job failed
    USAGE = 2  # wrong options, a file that is not there
    NOT_ENFORCED = 3  # correct, but this version does not enforce or honour a part of it yet
    REFUSED = 4  # a document was refused; the problems are listed


EXIT_CODES = "Exit codes: 0 ok · 1 failed · 2 usage · 3 not enforced yet · 4 document refused."
