"""How is a job written in one line of Python? Called by users and by `orchestrator run`. Never talks to a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.model.documents import TrainingJob, job_from


def command_job(
    command: Sequence[str],
    *,
    folder: Path | str | None = ".",
    name: str | None = None,
    project: str = "default",
    **spec: Any,
) -> TrainingJob:
    """A job that runs `command` on the code in `folder` (None, or a `package` in `run`: it is not packed).

    `spec` holds further fields as in a job file: `workers={"count": 2, "gpus": 4}`, `maxRuntime="12h"`, …; what is
    None or empty is left out. Raises DocumentError with every problem.
    """
    words = command if isinstance(command, str) else list(command)  # text is refused, not taken for its letters
    run = {"command": words, **spec.pop("run", {})}
    if folder is not None and "package" not in run:
        run["package"] = {"dir": str(folder)}
    metadata = {"project": project} | ({"name": name} if name else {})
    given = {key: value for key, value in spec.items() if value not in (None, "", (), [], {})}
    api_version = "orchestrator.dev/v1alpha1"
    return job_from(
        {"apiVersion": api_version, "kind": "TrainingJob", "metadata": metadata, "spec": {"run": run, **given}}
    )
