"""`python -m orchestrator.testing.kit module:factory`: examine a provider from a shell.

Exit code 0: every judged promise is kept; 1: some are broken; 2: the factory cannot be found. Without an argument it
lists the promises; `--table` prints them in Markdown, with where each is written and which wrong providers break it.
"""

from __future__ import annotations

import asyncio
import importlib
import sys

from orchestrator.testing.kit import PROMISES, check_provider
from orchestrator.testing.kit.table import rows


def main(arguments: list[str]) -> int:
    """Examine the provider that `module:factory` makes; print every finding."""
    if not arguments:
        for number, promise in enumerate(PROMISES, 1):
            print(f"{number:>3} {promise.name}: {promise.sentence}")
        return 0
    if arguments == ["--table"]:
        print("\n".join(rows()))
        return 0
    module, _, name = arguments[0].partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        print(f"{arguments[0]!r} is no factory that can be imported ({error}); write module:factory", file=sys.stderr)
        return 2
    report = asyncio.run(check_provider(factory))
    print(report)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
