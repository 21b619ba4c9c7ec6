"""A server that commits as fast as it can and says so on a pipe; killed by `test_ledger_kill`.

Each line is one acknowledged commit: first sequence number, job, the counter's value after it, head.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.ports.ledger import Batch
from orchestrator.testing.check_ledger import new_event, row
from tests.ledger.postgres import WAIT_S, leading


async def main(place: Place) -> None:
    ledger = await leading(place, wait_s=WAIT_S)
    at = await ledger.last_at()

    async def one(n: int) -> None:
        job = f"J{n:08}"
        batch = Batch(events=[new_event(at, job)] * (1 + n % 3), rows=[row(job)], counters={"jobs": 1})
        done = await ledger.commit(batch)
        print(done.first_seq, job, done.head, flush=True)

    start = await ledger.counters()
    n = start.get("jobs", 0)
    while True:
        await asyncio.gather(*(one(n + k) for k in range(1 + n % 7)))
        n += 1 + n % 7


asyncio.run(main(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])))
