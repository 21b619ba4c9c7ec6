"""The Python client: `Client` and `AsyncClient`, jobs as handles, one tree of errors. Imports `model` only."""

from orchestrator.sdk.aio import AsyncClient, AsyncJob
from orchestrator.sdk.build import command_job
from orchestrator.sdk.client import Client, Job

__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "command_job"]
