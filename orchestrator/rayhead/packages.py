"""Does this interpreter's environment hold what a job's workers need? Called before a launch. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement


def missing(requirements: Iterable[str]) -> list[str]:
    """Those that are not satisfied here, or that are no requirements at all."""
    return [text for text in requirements if not _satisfied(text)]


def _satisfied(text: str) -> bool:
    try:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            return True
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except (InvalidRequirement, metadata.PackageNotFoundError):
        return False
