"""Suppliers whose people answer offers themselves, whatever starts their machines."""

from __future__ import annotations

from orchestrator.adapters.byhand.provider import ByHand
from orchestrator.adapters.byhand.webhook import Webhook, lacking, signature

__all__ = ["ByHand", "Webhook", "lacking", "signature"]
