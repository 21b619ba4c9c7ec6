"""Which of our modules do pods get? Those that the agent, user code and a gang's pods import, and nothing else.

    python3 prune.py FROM TO

Run while the image is built. Follows imports of our own package from the three roots, so that the list cannot be wrong.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

ROOTS = (
    "orchestrator.agent.__main__",
    "orchestrator.agent.guard",
    "orchestrator.agent.inside",
    "orchestrator.training",
    "orchestrator.rayhead.gang",
)


def needed(site: Path) -> set[Path]:
    """Files of ours, relative to `site`."""
    found: set[Path] = set()
    waiting = [*ROOTS]
    while waiting:
        file = _file(site, waiting.pop())
        if file is None or file.relative_to(site) in found:
            continue
        found.add(file.relative_to(site))
        inside = ".".join(file.relative_to(site).with_suffix("").parts)
        waiting += [inside.rpartition(".")[0], *_imports(file)]
    return found


def _file(site: Path, module: str) -> Path | None:
    at = site.joinpath(*module.split("."))
    return next((path for path in (at / "__init__.py", at.with_suffix(".py")) if path.is_file()), None)


def _imports(file: Path) -> list[str]:
    """Of our package, at run time: what only type checkers read is left out."""
    tree = ast.parse(file.read_text())
    typing_only = {id(one) for node in ast.walk(tree) if _is_typing(node) for one in ast.walk(node)}
    names: list[str] = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("orchestrator"):
            names += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            names += [name.name for name in node.names if name.name.startswith("orchestrator")]
    return names


def _is_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def main(source: str, target: str) -> None:
    """Copy what is needed, and everything that is not ours."""
    site, into = Path(source), Path(target)
    into.mkdir(parents=True)
    for folder in site.iterdir():
        if folder.is_dir() and not folder.name.startswith(("orchestrator", "first_refusal", "bin")):
            shutil.copytree(folder, into / folder.name)
    for file in needed(site):
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(site / file, into / file)


if __name__ == "__main__":
    main(*sys.argv[1:])
