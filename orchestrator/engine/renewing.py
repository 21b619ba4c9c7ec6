"""What does whoever applies a Capacity document hear when it prolongs a block to which somebody else has a right?

Called by the desk before such a wish is written, and at a start. Decides nothing: that is `core.renewing`.
"""

from __future__ import annotations

from orchestrator.core.book import Book
from orchestrator.model.capacity import Block
from orchestrator.model.documents.errors import DocumentError, Problem


def refuse_unrenewed(book: Book, blocks: tuple[Block, ...], now: int) -> None:
    """Raises `DocumentError`, which the document with these blocks deserves as a whole."""
    bound = book.rulebook.unrenewed(blocks, now, book.ledger)
    if bound:
        raise DocumentError([
            Problem(f"spec.blocks.{one.renewal.block.name}.to", one.reason, one.remedy(now), "renewal") for one in bound
        ])  # fmt: skip
