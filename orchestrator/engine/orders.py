"""What exactly is launched? The order for one attempt, made from its row and the job's document.

Called by the launch lane just before the call, also when the call is repeated: the same row gives the same order.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from orchestrator.core.standing import active
from orchestrator.core.windows import START_ALLOWANCE, take_over_wait
from orchestrator.engine.core import Core
from orchestrator.engine.wiring import LaunchSpec, StoreAccess, Wiring
from orchestrator.model.ids import launch_key
from orchestrator.model.job import AttemptRow, JobRow
from orchestrator.model.offer import LaunchOrder
from orchestrator.model.placement import Shape
from orchestrator.model.wire import VERSION, AttemptEnv, Isolation
from orchestrator.runlog.results import StoreUnavailable

FOREVER_MS = 30 * 86_400_000
"""The leak backstop of an attempt that never stops by itself: long, but not for ever."""


def store_of(wiring: Wiring, row: JobRow) -> StoreAccess:
    """The store that holds the job's run log. Raises StoreUnavailable where the operator has removed it since: no job
    that is not over has such a one (`restart.load_book`)."""
    name = row.store or next(iter(wiring.stores))
    if name not in wiring.stores:
        raise StoreUnavailable(f"store {name!r} is not in the providers file any more; name it there again")
    return wiring.stores[name]


def order_for(core: Core, row: JobRow, document: bytes) -> LaunchOrder:
    """The launch order of the row's active attempt; `document`: the job's, as the ledger keeps it."""
    attempt = active(row)
    assert attempt is not None, "only an active attempt is launched"
    spec = core.wiring.launch_spec(document)
    shape = core.book.shape_of(row).shape
    return LaunchOrder(
        key=launch_key(row.job, attempt.epoch), job=row.job, project=row.project, epoch=attempt.epoch,
        offer=f"{row.job}-o{attempt.offer}", region=attempt.region, accelerator=attempt.accelerator,
        workers=attempt.workers or shape.workers, gpus=shape.gpus_per_worker, cpus=shape.cpus, memory=shape.memory,
        delete_after_ms=_delete_after(row, attempt), attempt=text_of(_attempt(core, row, attempt, spec, shape)),
        requirements=spec.requirements, ledger=core.ledger_id, term=core.term, price=attempt.price,
        block=attempt.block.partition("/")[2],
    )  # fmt: skip


def _attempt(core: Core, row: JobRow, attempt: AttemptRow, spec: LaunchSpec, shape: Shape) -> AttemptEnv:
    return AttemptEnv(
        job=row.job, project=row.project, epoch=attempt.epoch, provider=attempt.provider, region=attempt.region,
        store=store_of(core.wiring, row).ref,
        isolation=Isolation(check_ms=row.check_ms, limit_ms=row.limit_ms, grace_ms=row.grace_ms),
        command=spec.command, package=spec.package, requirements=spec.requirements,
        environment=spec.environment if shape.pieces is UNSET else {**spec.environment, **_pieces(row, shape.pieces)},
        max_runtime_left_ms=max(row.max_runtime_ms - row.ran_ms, 1), retries_left=spec.retries,
        workers=attempt.workers or shape.workers,
    )  # fmt: skip


def _pieces(row: JobRow, pieces: int) -> dict[str, str]:
    """Of a divisible job: which pieces of the whole its workers are, from this one on."""
    return {"ORCHESTRATOR_PIECE": str(row.piece), "ORCHESTRATOR_PIECES": str(pieces)}


_encoder = msgspec.json.Encoder(order="sorted")


def text_of(attempt: AttemptEnv) -> str:
    """`AttemptEnv.to_json` to the letter, in a seventh of its time: agents, who have no library, cannot have it so."""
    text, _, workers = _encoder.encode(attempt).decode().rpartition(',"workers":')  # by its name the last one
    return f'{text},"v":{VERSION}}}' if workers == "null}" else f'{text},"v":{VERSION},"workers":{workers}'


def _delete_after(row: JobRow, attempt: AttemptRow) -> int:
    """10 min + W + what is left of maxRuntime + limit + grace, in milliseconds."""
    wait = take_over_wait(row, attempt.epoch)
    if wait is None or row.limit_ms is None:
        return FOREVER_MS
    return (START_ALLOWANCE + wait) // 1000 + row.max_runtime_ms - row.ran_ms + row.limit_ms + row.grace_ms
