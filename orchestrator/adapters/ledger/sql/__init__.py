"""The ledger on SQL: `SqlLedger` for the one server that leads, `reading` for everybody who only looks."""

from __future__ import annotations

from orchestrator.adapters.ledger.sql.ledger import SqlLedger
from orchestrator.adapters.ledger.sql.snapshot import Snapshot, reading

__all__ = ["Snapshot", "SqlLedger", "reading"]
