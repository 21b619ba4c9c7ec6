"""kill -9 at any instant loses nothing that was acknowledged, and leaves nothing half-written."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.core.chain import genesis, hash_body, link
from tests.ledger.postgres import WAIT_S, leading

KILLS = 8
SEED = 20_261_101
ROOT = Path(__file__).parents[2]


def acknowledged_until_killed(place: Place, chance: random.Random) -> list[tuple[int, str, str]]:
    """Run the server, kill it some reads after its first acknowledgement; all whole lines it wrote."""
    command = [sys.executable, "-m", "tests.ledger.committing", str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as server:
        assert server.stdout is not None
        told = os.read(server.stdout.fileno(), 1)
        select.select([], [], [], chance.uniform(0, 0.05))
        server.send_signal(signal.SIGKILL)
        told += server.stdout.read()
    whole = told.decode().rpartition("\n")[0].splitlines()
    return [(int(seq), job, head) for seq, job, head in (line.split() for line in whole)]


async def assert_whole(place: Place, acknowledged: list[tuple[int, str, str]]) -> None:
    ledger = await leading(place, wait_s=WAIT_S)
    events = [e async for e in ledger.events()]
    chain, heads = genesis(ledger.ledger_id), set()
    for n, e in enumerate(events, start=1):
        assert e.body is not None and e.body_hash == hash_body(e.salt, e.body)
        chain = link(chain, n, e.at, (e.kind, e.project, e.job), e.body_hash)
        assert (e.seq, e.chain) == (n, chain)
        heads.add(chain.hex())
    for seq, job, head in acknowledged:
        assert events[seq - 1].job == job and head in heads
    jobs = [r.job for r in await ledger.live_rows()]
    assert jobs == sorted({e.job for e in events}), "a row without events, or events without their row"
    assert await ledger.counters() == {"jobs": len(jobs)}
    await ledger.close()


async def test_nothing_acknowledged_is_lost(new_place: Callable[[], Place]) -> None:
    place, chance, acknowledged = new_place(), random.Random(SEED), []
    for _ in range(KILLS):
        acknowledged += acknowledged_until_killed(place, chance)
        await assert_whole(place, acknowledged)
    print(f"seed {SEED}: {KILLS} kills, {len(acknowledged)} acknowledged commits, none lost")
