"""Many processes append to one log in a folder: each slot is won once, and the log is one line of lawful entries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from orchestrator.model.wire import Claim, StoreRef
from orchestrator.runlog.log import JobLog, read
from orchestrator.runlog.store import open_store

WRITER = """
import sys
from orchestrator.model.wire import *
from orchestrator.runlog.log import *
from orchestrator.runlog.rules import EMPTY
from orchestrator.runlog.store import open_store
url, me = sys.argv[1], int(sys.argv[2])
log, state = JobLog(open_store(StoreRef(name="m", url=url)), "p", "J"), EMPTY
sys.stdin.readline()
for n in range(20):
    epoch = n * 5 + me + 2
    for entry in (Fence(epoch=epoch, id=f"f{epoch}", term=me),
                  Claim(epoch=epoch, provider="p", limit_ms=1, grace_ms=1, id=f"c{epoch}.{me}", nonce=str(me))):
        ours = isinstance(entry, Fence)
        one = append_controller(log, state, entry) if ours else append_attempt(log, state, epoch, entry)
        state = one.state
        if isinstance(one, Appended):
            print(entry.id, flush=True)
"""


def race(folder: Path, same_epoch: bool = False) -> tuple[list[str], JobLog]:
    url = f"file://{folder}"
    code = WRITER.replace("n * 5 + me + 2", "n + 2") if same_epoch else WRITER
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for me in range(5)
    ]
    outputs = [writer.communicate("go\n", timeout=60)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 5
    return " ".join(outputs).split(), JobLog(open_store(StoreRef(name="m", url=url)), "p", "J")


def test_each_slot_is_won_once_and_the_log_is_linear(tmp_path: Path) -> None:
    won, log = race(tmp_path)
    state = read(log).state
    assert sorted(won) == sorted(entry.id for entry in state.entries)
    fences = [entry.epoch for entry in state.entries if entry.id.startswith("f")]
    assert fences == sorted(fences)


def test_of_five_duplicate_launches_one_claims_each_epoch(tmp_path: Path) -> None:
    _, log = race(tmp_path, same_epoch=True)
    state = read(log).state
    claims = [entry for entry in state.entries if isinstance(entry, Claim)]
    assert len(claims) == len({claim.epoch for claim in claims}) > 0
    for slot, entry in enumerate(state.entries):
        highest = max((e.epoch for e in state.entries[:slot]), default=0)
        assert entry.epoch >= highest, "nothing was appended below a higher fence"
