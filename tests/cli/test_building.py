"""A server that is not made after all leaves nothing open: its ledger can be opened by the next one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bootstrap import build
from orchestrator.model.documents import DocumentError
from orchestrator.settings import Settings
from orchestrator.testing.scripted import ScriptedProvider
from tests.real import one_provider


async def test_an_adapter_that_refuses_leaves_the_ledger_to_the_next_server(tmp_path: Path) -> None:
    def refuses(*_: Any) -> ScriptedProvider:
        raise ValueError("a stranger's bug")

    settings = Settings(home=tmp_path, providers=one_provider(tmp_path, "odd", {}))
    with pytest.raises(DocumentError, match="cannot be loaded"):
        await build(settings, factories={"odd": refuses})
    assert not [t.name for t in threading.enumerate() if "ledger" in t.name]
    app = await build(settings, factories={"odd": lambda name, *_: ScriptedProvider(name)})
    await app.start()
    await app.stop()
