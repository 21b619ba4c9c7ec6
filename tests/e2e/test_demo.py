"""The demo as a newcomer meets it: one command, one story, on a real Ray."""

import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from orchestrator.cli.stage import PYTHON
from tests.e2e.listening import addresses, below

GOLDEN = Path(__file__).parents[1] / "golden" / "demo.timeline.txt"


@pytest.mark.ray
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_demo_tells_its_story_in_under_four_minutes() -> None:
    with tempfile.TemporaryDirectory(prefix="od-", dir="/tmp") as folder:
        command = [*PYTHON, "orchestrator.cli.main", "demo", "--folder", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
            heard = Heard(demo)
            said = demo.communicate(timeout=590)[0]
        assert demo.returncode == 0, said
        assert (Path(folder) / "timeline.txt").read_text() == GOLDEN.read_text()
        assert "<svg" in (Path(folder) / "timeline.svg").read_text()
    assert re.search(r"^audit: \d+ events, 0 violations$", said, re.MULTILINE)
    took = re.search(r"([\d.]+) s ✓ done at oracle", said)
    assert took and float(took[1]) < 240
    assert len(heard.at) > 10 and {address for address, _ in heard.at} == {"127.0.0.1"}, sorted(heard.at)


class Heard(threading.Thread):
    """Looks every quarter of a second where the processes of a running demo listen."""

    def __init__(self, demo: "subprocess.Popen[str]") -> None:
        super().__init__(daemon=True)
        self._demo = demo
        self.at: set[tuple[str, int]] = set()
        self.start()

    def run(self) -> None:
        while self._demo.returncode is None:
            self.at |= addresses(below(self._demo.pid))
            time.sleep(0.25)


@pytest.mark.parametrize(("family", "bound", "address"), [
    (socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET, "0.0.0.0", "0.0.0.0"), (socket.AF_INET6, "::", "::"),
    (socket.AF_INET6, "::1", "::1"), (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
])  # fmt: skip
def test_a_socket_that_listens_is_seen(family: socket.AddressFamily, bound: str, address: str) -> None:
    with socket.socket(family) as listening, socket.socket(family) as silent:
        for one in (listening, silent):
            one.bind((bound, 0))
        listening.listen()
        seen = addresses(below(os.getpid()))
        assert (address, listening.getsockname()[1]) in seen and (address, silent.getsockname()[1]) not in seen


def test_the_demo_empties_no_folder_but_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    command = [*PYTHON, "orchestrator.cli.main", "demo", "--folder", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1 and "name another with --folder" in ran.stdout.replace("\n", " ")
    assert (tmp_path / "thesis.tex").exists()
