"""What does Kopf call, and when? The glue between objects of the cluster and looks at them. It decides nothing.

Called by `operating`, which gives the registry to Kopf. Each live object has a Kopf timer whose function sleeps until
the object's flag is raised, then looks once, writes what it found into the status, and returns. So nothing is polled,
and an object whose job is over costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import kopf

from orchestrator.controller import admission, sets, turns
from orchestrator.controller.mirror import camel
from orchestrator.controller.objects import GROUP, VERSION
from orchestrator.controller.server import Server, Watch
from orchestrator.controller.turns import Turn
from orchestrator.controller.writing import Statuses, Unwritten
from orchestrator.model.documents.views import LineView

log = logging.getLogger(__name__)
JOBS, SETS = (GROUP, VERSION, "trainingjobs"), (GROUP, VERSION, "contractsets")
PACE_S = 0.2
"""Between two writes of one object: what happens within is written at once."""
ENDING_S = 30.0
"""A deletion is looked at so often, however silent its job."""
AGAIN_S = 30.0
"""Until the next look, where the API server does not take what was found."""


def live(status: Mapping[str, Any], **_: Any) -> bool:
    """Whether something may still happen to the job of this object, or to its machines."""
    return status.get("machines") != "gone"


def register(registry: kopf.OperatorRegistry, server: Server, statuses: Statuses, *, judging: bool) -> None:
    """Every handler of ours; `judging`: also those of admission."""
    _jobs(registry, server, statuses)
    _sets(registry, server, statuses)
    if judging:
        admission.register(registry, JOBS, SETS)


def _jobs(registry: kopf.OperatorRegistry, server: Server, statuses: Statuses) -> None:
    @kopf.timer(*JOBS, id="mirror", interval=PACE_S, when=live, registry=registry)
    async def mirror(body: kopf.Body, uid: str, stopped: Any = None, **_: Any) -> None:
        watch = server.watch(uid, dict(body.status))
        if await raised(watch, stopped):
            await mirrored(server, statuses, watch, body)

    @kopf.on.event(*JOBS, id="forget", registry=registry)
    def forget(type: str | None, status: Mapping[str, Any], uid: str, **_: Any) -> None:
        if type == "DELETED" or not live(status):  # not sooner: until it stands in the object, we alone know it
            server.forget(uid)

    @kopf.on.delete(*JOBS, id="release", when=live, registry=registry)
    async def release(body: kopf.Body, uid: str, retry: int, **_: Any) -> None:
        watch = server.watch(uid, dict(body.status))
        if retry:
            await raised_within(watch, ENDING_S)
        watch.flag.clear()
        if not await released(server, statuses, watch, body):
            raise kopf.TemporaryError(f"waits for the end of job {watch.status.get('job')}", delay=PACE_S)


def _sets(registry: kopf.OperatorRegistry, server: Server, statuses: Statuses) -> None:
    @kopf.timer(*SETS, id="judge", interval=PACE_S, registry=registry)
    async def judge(body: kopf.Body, uid: str, stopped: Any = None, **_: Any) -> None:
        watch = server.watch(uid, dict(body.status))
        if await raised(watch, stopped):
            with counted(watch, body):
                await statuses.write(SETS, body, await sets.look(server, watch, body, datetime.now(UTC)))

    @kopf.on.event(*SETS, id="touch", registry=registry)
    def touch(type: str | None, uid: str, body: kopf.Body, **_: Any) -> None:
        if type == "DELETED":
            server.forget(uid)
        else:
            sets.notice(server, server.watch(uid, dict(body.status)), body, listed=type is None)


async def mirrored(server: Server, statuses: Statuses, watch: Watch, body: kopf.Body) -> None:
    """Look at an object, write what was found, and tell of it once it stands."""
    with counted(watch, body):
        turn = await turns.look(server, watch, body, datetime.now(UTC))
        await statuses.write(JOBS, body, turn.status)
        tell(body, turn.lines)


async def released(server: Server, statuses: Statuses, watch: Watch, body: kopf.Body) -> bool:
    """See a deleted object's job to its end; whether it may go. Nobody keeps it because its status is not taken."""
    turn = Turn()
    with counted(watch, body):
        turn = await turns.end(server, watch, body, datetime.now(UTC))
        if turn.over:  # the object may go although its status is not taken: told now or never
            tell(body, turn.lines)
        await statuses.write(JOBS, body, turn.status)
        if not turn.over:
            tell(body, turn.lines)
    return turn.over


@contextlib.contextmanager
def counted(watch: Watch, body: kopf.Body) -> Iterator[None]:
    """A look whose finding counts once it stands in the object; what does not is found anew by a later look."""
    before, settled = watch.status, False
    try:
        yield
        settled = True
    except Unwritten as error:
        log.warning("%s of %s: its status is not written, it is looked at again in %.0f s: %s",
                    body["kind"], _called(body), AGAIN_S, error)  # fmt: skip
        watch.status, watch.pause_s, settled = before, AGAIN_S, True
        watch.flag.clear()
    finally:
        if not settled:
            watch.status = before
            watch.flag.set()  # Kopf says what it was, waits a little, and calls again


def _called(body: kopf.Body) -> str:
    meta = body["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def tell(body: kopf.Body, lines: Iterable[LineView]) -> None:
    """Lines of a job's life as Kubernetes events."""
    for line in lines:
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
