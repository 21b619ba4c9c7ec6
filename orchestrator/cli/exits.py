"""What does an exit code of `orchestrator` mean? One list for all commands, shown in their help."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; scripts may rely on them."""

    OK = 0
    FAILED = 1  # an expectation was not met, an audit found a violation, a job failed
    USAGE = 2  # wrong options, a file that is not there
    NOT_ENFORCED = 3  # correct, but this version does not enforce or honour a part of it yet
    REFUSED = 4  # a document or a wish was refused; the problems are listed
    NO_SERVER = 5  # no server is known, or it does not answer, or it is too busy
    DENIED = 6  # there is no token, or it is unknown or lacks a scope
    NO_SHELL = 7  # the job's cloud gives no way into what runs there
    INTERRUPTED = 130  # Ctrl-C; a job that was followed goes on


EXIT_CODES = (
    "Exit codes: 0 ok · 1 failed · 2 usage · 3 not enforced yet · 4 refused · 5 no server · 6 not allowed · "
    "7 the cloud gives no shell · 130 Ctrl-C."
)
