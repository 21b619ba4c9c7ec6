"""What answers like Ray's Jobs REST API, without Ray? A small server that runs entrypoints as plain processes.

Used by tests in-process (`FakeRay`), and by mock clouds as the head of a cluster without Ray
(`python -m orchestrator.testing.fake_ray --port P --folder DIR`, token in RAY_AUTH_TOKEN). It answers as Ray 2.60 does,
warts included: a repeated submission id is 500 "already exists", an unknown one 404, entrypoints run under a shell in a
session of their own, a stop is SIGTERM and SIGKILL after RAY_JOB_STOP_WAIT_TIME_S. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = {"version": "4", "ray_version": "2.60.0", "session_name": "fake"}


@dataclass(slots=True)
class _Job:
    entrypoint: str
    process: subprocess.Popen[bytes]
    log: Path
    environment: dict[str, str]
    stopped: bool = False

    def details(self, key: str) -> dict[str, Any]:
        code = self.process.poll()
        status = "RUNNING" if code is None else "STOPPED" if self.stopped else "FAILED" if code else "SUCCEEDED"
        return {
            "type": "SUBMISSION",
            "submission_id": key,
            "job_id": None,
            "status": status,
            "entrypoint": self.entrypoint,
            "message": "" if code is None else f"entrypoint ended with {code}",
            "driver_exit_code": code,
            "runtime_env": {"env_vars": self.environment},
        }


class FakeRay:
    """One head. `with FakeRay(folder) as ray:` serves until the end of the block, and ends its jobs then."""

    def __init__(self, folder: Path, *, port: int = 0, token: str = "token", stop_wait: float = 3.0) -> None:
        """`folder` takes the jobs' output; `stop_wait`: seconds between SIGTERM and SIGKILL."""
        self.token = token
        self.submissions = 0
        """POSTs that asked for a job, repeated ones too."""
        self._jobs: dict[str, _Job] = {}
        self._folder = folder
        self._wait = stop_wait
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> FakeRay:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        for job in self._jobs.values():
            _signal(job.process, signal.SIGKILL)
            job.process.wait()

    def serve(self) -> None:
        """Answer until shut down."""
        self._http.serve_forever(poll_interval=0.05)

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Status and JSON of one request."""
        parts = path.strip("/").split("/")
        match method, *parts:
            case "GET", "api", "version":
                return 200, VERSION
            case "GET", "api", "local_raylet_healthz":
                return 200, "success"
            case "GET", "api", "jobs":
                return 200, [job.details(key) for key, job in self._jobs.items()]
            case "POST", "api", "jobs":
                return self._submit(body)
            case "GET", "api", "jobs", key if key in self._jobs:
                return 200, self._jobs[key].details(key)
            case "GET", "api", "jobs", key, "logs" if key in self._jobs:
                return 200, {"logs": self._jobs[key].log.read_text(errors="replace")}
            case "POST", "api", "jobs", key, "stop" if key in self._jobs:
                return self._stop(self._jobs[key])
            case _:
                return 404, f"Job {path} does not exist"

    def _submit(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        key, entrypoint = str(body["submission_id"]), str(body["entrypoint"])
        with self._lock:
            self.submissions += 1
            if key in self._jobs:
                return 500, f"ValueError: Job with submission_id {key} already exists. Please use a different one."
            variables = {str(k): str(v) for k, v in (body.get("runtime_env") or {}).get("env_vars", {}).items()}
            log = self._folder / f"{key}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    entrypoint,
                    shell=True,
                    env={**os.environ, **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self._jobs[key] = _Job(entrypoint, process, log, variables)
        threading.Thread(target=process.wait, daemon=True).start()
        return 200, {"job_id": key, "submission_id": key}

    def _stop(self, job: _Job) -> tuple[int, Any]:
        if job.process.poll() is not None:
            return 200, {"stopped": False}
        job.stopped = True
        _signal(job.process, signal.SIGTERM)
        threading.Thread(target=self._kill_later, args=(job,), daemon=True).start()
        return 200, {"stopped": True}

    def _kill_later(self, job: _Job) -> None:
        try:
            job.process.wait(self._wait)
        except subprocess.TimeoutExpired:
            _signal(job.process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], sig: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, sig)


def _handler(ray: FakeRay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self._reply(json.loads(self.rfile.read(length) or b"{}"))

        def _reply(self, body: Mapping[str, Any]) -> None:
            status, doc = 401, "Unauthorized"
            if self.headers.get("Authorization") == f"Bearer {ray.token}":
                status, doc = ray.answer(self.command, self.path, body)
            text = (doc if isinstance(doc, str) else json.dumps(doc)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(doc, str) else "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def main() -> None:
    """Be a head until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.testing.fake_ray")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    stop_wait = float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "3"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with FakeRay(args.folder, port=args.port, token=os.environ["RAY_AUTH_TOKEN"], stop_wait=stop_wait):
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
