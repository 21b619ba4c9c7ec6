"""The ten longest functions and files of the product; fails when one is over its budget."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FILE, FUNCTION, NEVER = 400, 40, 60
SHOWN = 10


def functions(path: Path) -> list[tuple[int, str]]:
    """(lines, where) of every function in a file, its docstring and nested functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}"))
    return found


def main() -> int:
    """Print the tail; 1 where a file or function is over its budget."""
    paths = sorted(Path("orchestrator").rglob("*.py"))
    files = sorted(((len(path.read_text().splitlines()), str(path)) for path in paths), reverse=True)
    longest = sorted((one for path in paths for one in functions(path)), reverse=True)
    for title, rows in (("longest files", files), ("longest functions", longest)):
        print(f"{title}:")
        for lines, where in rows[:SHOWN]:
            print(f"  {lines:4d}  {where}")
    print(f"{sum(lines for lines, _ in files)} lines in {len(files)} files")
    over = [where for lines, where in files if lines > FILE] + [where for lines, where in longest if lines > NEVER]
    warned = sum(FUNCTION < lines <= NEVER for lines, _ in longest)
    print(f"functions between {FUNCTION} and {NEVER} lines: {warned}")
    for where in over:
        print(f"over its budget: {where}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
