"""Ports of a head: nobody else's connection may take one before the head listens on it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from orchestrator.rayhead.plan import Wish, free_ports, plan

EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_ports_are_free_and_none_is_ever_an_outgoing_connections() -> None:
    found = free_ports(50)
    assert len(set(found)) == 50
    assert all(20_000 <= port < max(EPHEMERAL, 32_768) for port in found)


def test_a_port_that_is_taken_is_not_given() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports(1)[0]))
        assert all(taken.getsockname()[1] not in free_ports(40) for _ in range(20))


def test_no_port_of_a_head_is_left_to_ray(tmp_path: Path) -> None:
    argv = plan(Wish(python="python", folder=tmp_path, cpus=4), os.environ).argv
    named = {option.split("=")[0]: option.split("=")[1] for option in argv if "-port=" in option}
    assert len(named) == len(set(named.values())) == 9
    assert "0" not in named.values()
