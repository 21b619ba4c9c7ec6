"""Clients of one server's address, as a pod runs them: so many jobs a second, each under a key of its own.

Started as `python -c`, with address and token in the environment. Prints a line of JSON for each job: key, id, seconds.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

from orchestrator.sdk import Client, command_job

TOTAL, RATE, CLIENTS = int(os.environ["TOTAL"]), float(os.environ["RATE"]), 10


def submit(client: Client, n: int) -> str:
    """As people do: what is to be sent again, the SDK sends again."""
    spec = {"workers": {"gpus": 8, "accelerator": ["H100"]}, "maxRuntime": "1h", "policy": "patient"}
    key, began = f"load-{n}", time.monotonic()
    job = client.submit(command_job(["python", "train.py"], folder=None, **spec), key=key)
    return json.dumps({"key": key, "id": job.id, "took": round(time.monotonic() - began, 2)})


def one_client(first: int, began: float) -> list[str]:
    """Its share, at its pace; whatever could not be sent in time follows at once."""
    said = []
    with Client(patience_s=60) as client:
        for n in range(first, TOTAL, CLIENTS):
            time.sleep(max(0.0, began + n / RATE - time.monotonic()))
            said.append(submit(client, n))
    return said


if __name__ == "__main__":
    with ThreadPoolExecutor(CLIENTS) as pool:
        lists = list(pool.map(one_client, range(CLIENTS), [time.monotonic()] * CLIENTS))
    print("\n".join(line for lines in lists for line in lines))
