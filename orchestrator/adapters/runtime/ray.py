"""How is an entrypoint run on a Ray cluster? Over the Jobs REST API, without importing ray.

Called by provider adapters through `ports.runtime`. It repeats single calls that got no reply, and translates: a
repeated submission id is answered 500 "already exists", which is looked up and is success. It never queues work inside
Ray (a job that waits there cannot be stopped) and never concludes anything from an exit code.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from orchestrator.certificates import Authorities
from orchestrator.ports.runtime import Head, Run, RunState, RunStatus, RuntimeFailure

ATTEMPTS = 3
TIMEOUT_S = 15.0
"""A submission took up to 4 s on a busy machine."""

_STATES = {
    "PENDING": RunState.PENDING,
    "RUNNING": RunState.RUNNING,
    "SUCCEEDED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "STOPPED": RunState.STOPPED,
}


class RayJobs:
    """`ports.runtime.Runtime` for Ray 2.52 and later."""

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        """`client`: for tests and for a shared pool of connections."""
        self._client = client or httpx.AsyncClient(
            timeout=TIMEOUT_S, verify=Authorities(trust_env=False), trust_env=False
        )

    async def submit(self, head: Head, run: Run) -> None:
        """See the port."""
        body = {
            "submission_id": run.key,
            "entrypoint": "exec " + shlex.join(run.entrypoint),
            "runtime_env": {"env_vars": dict(run.environment)},
            "metadata": {"orchestrator": run.key},
        }
        reply = await self._call("POST", head, "/api/jobs/", body)
        if reply.status_code != 200 and await self.status(head, run.key) is None:
            raise _failure("submitting", run.key, reply)

    async def status(self, head: Head, key: str) -> RunStatus | None:
        """See the port."""
        reply = await self._call("GET", head, f"/api/jobs/{key}")
        if reply.status_code == 404:
            return None
        if reply.status_code != 200:
            raise _failure("asking for", key, reply)
        job = _object(reply, key)
        state = _STATES.get(str(job.get("status")))
        if state is None:
            raise RuntimeFailure(f"Ray calls the state of {key} {job.get('status')!r}, which nobody knows")
        code = job.get("driver_exit_code")
        return RunStatus(state, code if isinstance(code, int) else None, str(job.get("message") or ""))

    async def stop(self, head: Head, key: str) -> bool:
        """See the port."""
        reply = await self._call("POST", head, f"/api/jobs/{key}/stop")
        if reply.status_code == 404:
            return False
        if reply.status_code != 200:
            raise _failure("stopping", key, reply)
        return bool(_object(reply, key).get("stopped"))

    async def logs(self, head: Head, key: str) -> AsyncIterator[bytes]:
        """See the port."""
        reply = await self._call("GET", head, f"/api/jobs/{key}/logs")
        if reply.status_code == 404:
            return
        if reply.status_code != 200:
            raise _failure("reading the output of", key, reply)
        yield str(_object(reply, key).get("logs") or "").encode()

    async def aclose(self) -> None:
        """See the port."""
        await self._client.aclose()

    async def _call(self, method: str, head: Head, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {head.token}"}
        retry = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.1, max=1.0),
            retry=retry_if_exception_type(httpx.TransportError),
            reraise=True,
        )
        try:
            return await retry(self._client.request, method, head.address + path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise RuntimeFailure(f"no reply from Ray at {head.address} to {method} {path}: {error!r}") from error


def _failure(doing: str, key: str, reply: httpx.Response) -> RuntimeFailure:
    last = (reply.text.strip().splitlines() or [""])[-1]
    return RuntimeFailure(f"Ray answered {reply.status_code} to {doing} {key}: {last}")


def _object(reply: httpx.Response, key: str) -> dict[str, Any]:
    try:
        doc = reply.json()
    except ValueError as error:
        raise RuntimeFailure(f"Ray's reply about {key} is no JSON") from error
    if not isinstance(doc, dict):
        raise RuntimeFailure(f"Ray's reply about {key} is no object")
    return doc
