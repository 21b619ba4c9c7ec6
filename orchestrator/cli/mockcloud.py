"""`orchestrator mock-cloud`: play one cloud on this machine, over HTTP, until Ctrl-C.

Called by people who want to see the scheduler at work without a cloud, and by tests. It only reads options and starts
`orchestrator.mockcloud`; tokens never stand on a command line, they are in the folder's `connection.json`.
"""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape

from orchestrator.cli.exits import Exit
from orchestrator.cli.output import say
from orchestrator.mockcloud.config import CloudConfig, Machines
from orchestrator.mockcloud.profiles import names
from orchestrator.mockcloud.server import serve

CloudName = StrEnum("CloudName", {name.upper(): name for name in names()})  # type: ignore[misc]

app = typer.Typer(rich_markup_mode="markdown")


@app.command("mock-cloud")
def mock_cloud(
    cloud: Annotated[CloudName | None, typer.Argument(help="Which cloud; its own regions, prices and errors.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON file with everything, instead of the options.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Takes connection.json, journal and logs.")] = None,
    machines: Annotated[
        Machines | None,
        typer.Option(help="What clusters are: a real `ray` head, plain `process`es, or `paper` (records only)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same delays.")] = None,
    port: Annotated[int | None, typer.Option(help="Of the API, on loopback; 0: any free one.")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Of the fault switchboard, under its own token.")] = None,
    store: Annotated[
        str | None, typer.Option(help="http://host:port of the checkpoint store; jobs reach it through the cloud only.")
    ] = None,
) -> None:
    """Play a cloud over HTTP: offers, clusters, prices, finite capacity, its own error codes, and faults on demand.

    `orchestrator mock-cloud azure --folder /tmp/azure`, then in providers.yaml:
    `azure: {adapter: mock, connection: {file: /tmp/azure/connection.json}, …}`.

    Break it while it runs, with the admin token of connection.json: `PUT /faults {"api": "refuse"}`,
    `POST /outage {"kill": true}`, `POST /join`, `PUT /capacity {"eastus": {"H100": 0}}`.
    """
    given = {
        "cloud": cloud and cloud.value,
        "machines": machines,
        "seed": seed,
        "port": port,
        "adminPort": admin_port,
        "store": store,
    }
    read = _read(config) | {name: value for name, value in given.items() if value is not None}
    try:
        settled = CloudConfig.model_validate(read)
    except ValidationError as error:
        for one in error.errors():
            where = ".".join(map(str, one["loc"])) or str(config or "the options")
            say(f"[red]error:[/] {escape(where)}: {escape(one['msg'].removeprefix('Value error, '))}")
        say("name a cloud (`orchestrator mock-cloud azure`) or a file (`--config cloud.json`)")
        raise typer.Exit(Exit.REFUSED) from None
    try:
        asyncio.run(serve(settled, folder or Path(f".mock-cloud-{settled.cloud}")))
    except OSError as error:
        say(f"[red]error:[/] {settled.cloud} cannot listen or write: {error}; choose other ports or another folder")
        raise typer.Exit(Exit.FAILED) from None


def _read(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        document = json.loads(config.read_text())
    except (OSError, ValueError) as error:
        say(f"[red]error:[/] {config} cannot be read as JSON: {error}")
        raise typer.Exit(Exit.USAGE) from None
    if not isinstance(document, dict):
        say(f"[red]error:[/] {config} holds no object")
        raise typer.Exit(Exit.USAGE)
    return document
