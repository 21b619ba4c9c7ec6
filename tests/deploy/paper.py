"""A mock cloud of this machine that takes every launch and never starts one, where pods reach it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.rayhead.plan import free_ports
from tests.deploy.helm import ROOT
from tests.servers.proxy import proxied


class PaperCloud:
    """The cloud, on loopback; a relay makes it reachable."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal.jsonl"
        self.token, (self.port,) = secrets.token_hex(16), free_ports(1)
        config = {
            "cloud": "azure", "machines": "paper", "paperRun": 3_600_000, "port": self.port, "token": self.token,
            "regions": {"eu-1": "EU"}, "capacity": {"eu-1": {"H100": 1_000_000}}, "provisioning": {},
            "maxOpenOffers": 1000, "throttle": {"perSecond": 10_000, "burst": 10_000},
        }  # fmt: skip
        (folder / "cloud.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "orchestrator.mockcloud", str(folder / "cloud.json"), "--folder", str(folder)]
        self.process = subprocess.Popen(command, cwd=ROOT)

    def launches(self) -> Counter[str]:
        """How many machines were made under each key."""
        whole = self.journal.read_text().rpartition("\n")[0]  # a line may be half written
        lines = map(json.loads, whole.splitlines())
        return Counter(line["key"] for line in lines if line["kind"] == "created")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@contextmanager
def paper_cloud(folder: Path, host: str) -> Iterator[tuple[PaperCloud, int]]:
    """With the port at which pods reach it."""
    cloud = PaperCloud(folder)
    try:
        with proxied(cloud.port, host) as relay:
            yield cloud, relay.port
    finally:
        cloud.end()
