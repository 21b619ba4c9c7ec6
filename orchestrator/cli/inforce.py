"""`orchestrator contracts list` and `apply`: which contracts a running server obeys, and others from now on.

Clients of the server; what a set decides is asked of the files, without one (`contracts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.jobs import PATIENCE_S
from orchestrator.cli.output import AsJson, echo, print_json, say, table
from orchestrator.model.documents.views import InForceView
from orchestrator.sdk import Client


def listing(as_json: AsJson = False) -> None:
    """List the contracts of the set that is in force: what the running server obeys, which need not be its file's.

    A set that was applied later stays over restarts. The version is the one that decisions, offers and `apply` cite,
    the sha256 the one that `contracts check FILE` prints. A contract binds from the first day of its term to the last.
    """
    with Client(patience_s=PATIENCE_S) as client:
        found = client.in_force()
    if as_json:
        print_json(found)
        return
    table(("contract", "holder", "from", "to", "status", "clauses"), _rows(found), "no contract set is in force")
    if found.contract_digest:
        say(f"[dim]version {found.contract}, sha256 {found.contract_digest}[/]")


def _rows(found: InForceView) -> Iterator[tuple[str, ...]]:
    for one in (found.contract_document or {}).get("spec", {}).get("contracts", []):
        clauses = ", ".join(f"{clause['id']} ({clause['type'].replace('_', ' ')})" for clause in one["clauses"])
        term = one["term"]["from"], one["term"]["to"]
        yield one["id"], one.get("holder") or "", *term, one.get("status", "active"), clauses


def apply(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="YAML 1.2 or JSON")],
    as_json: AsJson = False,
) -> None:
    """Let the contract set FILE take effect at the running server, whole and now.

    Open offers keep the version that they were opened with; whatever is decided later obeys the new one. Each contract
    in the set holds from the first day of its own term, so a change that is to come is a contract with a later term.
    Drafts never gate. Everything wrong with the set is said at once, and then nothing changes (exit 4). It stays in
    force over restarts, until another is applied or the server is started with another file. Needs a token with the
    scope `operator`; test the set first: `orchestrator contracts test`.
    """
    with Client(patience_s=PATIENCE_S) as client:
        before = client.in_force()
        after = client.apply_contracts(file.read_bytes())
    if as_json:
        print_json(after)
        return
    changed = "takes effect" if after.contract != before.contract else "is in force already"
    echo(f"{file} {changed}: version {after.contract}, sha256 {after.contract_digest}")
