"""Damaged and hostile files: both verifiers say what is wrong, and where; none crashes or takes for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import orchestrator.verify as verifier
from orchestrator.cli.audit import app
from orchestrator.core.audit.export import Export, sealed
from orchestrator.core.chain import hash_body
from tests.audit import told
from tests.audit.forged import edited, export_of, place, put
from tests.audit.test_verify import as_file, exported, found, receipts, verified

DEEP = "[" * 100_000 + "]" * 100_000


def changed(nth: int, **fields: Any) -> bytes:
    """The file in which one line says something else, with a good sum."""
    rows = [json.loads(row) for row in exported(told.lost).splitlines()]
    rows[nth] = {k: v for k, v in rows[nth].items() if k != "sum"} | fields
    for row in rows:
        row.pop("sum", None)
    return b"".join(sealed(json.dumps(row, separators=(",", ":")).encode()) for row in rows)


def with_body(text: str, kind: str = "OfferAnswered") -> Export:
    """The ledger in which an event's body is this text, hashed and chained anew."""
    at = place(export := export_of(told.lost), kind)
    line = export.events[at]
    return put(export, at, replace(line, body=text, body_hash=hash_body(bytes.fromhex(line.salt), text.encode()).hex()))


def with_documents(text: str) -> Export:
    return replace(export_of(told.lost), specs=dict.fromkeys(export_of(told.lost).specs, text.encode()))


def with_row(text: str) -> Export:
    honest = export_of(told.lost)
    return replace(honest, rows=tuple(replace(row, body=text) for row in honest.rows))


FILES: list[tuple[str, Callable[[], bytes]]] = [
    ("a chain that is no number", lambda: changed(5, chain="z" * 64)),
    ("half a salt", lambda: changed(5, salt="abc")),
    ("another ledger's id", lambda: changed(0, ledger="00")),
    ("an id that is none", lambda: changed(0, line="row", ledger=7)),
    ("a deep line", lambda: changed(5, more="?").replace(b'"?"', DEEP.encode())),
    ("a body that is a list", lambda: as_file(with_body("[]"))),
    ("a body that is cut", lambda: as_file(with_body("{"))),
    ("a body that is a deep one", lambda: as_file(with_body(DEEP))),
    ("a body with a deep field", lambda: as_file(with_body('{"kind":"OfferAnswered","n":1,"more":' + DEEP + "}"))),
    ("a number without an end", lambda: as_file(edited(export_of(told.lost), "Intended", offer=float("inf")))),
    ("documents that are cut", lambda: as_file(with_documents("{"))),
    ("documents that are lists", lambda: as_file(with_documents("[]"))),
    ("deep documents", lambda: as_file(with_documents(DEEP))),
    ("rows that are cut", lambda: as_file(with_row("{"))),
    ("rows that are lists", lambda: as_file(with_row("[]"))),
    ("deep rows", lambda: as_file(with_row(DEEP))),
]  # fmt: skip
EVERY = pytest.mark.parametrize("made", [made for _, made in FILES], ids=[words for words, _ in FILES])


@EVERY
def test_the_verifier_judges_it_to_its_end(tmp_path: Path, made: Callable[[], bytes]) -> None:
    (file := tmp_path / "ledger.jsonl").write_bytes(made())
    (mine := tmp_path / "mine.jsonl").write_bytes(receipts(told.lost, "azure"))
    assert verifier.main([str(file), "--receipts", str(mine)]) in (0, 1)


@EVERY
def test_the_audit_judges_it_or_refuses_its_line(tmp_path: Path, made: Callable[[], bytes]) -> None:
    (file := tmp_path / "ledger.jsonl").write_bytes(made())
    said = CliRunner().invoke(app, ["verify", str(file)])
    assert said.exit_code in (1, 2) and isinstance(said.exception, SystemExit)


@pytest.mark.parametrize("hostile", [("provider", {}), ("n", []), ("ordinal", "x"), ("terms", 7), ("head", []),
    ("ordinal", float("inf")), ("ordinal", 10**12), ("window", float("nan"))], ids=repr)  # fmt: skip
def test_a_hostile_export_is_judged_to_its_end(hostile: tuple[str, Any]) -> None:
    """Bodies that hold what nobody expects there are findings of every check that meets them; nothing is thrown."""
    name, value = hostile
    rows = [json.loads(row) for row in exported(told.lost).splitlines()]
    for row in rows:
        if row.get("kind") == "OfferOpened":
            row["body"] = json.dumps(json.loads(row["body"]) | {name: value})
    v = verified(b"".join(json.dumps(row).encode() + b"\n" for row in rows), receipts(told.lost, "azure"))
    assert {"lines", "chain", "receipts"} <= found(v)


@pytest.mark.parametrize("field", ["salt", "body_hash", "chain"])
def test_the_audit_names_the_line_whose_hash_is_none(tmp_path: Path, field: str) -> None:
    (file := tmp_path / "ledger.jsonl").write_bytes(changed(5, **{field: "zz"}))
    said = CliRunner().invoke(app, ["verify", str(file)])
    assert said.exit_code == 2 and "Line 6 is no line of an export" in said.output


def test_ordinals_that_nobody_has_are_one_finding_however_many() -> None:
    v = verified(as_file(edited(export_of(told.lost), "OfferOpened", 2, ordinal=10**12)), receipts(told.lost, "azure"))
    assert ("ordinals 3 to 999999999999", "nobody has them") in [(where, words) for _, where, words in v.findings]
