"""What does Kopf call, and when? The glue between objects of the cluster and looks at them. It decides nothing.

Called by `operating`, which gives the registry to Kopf. Each live object has a Kopf timer whose function sleeps until
the object's flag is raised, then looks once and returns; Kopf writes what it found into the status. So nothing is
polled, all patches go one way, and an object whose job is over costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import kopf

from orchestrator.controller import admission, sets, turns
from orchestrator.controller.mirror import camel
from orchestrator.controller.objects import GROUP, VERSION
from orchestrator.controller.server import Server, Watch
from orchestrator.controller.turns import Turn
from orchestrator.model.documents.views import LineView

JOBS, SETS = (GROUP, VERSION, "trainingjobs"), (GROUP, VERSION, "contractsets")
PACE_S = 0.2
"""Between two writes of one object: what happens within is written at once."""
ENDING_S = 30.0
"""A deletion is looked at so often, however silent its job."""


def live(status: Mapping[str, Any], **_: Any) -> bool:
    """Whether something may still happen to the job of this object, or to its machines."""
    return status.get("machines") != "gone"


def register(registry: kopf.OperatorRegistry, server: Server, *, judging: bool) -> None:
    """Every handler of ours; `judging`: also those of admission."""
    _jobs(registry, server)
    _sets(registry, server)
    if judging:
        admission.register(registry, JOBS, SETS)


def _jobs(registry: kopf.OperatorRegistry, server: Server) -> None:
    @kopf.timer(*JOBS, id="mirror", interval=PACE_S, when=live, registry=registry)
    async def mirror(body: kopf.Body, uid: str, patch: kopf.Patch, stopped: Any = None, **_: Any) -> None:
        watch = server.watch(uid, dict(body.status))
        if await raised(watch, stopped):
            write(await turns.look(server, watch, body, datetime.now(UTC)), body, patch)

    @kopf.on.event(*JOBS, id="forget", registry=registry)
    def forget(type: str | None, status: Mapping[str, Any], uid: str, **_: Any) -> None:
        if type == "DELETED" or not live(status):  # not sooner: until it stands in the object, we alone know it
            server.forget(uid)

    @kopf.on.delete(*JOBS, id="release", when=live, registry=registry)
    async def release(body: kopf.Body, uid: str, patch: kopf.Patch, retry: int, **_: Any) -> None:
        watch = server.watch(uid, dict(body.status))
        if retry:
            await raised_within(watch, ENDING_S)
        watch.flag.clear()
        turn = await turns.end(server, watch, body, datetime.now(UTC))
        write(turn, body, patch)
        if not turn.over:
            raise kopf.TemporaryError(f"waits for the end of job {watch.status.get('job')}", delay=PACE_S)


def _sets(registry: kopf.OperatorRegistry, server: Server) -> None:
    @kopf.timer(*SETS, id="judge", interval=PACE_S, registry=registry)
    async def judge(body: kopf.Body, uid: str, patch: kopf.Patch, stopped: Any = None, **_: Any) -> None:
        watch = server.watch(uid, dict(body.status))
        if not await raised(watch, stopped):
            return
        patch.status.update(await sets.look(server, watch, body, datetime.now(UTC)))

    @kopf.on.event(*SETS, id="touch", registry=registry)
    def touch(type: str | None, uid: str, body: kopf.Body, **_: Any) -> None:
        if type == "DELETED":
            server.forget(uid)
        else:
            sets.notice(server, server.watch(uid, dict(body.status)), body, listed=type is None)


def write(turn: Turn, body: kopf.Body, patch: kopf.Patch) -> None:
    """The status, and an event for each line of the job's life."""
    for line in turn.lines:
        tell(body, line)
    if turn.status:
        patch.status.update(turn.status)


def tell(body: kopf.Body, line: LineView) -> None:
    """One line of a job's life as a Kubernetes event."""
    kind = "Warning" if line.tone in ("warn", "bad") else "Normal"
    kopf.event(body, type=kind, reason=camel(line.kind), message=line.text)


async def raised(watch: Watch, stopped: Any) -> bool:
    """Wait for the flag, or for so long as the last look said; False where Kopf wants an end. The flag is lowered."""
    ends, waits = asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(watch.flag.wait())
    try:
        await asyncio.wait({ends, waits}, timeout=watch.pause_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ends.cancel()
        waits.cancel()
    watch.flag.clear()
    return not stopped


async def raised_within(watch: Watch, seconds: float) -> None:
    """Wait for the flag for so long at most."""
    try:
        async with asyncio.timeout(min(seconds, watch.pause_s)):
            await watch.flag.wait()
    except TimeoutError:
        return
