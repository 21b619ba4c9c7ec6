"""What a launch on this machine inherits of the server: an allow-list, and its own store's keys."""

from __future__ import annotations

from orchestrator.adapters.providers.local.inherited import inherited
from orchestrator.model.wire import StoreRef

WANTED = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "TZ": "UTC", "CUDA_VISIBLE_DEVICES": "0", "https_proxy": "p"}
NEVER = {
    "ORCHESTRATOR_HOME": "/o", "ORCHESTRATOR_DATABASE_URL": "postgresql://me:secret@db/x", "ORCHESTRATOR_TOKENS": "/t",
    "AZURE_KEY": "k", "SLACK_HOOK": "h",
}  # fmt: skip


def test_user_code_gets_what_it_commonly_needs_and_no_secret_of_the_server() -> None:
    assert inherited({**WANTED, **NEVER}, StoreRef(name="main", url="file:///s")) == WANTED


def test_a_launch_gets_the_keys_of_the_store_that_it_saves_in_and_no_others() -> None:
    store = StoreRef(name="main", url="s3://b", secrets={"access_key": "env:AZURE_KEY", "other": "file:/x"})
    assert inherited({**WANTED, **NEVER}, store) == {**WANTED, "AZURE_KEY": "k"}
