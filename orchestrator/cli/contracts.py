"""`orchestrator contracts`: is this contract document right, what does it decide, and for whom?

Called by contract officers before a document takes effect, and in CI. Reads files, asks core, prints; only the
commands of `inforce` talk to a server.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer

from orchestrator.cli import inforce
from orchestrator.cli.exits import EXIT_CODES, Exit
from orchestrator.cli.output import AsJson, echo, print_json
from orchestrator.core.cases import Difference, Outcome, Verdict, answer, decide, run_case
from orchestrator.core.sentences import HELD, WARNED, duration, freedom_sentences, gate_sentence, provider_sentences
from orchestrator.model.case import Case, Facts
from orchestrator.model.contract import Providers, Trigger
from orchestrator.model.documents import (
    ContractSet,
    DocumentError,
    Notice,
    Problem,
    ProviderSet,
    compile_contracts,
    compile_providers,
    digest,
    disagreements,
    load_contracts,
    load_job,
    load_providers,
    shape_of,
    stated_providers,
    unattested,
    undescribed,
    unenforced,
    unhonoured,
    warnings,
)
from orchestrator.model.documents.cases import load_cases, load_facts, moment, strangers, strangers_in_facts
from orchestrator.model.documents.conflicts import contracts_from
from orchestrator.model.placement import Placement, Rules

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Check, explain and test contract documents before they take effect; list those that have.\n\n"
    "A contract set says which supplier must be asked first for which work, at what price, and where work "
    "may run. Test one like code: write cases (a moment, a job, facts, the expected order) beside it and run "
    "`orchestrator contracts test` on every change.\n\n" + EXIT_CODES,
)
FilePath = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="YAML 1.2 or JSON")]
ProvidersFile = Annotated[
    Path | None,
    typer.Option(
        "--providers",
        exists=True,
        dir_okay=False,
        help="The operator's providers.yaml; without it, the providers that the set itself describes.",
    ),
]


@app.command()
def check(file: FilePath, providers: ProvidersFile = None, as_json: AsJson = False) -> None:
    """Is the contract set FILE well-formed, free of contradictions, and enforced whole by this version?

    Prints its digest (which every decision cites), warnings, and each part that is not enforced yet:
    a server would refuse to start with those (exit 3). Problems are listed all at once (exit 4).
    """
    operators = _operators(providers, as_json)
    try:
        document = load_contracts(file.read_bytes())
        if operators and (wrong := disagreements(document, operators)):
            raise DocumentError(wrong)
    except DocumentError as error:
        _refuse(file, error.problems, as_json)
    missing, notices = unenforced(document), warnings(document)
    notices += unattested(document, operators) if operators else undescribed(document)
    if as_json:
        told = {"digest": digest(document), "problems": [], "warnings": [n._asdict() for n in notices]}
        print_json({"file": str(file), **told, "unenforced": [{"path": p, "what": w} for p, w in missing]})
    else:
        echo(f"{file}: contract set {document.metadata.name}, sha256 {digest(document)}")
        _echo_notices(notices)
        _echo_unenforced(missing)
        echo("  not enforced whole: a server refuses it" if missing else "  ok")
    raise typer.Exit(Exit.NOT_ENFORCED if missing else Exit.OK)


@app.command()
def explain(
    file: FilePath,
    job: Annotated[Path, typer.Option("--job", exists=True, dir_okay=False, help="A TrainingJob document.")],
    at: Annotated[str, typer.Option("--at", help="The moment, as in 2025-06-01T12:00:00Z.")],
    facts: Annotated[
        Path | None,
        typer.Option("--facts", exists=True, dir_okay=False, help="prices, refusals, downFor, …, as in a case."),
    ] = None,
    trigger: Annotated[Trigger, typer.Option("--trigger", help="Why capacity is needed.")] = Trigger.NEW,
    providers: ProvidersFile = None,
    as_json: AsJson = False,
) -> None:
    """Whom does the set FILE let us ask for a job, in which order, behind which gates, and why?

    Refuses a set of which a part is not enforced yet (exit 3): the answer would be another one.
    """
    document, offered = _set_and_providers(file, providers, as_json)
    try:
        wanted = load_job(job.read_bytes())
    except DocumentError as error:
        _refuse(job, error.problems, as_json)
    try:
        known = load_facts(facts.read_bytes()) if facts else Facts()
        if wrong := strangers_in_facts(known, [p.name for p in offered.providers]):
            raise DocumentError(wrong)
    except DocumentError as error:
        _refuse(facts or file, error.problems, as_json)
    missing = [*unenforced(document), *unhonoured(wanted)]
    if missing:
        _not_enforced(file, missing, as_json)
    contracts = compile_contracts(document)
    shape = shape_of(wanted, contracts.labels, trigger)
    case = Case(name=str(job), at_us=_moment(at), shape=shape, facts=known)
    rules, placement = decide(contracts, offered, case)
    sentences = provider_sentences(rules, placement, known.prices, known.down_us)
    if as_json:
        found = _readable(answer(rules, placement))
        print_json({"digest": rules.contracts, "providers": rules.providers, **found, "why": sentences})
        return
    echo(f"contract set {contracts.name}, sha256 {contracts.digest}, at {at}, trigger {trigger.value}")
    _echo_placement(rules, placement, sentences)


@app.command()
def test(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="*.cases.yaml")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 if a case decides nothing; see above.")] = False,
    providers: ProvidersFile = None,
    as_json: AsJson = False,
) -> None:
    """Does each contract set decide as its cases expect?

    A file holds `contracts:` (a ContractSet, inline or a path relative to the file) and `cases:`. A case
    that uses a part which this version does not enforce is reported as such, with the part's path, and
    is neither passed nor failed. A holder that is described nowhere is never asked first, so that a case
    passes which expects no gate: each is named; describe them in the set, or pass `--providers`. With
    `--strict` either is exit 3. Exit 1 if a case failed, 4 if a document was refused; the other files are
    tested all the same.
    """
    operators = _operators(providers, as_json)
    reports = [_test_file(file, operators) for file in files]
    count = Counter(outcome.verdict for report in reports for outcome in report.outcomes)
    if as_json:
        print_json({"files": [_report(report) for report in reports], "count": {v.value: count[v] for v in Verdict}})
    else:
        for report in reports:
            _echo_report(report)
        echo(", ".join(f"{count[v]} {v.value}" for v in Verdict if count[v]) or "nothing was tested")
    if any(report.problems for report in reports):
        raise typer.Exit(Exit.REFUSED)
    if count[Verdict.FAILED]:
        raise typer.Exit(Exit.FAILED)
    if strict and (count[Verdict.NOT_ENFORCED] or any(report.notices for report in reports)):
        raise typer.Exit(Exit.NOT_ENFORCED)


app.command()(inforce.apply)
app.command("list")(inforce.listing)


class _Report(NamedTuple):
    """Of one file of cases; with problems where it, or its set, was refused."""

    file: Path
    outcomes: list[Outcome]
    missing: Sequence[tuple[str, str]] = ()
    notices: Sequence[Notice] = ()
    problems: Sequence[Problem] = ()


def _test_file(file: Path, operators: ProviderSet | None) -> _Report:
    try:
        return _cases_of(file, operators)
    except DocumentError as error:
        return _Report(file, [], problems=error.problems)


def _cases_of(file: Path, operators: ProviderSet | None) -> _Report:
    written, cases = load_cases(file.read_bytes())
    try:
        document = _set_of(written, file)
    except DocumentError as error:
        return _Report(file, [_refused_as_expected(case, error) for case in cases])
    contracts, providers = compile_contracts(document), _offered(document, operators)
    names = [p.name for p in providers.providers]
    if wrong := [p for at, case in enumerate(cases) for p in strangers(case, names, f"cases[{at}]") if names]:
        raise DocumentError(wrong)
    warned = sorted({notice.code for notice in warnings(document)})
    outcomes = [
        _load_failure(case, None) if case.refused_at_load else run_case(contracts, providers, case, warned)
        for case in cases
    ]
    return _Report(file, outcomes, unenforced(document), [] if operators else undescribed(document))


def _set_of(written: Any, file: Path) -> ContractSet:
    if not isinstance(written, str):
        return contracts_from(written)
    path = file.parent / written
    if not path.is_file():
        problem = Problem("contracts", f"{path} is no file", "Give a path relative to the case file", "no_file")
        raise DocumentError([problem])
    return load_contracts(path.read_bytes())


def _refused_as_expected(case: Case, error: DocumentError) -> Outcome:
    """The set did not load: right only for the case that expects just that."""
    if case.refused_at_load is None:
        raise error
    path, reason = case.refused_at_load
    met = any(p.path == path and (reason == p.code or reason.lower() in p.reason.lower()) for p in error.problems)
    if met:
        return Outcome(case=case.name, verdict=Verdict.PASSED)
    return _load_failure(case, [f"{p.path}: {p.code}" for p in error.problems])


def _load_failure(case: Case, got: Any) -> Outcome:
    difference = Difference("refusedAtLoad", list(case.refused_at_load or ()), got)
    return Outcome(case=case.name, verdict=Verdict.FAILED, differences=(difference,))


def _set_and_providers(file: Path, providers: Path | None, as_json: bool) -> tuple[ContractSet, Providers]:
    operators = _operators(providers, as_json)
    try:
        document = load_contracts(file.read_bytes())
        if operators is None and not document.spec.providers:
            raise typer.BadParameter(
                f"{file} describes no providers; name the operator's file", param_hint="--providers"
            )
        return document, _offered(document, operators)
    except DocumentError as error:
        _refuse(file, error.problems, as_json)


def _operators(file: Path | None, as_json: bool) -> ProviderSet | None:
    if file is None:
        return None
    try:
        return load_providers(file.read_bytes())
    except DocumentError as error:
        _refuse(file, error.problems, as_json)


def _offered(document: ContractSet, operators: ProviderSet | None) -> Providers:
    """Those of the operator, which must agree with the set; where nobody named them, those that the set describes."""
    if operators is None:
        return stated_providers(document)
    if wrong := disagreements(document, operators):
        raise DocumentError(wrong)
    return compile_providers(operators)


def _moment(at: str) -> int:
    try:
        return int(moment(at))
    except ValueError as error:
        said = f"{at!r} is no moment with a zone, as in 2025-06-01T12:00:00Z"
        raise typer.BadParameter(said, param_hint="--at") from error


def _report(report: _Report) -> dict[str, Any]:
    cases = [
        {
            "case": outcome.case,
            "verdict": outcome.verdict.value,
            "differences": [
                {"key": d.key, "expected": _readable(d.expected), "got": _readable(d.got)} for d in outcome.differences
            ],
            "uses": [{"path": part.path, "what": part.what} for part in outcome.uses],
        }
        for outcome in report.outcomes
    ]
    missing = [{"path": p, "what": w} for p, w in report.missing]
    warned = [notice._asdict() for notice in report.notices]
    told = {"file": str(report.file), "cases": cases, "unenforced": missing, "warnings": warned}
    return told | ({"problems": [problem._asdict() for problem in report.problems]} if report.problems else {})


def _echo_report(report: _Report) -> None:
    if report.problems:
        _echo_problems(report.file, report.problems)
        return
    echo(str(report.file))
    _echo_unenforced(report.missing)
    _echo_notices(report.notices)
    for outcome in report.outcomes:
        echo(f"  {outcome.verdict.value:<18}{outcome.case}")
        for difference in outcome.differences:
            echo(f"      {difference.key}: expected {_words(difference.expected)}")
            echo(f"      {' ' * len(difference.key)}  got      {_words(difference.got)}")
        for part in outcome.uses:
            echo(f"      uses {part.path}, {part.what}")


def _echo_placement(rules: Rules, placement: Placement, sentences: Mapping[str, str]) -> None:
    if placement.held:
        echo(f"  {HELD[placement.held]}")
    for gate in placement.gates:
        echo(f"  gate: {gate_sentence(gate)}")
    for sentence in freedom_sentences(rules):
        echo(f"  {sentence}")
    for ref in rules.not_applicable:
        echo(f"  not applicable: {ref}: its holder cannot lawfully serve, and is not told")
    for name, sentence in sentences.items():
        echo(f"  {name}: {sentence}")
    for warning in rules.warnings:
        echo(f"  warning: {WARNED[warning]}")


def _echo_notices(notices: Iterable[Notice]) -> None:
    for notice in notices:
        echo(f"  warning {notice.code}: {notice.what} ({notice.path})")


def _echo_unenforced(missing: Iterable[tuple[str, str]]) -> None:
    for path, what in missing:
        echo(f"  not enforced yet: {path}, {what}")


def _readable(value: Any) -> Any:
    """Windows as text, the rest as it is."""
    if isinstance(value, dict):
        return {
            key: duration(item) if key == "window" and isinstance(item, int) else _readable(item)
            for key, item in value.items()
        }
    return [_readable(item) for item in value] if isinstance(value, list) else value


def _words(value: Any) -> str:
    return json.dumps(_readable(value), ensure_ascii=False)


def _refuse(file: Path, problems: Sequence[Problem], as_json: bool) -> NoReturn:
    if as_json:
        print_json({"file": str(file), "problems": [problem._asdict() for problem in problems]})
    else:
        _echo_problems(file, problems)
    raise typer.Exit(Exit.REFUSED)


def _echo_problems(file: Path, problems: Iterable[Problem]) -> None:
    echo(f"{file} is refused:", err=True)
    for problem in problems:
        echo(f"  {problem}", err=True)


def _not_enforced(file: Path, missing: Sequence[tuple[str, str]], as_json: bool) -> NoReturn:
    if as_json:
        print_json({"file": str(file), "unenforced": [{"path": p, "what": w} for p, w in missing]})
    else:
        echo(f"{file}: this version does not enforce all of it, so its answer would be wrong:", err=True)
        for path, what in missing:
            echo(f"  {path}, {what}", err=True)
    raise typer.Exit(Exit.NOT_ENFORCED)


if __name__ == "__main__":
    app()
