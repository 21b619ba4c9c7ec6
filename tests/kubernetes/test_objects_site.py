"""What pods get of ours loads in any Python that Ray supports, with nothing but obstore beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOAD = "import orchestrator.agent.__main__, orchestrator.agent.guard, orchestrator.training, orchestrator.rayhead.gang"
STAND_IN = {"__init__": "", "exceptions": "AlreadyExistsError = BaseError = PreconditionError = OSError\n"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our part as the image carries it, and an obstore that only loads: the real one is of another Python."""
    folder = tmp_path_factory.mktemp("site")
    loader = SourceFileLoader("prune", str(ROOT / "deploy" / "site" / "prune.py"))
    prune = module_from_spec(spec_from_loader("prune", loader) or pytest.fail())
    loader.exec_module(prune)
    for file in prune.needed(ROOT):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    (folder / "obstore").mkdir()
    for name, text in (STAND_IN | {"store": "from_url = None\n"}).items():
        (folder / "obstore" / f"{name}.py").write_text(text)
    return folder


def interpreter(version: str) -> str | None:
    """One of this version: on the path, or kept by pyenv (whose shims on the path may lead nowhere)."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    tried = [*map(str, kept.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    return next((one for one in tried if one and not subprocess.run([one, "-V"], capture_output=True).returncode), None)


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_it_loads_without_anything_installed(site: Path, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"not run: python{version}: install it")
    loaded = subprocess.run([python, "-S", "-B", "-c", LOAD], env={"PYTHONPATH": str(site)}, capture_output=True)
    assert loaded.stderr == b""


def test_nothing_heavy_is_carried(site: Path) -> None:
    files = [file.relative_to(site) for file in site.rglob("*.py")]
    assert {file.parts[:2] for file in files if file.parts[0] != "obstore"} <= {
        ("orchestrator", part) for part in ("__init__.py", "agent", "model", "rayhead", "runlog", "training.py")
    }
    assert len(files) < 40
