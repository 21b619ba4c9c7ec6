"""Which environment do the user's command, and the Ray workers that it starts, see?

Called by the agent. Pure. A Ray driver takes RAY_JOB_CONFIG_JSON_ENV_VAR as its job's configuration (set by
Ray's own job supervisor); the agent adds the watchdog's hook and the attempt's variables there, so that
`ray.init()` without arguments hands them to every worker. Whoever submits the agent as a Ray job must *not*
pass the hook himself: it would also run in Ray's supervisor, before any claim.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.model.ids import launch_key
from orchestrator.model.wire import ENV_ATTEMPT, ENV_KEY, ENV_NONCE, ENV_WORK_DIR, AttemptEnv

RAY_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
WORKER_HOOK = "orchestrator.training.worker_setup"


def user_environment(env: AttemptEnv, base: Mapping[str, str], nonce: str, work: Path, python: Path) -> dict[str, str]:
    """The environment of the user's command.

    `base`: the agent's own; `python`: its interpreter, found as `python`.
    """
    workers = {**own_variables(env, nonce, work), **_by_reference(env, base), **env.environment}
    for name, value in _polite(env).items():
        if name not in base:
            workers.setdefault(name, value)
    return {
        "PYTHONUNBUFFERED": "1",
        **base,
        "PATH": os.pathsep.join([str(python.parent), base.get("PATH", os.defpath)]),
        "PYTHONPATH": _python_path(base),
        **workers,
        RAY_JOB_CONFIG: ray_job_config(base.get(RAY_JOB_CONFIG), workers),
    }


def own_variables(env: AttemptEnv, nonce: str, work: Path) -> dict[str, str]:
    """What tells a process which attempt it belongs to."""
    size = {} if env.workers is None else {"ORCHESTRATOR_WORKERS": str(env.workers)}
    return {
        ENV_ATTEMPT: env.to_json(),
        ENV_NONCE: nonce,
        ENV_KEY: launch_key(env.job, env.epoch),
        ENV_WORK_DIR: str(work),
        "ORCHESTRATOR_JOB_ID": env.job,
        "ORCHESTRATOR_EPOCH": str(env.epoch),
        "ORCHESTRATOR_PROVIDER": env.provider,
        "ORCHESTRATOR_REGION": env.region,
        **size,
    }


def ray_job_config(given: str | None, variables: Mapping[str, str]) -> str:
    """Ray's job configuration with the hook and the variables added; what was there stays."""
    config: dict[str, Any] = json.loads(given) if given else {}
    runtime = dict(config.get("runtime_env") or {})
    runtime["env_vars"] = {**(runtime.get("env_vars") or {}), **variables}
    runtime["worker_process_setup_hook"] = WORKER_HOOK
    return json.dumps({**config, "runtime_env": runtime})


def _polite(env: AttemptEnv) -> dict[str, str]:
    """Set only where nobody did: one experiment-tracking run over all failovers."""
    return {"WANDB_RUN_ID": env.job, "WANDB_RESUME": "allow"}


def _by_reference(env: AttemptEnv, base: Mapping[str, str]) -> dict[str, str]:
    """The store's keys, where they come by environment: workers save checkpoints too."""
    names = [at.removeprefix("env:") for at in env.store.secrets.values() if at.startswith("env:")]
    return {name: base[name] for name in names if name in base}


def _python_path(base: Mapping[str, str]) -> str:
    """Where this package is, behind what was there: a script imports the helper wherever it is installed."""
    root = str(Path(__file__).resolve().parents[2])
    parts = [part for part in base.get("PYTHONPATH", "").split(os.pathsep) if part]
    return os.pathsep.join(parts if root in parts else [*parts, root])
