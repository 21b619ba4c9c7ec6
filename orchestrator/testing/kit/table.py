"""Which promises are judged, where is each written, and which wrong provider breaks it? The table of the kit's page.

`python -m orchestrator.testing.kit --table` prints it; a test holds `docs/provider-kit.md` to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getdoc

from orchestrator.testing.broken import BROKEN
from orchestrator.testing.kit.examine import PROMISES
from orchestrator.testing.kit.registry import Promise

NOT_JUDGED = {
    "Capabilities.firm": "between operator and supplier: what it is worth shows in courts, not in calls",
    "Capabilities.max_open_offers": "what we keep to, not the provider",
    "Capabilities.store_url": "met by jobs, not by calls",
}
"""What a provider says of itself that no call can judge, and why."""


def rows() -> Iterator[str]:
    """The lines of the table, in Markdown."""
    yield "| | promise | where it is written | judged by | broken by |"
    yield "|--:|---|---|---|---|"
    for number, promise in enumerate(PROMISES, 1):
        yield f"| {number} | {promise.sentence} | `{promise.where}` | {_judge(promise)} | {_wrong(promise)} |"


def _judge(promise: Promise) -> str:
    module = promise.check.__module__.rpartition(".")[2]
    needs = f", needs `Subject.{promise.needs}`" if promise.needs else ""
    return f"`{promise.name}` in {module}{needs}"


def _wrong(promise: Promise) -> str:
    told = ((kind.__name__, (getdoc(kind) or "").rstrip(".")) for kind in BROKEN[promise.name])
    return "; ".join(f"`{name}`: {doc[:1].lower()}{doc[1:]}" for name, doc in told)
