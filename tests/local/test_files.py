"""What a launch's folder says is ours to remove is believed only of folders as we make them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from orchestrator.adapters.providers.local import files


def test_only_a_scratch_folder_of_ours_is_removed(tmp_path: Path) -> None:
    """User code can write where its name is kept."""
    ours = Path(tempfile.mkdtemp(prefix=files.SCRATCH_PREFIX, dir=files.SCRATCH_ROOT))
    (inside := ours / "ol-inside").mkdir()
    (foreign := tmp_path / "ol-foreign").mkdir()
    for named, left in ((foreign, True), (inside, True), (ours / ".." / "tmp", True), (ours, False)):
        files.write(tmp_path / files.SCRATCH, str(named))
        files.forget_scratch(tmp_path)
        assert ours.exists() is left
    assert foreign.exists()


def test_a_launch_without_one_and_one_that_is_gone_already_are_no_trouble(tmp_path: Path) -> None:
    files.forget_scratch(tmp_path)
    files.write(tmp_path / files.SCRATCH, f"{files.SCRATCH_ROOT}/{files.SCRATCH_PREFIX}gone-already")
    files.forget_scratch(tmp_path)
    assert files.maybe(tmp_path / files.GONE) is None
