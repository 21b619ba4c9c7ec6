"""Whose connection is it?"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing

from orchestrator.mockcloud.processes import owner_of

LOOKS = 200


def test_a_connection_of_a_process_that_opens_and_closes_files_all_the_time_is_still_its_own() -> None:
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            os.close(os.open(os.devnull, os.O_RDONLY))

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        first = os.open(os.devnull, os.O_RDONLY)  # its number is free below the connection's: seen before it
        with closing(socket.create_connection(server.getsockname())) as ours:
            os.close(first)
            (worker := threading.Thread(target=busy)).start()
            try:
                found = {owner_of(ours.getsockname()[1]) for _ in range(LOOKS)}
            finally:
                over.set()
                worker.join()
    assert found == {os.getpid()}
