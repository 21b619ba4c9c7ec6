"""What does whoever applies a Capacity document hear when it prolongs a block to which somebody else has a right?

Called by the desk before such a wish is written, and at a start. Decides nothing: that is `core.renewing`.
"""

from __future__ import annotations

from orchestrator.core.rulebook import RuleBook
from orchestrator.model.capacity import Block
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.job import LedgerRow


def refuse_unrenewed(rules: RuleBook, own: LedgerRow, blocks: tuple[Block, ...], now: int, meanwhile: str = "") -> None:
    """Raises `DocumentError`, which the document with these blocks deserves as a whole. `own`: the ledger's row;
    `meanwhile`: what else its author may do, told behind each remedy."""
    bound = rules.unrenewed(blocks, now, own)
    if bound:
        raise DocumentError([
            Problem(f"spec.blocks.{one.renewal.block.name}.to", one.reason, one.remedy(now) + meanwhile, "renewal")
            for one in bound
        ])  # fmt: skip
