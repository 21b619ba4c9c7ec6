"""A checkpoint store, reached over a real network, that takes half a check for each call."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.model import event as ev
from tests.buckets import a_bucket
from tests.elsewhere import Elsewhere
from tests.wire.conftest import CHECK_S, a_town, a_way

SLOW_S = CHECK_S / 2
CODE = """
import pathlib, tempfile
from orchestrator import training
for step in (1, 2):
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "weights").write_text(str(step))
    training.report(step=step, checkpoint=folder)
"""


@pytest.mark.fault("checkpoint store slow")
@pytest.mark.s3
@pytest.mark.timeout(120)
def test_a_slow_store_delays_and_loses_nothing(tmp_path: Path) -> None:
    """For the job and for us: one attempt, never doubted, and every step that was reported is there."""
    with a_bucket() as bucket, Elsewhere(lambda: a_way(bucket.options["endpoint"], tmp_path / "way")) as way:
        way.latency = round(SLOW_S * 1000)
        slow = {**bucket.options, **bucket.secrets, "endpoint": f"http://127.0.0.1:{way.port}"}
        store = {"url": bucket.url, "jurisdiction": "EU", "options": slow}
        with a_town(tmp_path, store, machines="process") as town:
            job = town.submit(run={"command": ["python", "-c", CODE]})
            row = town.reaches(job, "succeeded", 60)
            assert not town.told(job, ev.WentUnknown, ev.Fencing) and row["progress"]["checkpointStep"] == 2
