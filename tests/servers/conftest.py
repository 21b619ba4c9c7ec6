from __future__ import annotations

from tests.ledger.conftest import postgres

__all__ = ["postgres"]
