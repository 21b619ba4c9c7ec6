"""`python -m orchestrator.agent`: one attempt, told by ORCHESTRATOR_ATTEMPT, from its claim to its last entry.

Exit codes: the user's own where the job is done; 75 released (the attempt is over, the job is not); 76 not
mine (fenced, finished or launched twice); 77 the store stayed silent; 78 the package is bad; 64
ORCHESTRATOR_ATTEMPT is unusable. The log says what happened; nobody may conclude it from the exit code.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path

from orchestrator.agent.life import EXIT_SILENT, PATIENCE_MS, Life, Outside
from orchestrator.model.ids import launch_key
from orchestrator.model.wire import ENV_ATTEMPT, AttemptEnv, WireError
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.store import open_patiently

EXIT_USAGE = 64


def main() -> int:
    """Read the environment, live the life, leave nothing on this machine. Returns the exit code."""
    try:
        env = AttemptEnv.from_json(os.environ.get(ENV_ATTEMPT, ""))
        store = open_patiently(env.store, env.isolation.check_ms, PATIENCE_MS)
    except (WireError, ValueError) as error:
        print(f"orchestrator agent: {ENV_ATTEMPT} is unusable: {error}", file=sys.stderr)
        return EXIT_USAGE
    except StoreUnavailable as error:
        print(f"orchestrator agent: {error}", file=sys.stderr)
        return EXIT_SILENT
    work = Path(tempfile.mkdtemp(prefix=f"{launch_key(env.job, env.epoch)}-"))
    life = Life(env, Outside(store, lambda: uuid.uuid4().hex, _wall_us, os.environ, work))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: life.terminate())
    try:
        return life.run()
    finally:
        if life.alone:  # otherwise with its machine, or the folder for temporary files that a keeper gave us
            shutil.rmtree(work, ignore_errors=True)


def _wall_us() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    sys.exit(main())
