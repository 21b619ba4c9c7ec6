"""What does the cloud keep of the offers that it was given? Its own evidence, as `orchestrator-verify` reads it.

Written by the cloud as things happen, into `receipts.jsonl` of its folder; given out by `GET /v1/receipts`. Times are
of the cloud's own clock. A real supplier keeps the same: the offer as it came, what it answered, what was taken back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.mockcloud.records import OfferIn


class Receipts:
    """An append-only file of JSON lines; every line is written at once and flushed."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = None if path is None else path.open("a", encoding="utf-8")
        self.lines: list[dict[str, Any]] = []

    def offer(self, doc: OfferIn, ref: str, at: int) -> None:
        """An offer came, for the first time."""
        told = doc.model_dump(by_alias=True)
        self._write("offer", offer=told.pop("id"), at=at, ref=ref, **told)

    def answer(self, offer: str, accepted: bool, at: int) -> None:
        """The cloud said yes or no."""
        self._write("answer", offer=offer, accepted=accepted, at=at)

    def withdrawn(self, offer: str, at: int) -> None:
        """The offer was taken back."""
        self._write("withdrawn", offer=offer, at=at)

    def _write(self, what: str, **fields: Any) -> None:
        self.lines.append({"line": what, **fields})
        if self._file is not None:
            self._file.write(_text(self.lines[-1]))
            self._file.flush()

    def text(self) -> str:
        """All of them, a line each."""
        return "".join(map(_text, self.lines))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n"
