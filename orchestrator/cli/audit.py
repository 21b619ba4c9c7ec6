"""`orchestrator audit`: write a ledger out, judge it, and show which forgeries would be noticed.

Called by operators, contract officers and CI. Reads the ledger's file without a lock, beside a running server;
`verify` and `mutate` need nothing but the export (and, for the world, what was written down where things ran).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestrator.adapters.ledger.sql import Snapshot, reading
from orchestrator.bootstrap import ledger_place
from orchestrator.cli.exits import EXIT_CODES, Exit
from orchestrator.cli.output import AsJson, echo, print_json
from orchestrator.cli.witnesses import NoWitness, gather
from orchestrator.core.audit.export import Export, NotAnExport, Source, assemble, export, lines, parse
from orchestrator.core.audit.history import Unreadable
from orchestrator.core.audit.mutate import Outcome, mutate
from orchestrator.core.audit.redact import ButJobs, ForProvider
from orchestrator.core.audit.registry import Report, Verdict, unenforced
from orchestrator.core.audit.verify import verify
from orchestrator.core.audit.world import World
from orchestrator.core.counters import offered
from orchestrator.model.contract import Contracts, Providers
from orchestrator.model.documents.base import load_canonical
from orchestrator.model.documents.compile import compile_contracts, compile_providers
from orchestrator.model.documents.contracts import ContractSet
from orchestrator.model.documents.providers import ProviderSet
from orchestrator.model.job import LedgerRow, ledger_row
from orchestrator.ports.ledger import LedgerError
from orchestrator.settings import load

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Prove from the ledger that every promise was kept, or see which was not.\n\n" + EXIT_CODES,
)
ExportFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Written by `audit export`.")
]
SQLITE = b"SQLite format 3\0"
"""What a database file begins with (sqlite.org/fileformat.html, 1.3.1)."""


class StoredDocuments:
    """Compiles the documents that a ledger keeps, from their canonical bytes."""

    def contracts(self, digest: str, data: bytes) -> Contracts:
        """A contract set; `Unreadable` where this version cannot read it."""
        try:
            return compile_contracts(load_canonical(ContractSet, data))
        except ValueError as wrong:
            raise Unreadable(f"the contract set {digest[:12]} cannot be read: {wrong}") from wrong

    def providers(self, digest: str, data: bytes) -> Providers:
        """A provider set; `Unreadable` where this version cannot read it."""
        try:
            return compile_providers(load_canonical(ProviderSet, data))
        except ValueError as wrong:
            raise Unreadable(f"the provider set {digest[:12]} cannot be read: {wrong}") from wrong


def audit(source: Source, witnesses: World | None = None) -> Report:
    """Judge a ledger's snapshot at once, without a file in between: for stories, the demo and benchmarks."""
    return verify(assemble(lines(source)), StoredDocuments(), witnesses)


@app.command("export")
def export_command(
    ledger: Annotated[
        Path | None, typer.Option("--ledger", help="The ledger's file; default: where `serve` keeps it.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")] = None,
    provider: Annotated[
        str | None, typer.Option("--for", metavar="PROVIDER", help="Show only what concerns this provider.")
    ] = None,
    redacted: Annotated[
        list[str] | None, typer.Option("--redact", metavar="JOB", help="Hide a job; repeatable.")
    ] = None,
) -> None:
    """Write the ledger as JSON lines: events with their bodies and chain, documents they cite, rows, counters.

    `orchestrator-verify FILE` checks it offline with the standard library alone; a provider that adds its own
    `--receipts` finds any rewrite. The server need not stop.

    With --for or --redact, bodies are left out and their salted hashes stay, so that the rest still verifies; so are
    the contract and provider documents, rows and counters. What remains of a hidden event is number, time, kind,
    project and job id. An offer's body, shown to its provider, also names who was passed over before it, and why, what
    had freed the job from which clauses, and the block of owned capacity that it was meant for: another supplier's too,
    where a right of the provider names what is owned.

    Example: `orchestrator audit export --for azure -o ledger.jsonl && orchestrator-verify ledger.jsonl`
    """
    if provider is not None and redacted:
        raise typer.BadParameter("--for already hides whatever is not the provider's; give one of them")
    disclosed = ForProvider(provider) if provider is not None else ButJobs(redacted) if redacted else None
    try:
        with reading(ledger or ledger_place(load())) as snapshot:
            if provider is not None:
                _mind(provider, snapshot)
            if out is None:
                _write(export(snapshot, disclosed))
            else:
                with out.open("wb") as file:
                    file.writelines(export(snapshot, disclosed))
    except LedgerError as wrong:
        _refuse(str(wrong))
    except OSError as wrong:
        _refuse(f"{out or 'standard output'} cannot be written: {wrong.strerror}; the export is not whole")


def _mind(provider: str, snapshot: Snapshot) -> None:
    """Refuse a name under which nobody was ever offered anything, nor is now: all would be hidden, and seem right."""
    own = next((ledger_row(row.body) for row in snapshot.rows() if row.job == ""), LedgerRow())
    stated = snapshot.spec(own.providers_digest) if own.providers_digest else None
    names = [p.name for p in StoredDocuments().providers(own.providers_digest, stated).providers] if stated else []
    if provider not in names and not offered(snapshot.counters(), provider):
        why = f"this ledger knows no {provider!r}; its providers are {', '.join(names) or 'none'}"
        raise typer.BadParameter(why, param_hint="--for")


@app.command("verify")
def verify_command(
    file: ExportFile,
    world: Annotated[
        Path | None,
        typer.Option("--world", exists=True, file_okay=False, help="Folder of witness files, journals and run logs."),
    ] = None,
    require_judged: Annotated[
        bool, typer.Option("--require-judged", help="Fail where a sentence had nothing to judge.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge every sentence that must always hold, say how often each was judged, and list every violation.

    With --world, also what was written down where things ran: files *.jsonl (witness files of user code, journals of
    providers) and run logs (folders <project>/<job>/log) anywhere below DIR. Nothing is judged, and the exit code is 2,
    where some of it cannot be read: a line that others follow, a gap in a run log, two copies of one that differ.
    """
    try:
        report = verify(_load(file), StoredDocuments(), gather(world) if world else None)
    except NoWitness as wrong:
        _refuse(str(wrong))
    except RecursionError as deep:
        _refuse(f"{file} holds a value that is nested too deep to be read ({deep}). Export the ledger again.")
    if as_json:
        print_json(report.plain())
    else:
        _print(report)
    if report.violations or (require_judged and report.unjudged):
        raise typer.Exit(Exit.FAILED)


@app.command("mutate")
def mutate_command(file: ExportFile, as_json: AsJson = False) -> None:
    """Forge each kind of event in FILE, hash the chain anew, and say which sentence reports it.

    Forgeries: delete, duplicate, swap with the job's next event, two windows earlier, two windows later.
    """
    table = list(mutate(_load(file), StoredDocuments()))
    if as_json:
        rows = [
            {"kind": o.kind, "forgery": o.forgery, "tried": o.tried, "detected": o.detected, "by": list(o.by)}
            for o in table
        ]
        print_json(rows)
        return
    for line in table_lines(table):
        echo(line)


def table_lines(table: Iterable[Outcome]) -> list[str]:
    """The table as text: kind, forgery, the sentences that report it or why none does. No times, no counts."""
    return [f"{o.kind:<17} {o.forgery:<10} {o.words}" for o in table]


def _print(report: Report) -> None:
    for verdict in report.verdicts:
        state = _state(verdict)
        echo(f"{verdict.number:>3}  judged {verdict.judged:>7}  {state:<14}  {verdict.words}")
    for b in report.declared:
        said = f"{b.clause}, by {b.record}, approved by {b.approver}: {b.why or 'no reason given'}"
        echo(f"overridden, a declared breach  job {b.job or '-'}  event {b.seq}  {said}")
    for f in report.findings:
        echo(f"sentence {f.sentence}  job {f.job or '-'}  event {f.seq or '-'}  {f.words}")
    if report.redacted:
        echo(f"{report.redacted} events are redacted: of them only their place in the chain was judged")
    if report.hidden:
        counts = ", ".join(f"{v.number} ({v.hidden} times)" for v in report.verdicts if v.hidden)
        echo(f"not judged, because what they hang on is hidden: {counts}")
    if wanting := [v.number for v in report.verdicts if not v.judged and not v.hidden]:
        echo(f"not judged, for want of anything to judge: {', '.join(map(str, wanting))}")
    echo(f"not judged, because this version does not enforce them: {', '.join(map(str, unenforced()))}")
    echo(f"head {report.head}")
    overridden = f", {len(report.declared)} overridden" if report.declared else ""
    hidden = f", {report.hidden} not judged: hidden" if report.hidden else ""
    nothing = f", {len(wanting)} sentences had nothing to judge (--require-judged: an error)" if wanting else ""
    echo(f"audit: {report.events} events, {report.violations} violations{overridden}{hidden}{nothing}")


def _state(verdict: Verdict) -> str:
    if verdict.violations:
        return f"{verdict.violations} violations"
    return "ok" if verdict.judged else "hidden" if verdict.hidden else "not judged"


def _load(file: Path) -> Export:
    try:
        with file.open("rb") as text:
            if text.peek(len(SQLITE)).startswith(SQLITE):
                _refuse(f"{file} is a ledger and no export of one: `orchestrator audit export --ledger {file} -o FILE`")
            return parse(text)
    except NotAnExport as wrong:
        _refuse(f"{file}: {wrong}")


def _write(chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _refuse(why: str) -> NoReturn:
    echo(why, err=True)
    raise typer.Exit(Exit.USAGE)
