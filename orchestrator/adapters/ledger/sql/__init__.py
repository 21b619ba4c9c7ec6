"""The ledger on SQL: `SqlLedger` for a server, `reading` for whoever looks at one from beside it."""

from __future__ import annotations

from orchestrator.adapters.ledger.sql.ledger import SqlLedger
from orchestrator.adapters.ledger.sql.snapshot import Snapshot, reading

__all__ = ["Snapshot", "SqlLedger", "reading"]
