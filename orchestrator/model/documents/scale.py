"""Another number of workers for a job that is there: as people say it, and as the HTTP API takes it.

Read by the SDK, the command line and the API alike, so that what is no size is said in the same words everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from orchestrator.model.documents.base import Document, load_data
from orchestrator.model.documents.job import Count, Elastic
from orchestrator.model.documents.units import refuse
from orchestrator.model.placement import MOST_WORKERS

HowMany: TypeAlias = int | str | Sequence[int] | Mapping[str, int]
"""A number of workers or a range: 8, (4, 8), "4:8" as torchrun writes it, or as in a job."""


def _in_one_sentence(size: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Whatever is wrong with it: to whoever writes it, a size is one word."""
    try:
        return check(size)
    except ValidationError:
        ends = isinstance(size, dict) and size.keys() == {"min", "max"}
        said = f"{size['min']}:{size['max']}" if ends else size
        remedy = f"give a number from 1 to {MOST_WORKERS}, or a range of them, least first, as in 4 or 2:8"
        raise refuse("workers", f"{str(said)[:40]!r} is no number of workers", remedy) from None


class Scale(Document):
    """Another number of workers for a job that is there."""

    workers: Annotated[Count, WrapValidator(_in_one_sentence)]

    @classmethod
    def said(cls, size: HowMany) -> Scale:
        """As somebody says it. Raises DocumentError for what is no size, TypeError for what is nothing like one."""
        match size:
            case str() if found := re.fullmatch(r"(-?\d{1,18})(?::(-?\d{1,18}))?", size, re.ASCII):
                least, most = found.groups()
                size = int(least) if most is None else {"min": int(least), "max": int(most)}
            case (least, most):
                size = {"min": least, "max": most}
            case int() | str() | Mapping():
                pass
            case _:
                raise TypeError(f"a size is a number, (least, most) or text as in '4:8', not {type(size).__name__}")
        return load_data(cls, {"workers": size})

    @property
    def range(self) -> tuple[int, int]:
        """The most workers that it may have, and the least; 0: no fewer than that."""
        most, least = (self.workers.max, self.workers.min) if isinstance(self.workers, Elastic) else (self.workers, 0)
        return most, least if least < most else 0
