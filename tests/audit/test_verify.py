"""`orchestrator-verify`: an honest ledger holds, any changed byte is named, a rewritten one is found by receipts."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import orchestrator.verify as verifier
from orchestrator.adapters.providers.mock.translate import offer_body
from orchestrator.cli.audit import StoredDocuments
from orchestrator.cli.play import agrees
from orchestrator.cli.stage import Stage
from orchestrator.core.audit import export as exports
from orchestrator.core.audit.export import Export, parse, sealed
from orchestrator.core.audit.forger import rehash
from orchestrator.core.audit.redact import ButJobs, Disclosure, ForProvider
from orchestrator.core.audit.verify import verify as audit_verify
from orchestrator.simulate.world import World
from orchestrator.testing.ledgers import MemoryLedger, MemorySnapshot
from orchestrator.verify import CHECKS, Verifier
from tests.audit import told
from tests.audit.forged import at_other_time, edited, export_of, put, without
from tests.audit.told import STORIES
from tests.virtual import virtual_loop

VERIFY = Path(verifier.__file__)


@cache
def world_of(story: Callable[..., Any]) -> World:
    loop = virtual_loop()
    try:
        return loop.run_until_complete(story())
    finally:
        loop.close()


@cache
def snapshot_of(story: Callable[..., Any]) -> MemorySnapshot:
    return MemoryLedger(world_of(story).disk).snapshot()


def exported(story: Callable[..., Any], disclosed: Disclosure | None = None) -> bytes:
    return b"".join(exports.export(snapshot_of(story), disclosed))


def as_file(export: Export) -> bytes:
    """An export's values as a file again: a forger writes good sums."""
    found: list[Any] = [exports.Header(export.ledger), *export.events]
    found += [exports.SpecLine(digest, data.decode()) for digest, data in export.specs.items()]
    found += [*export.rows, exports.End(len(export.events), export.head)]
    return b"".join(sealed(exports._encoder.encode(line)) for line in found)


def asked(story: Callable[..., Any]) -> str:
    """azure, or in a story without it the first provider."""
    names = world_of(story).providers
    return "azure" if "azure" in names else next(iter(names))


def receipts(story: Callable[..., Any], provider: str, **changes: Any) -> bytes:
    """What a scripted provider would have kept, in the lines of the mock cloud."""
    played = world_of(story).providers[provider]
    at = {(entry["kind"], entry["key"]): entry["at"] for entry in reversed(played.journal)}
    found: list[dict[str, Any]] = []
    for had in played.offers.puts.values():
        said = offer_body(had.offer)
        offer = said.pop("id")
        found.append({"line": "offer", "offer": offer, "at": at["offer", offer], "ref": had.ref, **said})
        if had.answer is not None:
            found.append({"line": "answer", "offer": offer, "accepted": had.answer.accepted, "at": at["answer", offer]})
    return b"".join(json.dumps({**line, **changes}).encode() + b"\n" for line in found)


def verified(data: bytes, kept: bytes | None = None) -> Verifier:
    v = Verifier()
    v.read(data)
    taken = None if kept is None else v.take(kept)
    v.judge_events()
    if taken is not None:
        v.attempt("receipts", "receipts", v.compare, *taken, None)
    return v


def found(v: Verifier) -> set[str]:
    return {check for check, _, _ in v.findings}


# ---- honest ledgers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_an_honest_ledger_holds_with_the_receipts_of_everybody(story: Callable[..., Any]) -> None:
    for provider, played in world_of(story).providers.items():
        v = verified(exported(story), receipts(story, provider) if played.offers.puts else None)
        assert v.findings == [] and v.unchecked.total() == 0


def test_what_a_restored_ledger_lost_is_told_by_the_receipts_of_who_was_asked() -> None:
    v = verified(exported(told.behind), receipts(told.behind, "oracle"))
    assert found(v) == {"receipts"}
    assert any("was left out" in words or "another" in words for _, _, words in v.findings)


def test_every_check_has_something_to_check() -> None:
    checked = {c for s in STORIES for c, n in verified(exported(s), receipts(s, asked(s))).checked.items() if n}
    assert checked == set(CHECKS)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_what_is_shown_to_one_provider_verifies_with_its_receipts_and_says_what_is_not_checked(
    story: Callable[..., Any],
) -> None:
    data = exported(story, ForProvider(asked(story)))
    v = verified(data, receipts(story, asked(story)))
    assert v.findings == [] and v.unchecked["chain"] > 0


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_what_is_not_the_providers_is_nowhere_in_its_export(story: Callable[..., Any]) -> None:
    """No event of another, no salt by which a guess could be confirmed, no document but terms that it was offered."""
    for name in world_of(story).providers:
        shown = [json.loads(line) for line in exported(story, ForProvider(name)).splitlines()]
        events = [line for line in shown if line["line"] == "event"]
        bodies = [json.loads(line["body"]) for line in events if line["body"]]
        assert {body.get("provider", name) for body in bodies} <= {name}
        assert all(line["salt"] == "" for line in events if line["body"] is None)
        assert {line["line"] for line in shown} <= {"header", "event", "spec", "end"}
        offered = {body["terms"] for body in bodies if body["kind"] == "OfferOpened"}
        assert {line["digest"] for line in shown if line["line"] == "spec"} == offered


def test_whose_attempt_ended_for_another_size_is_told_so_and_not_which() -> None:
    """oracle ran two workers; that zeus was offered three to four is between us and zeus."""
    shown = [json.loads(line) for line in exported(told.scaled, ForProvider("oracle")).splitlines()]
    bodies = [json.loads(line["body"]) for line in shown if line.get("body")]
    assert [body["why"] for body in bodies if body["kind"] == "Ended"] == ["scaled"]
    assert [line["body"] for line in shown if line.get("kind") == "Scaled"] == [None]
    assert {size for body in bodies for size in (body.get("workers"), body.get("least"))} <= {None, 2}
    assert [json.loads(line["text"])["workers"] for line in shown if line["line"] == "spec"] == [2]


def test_a_job_can_be_left_out_and_the_rest_still_verifies() -> None:
    story = export_of(told.waiting)
    job = next(e.job for e in story.events if e.job)
    v = verified(exported(told.waiting, ButJobs([job])))
    assert v.findings == [] and v.hidden[job] > 0 and v.checked["offers"] > 0


# ---- damage and forgery ----------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_changed_byte_is_found_and_its_line_is_named(data: st.DataObject) -> None:
    whole = exported(told.lost)
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    v = verified(whole[:at] + bytes([other]) + whole[at + 1 :])
    number = whole[:at].count(b"\n") + 1
    assert {f"line {number}"} & {where.split(",")[0] for _, where, _ in v.findings}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_line_that_is_left_out_doubled_or_moved_is_found(data: st.DataObject) -> None:
    rows = exported(told.priced).splitlines(keepends=True)
    events = [n for n, row in enumerate(rows) if b'"line":"event"' in row]
    at, to = data.draw(st.sampled_from(events)), data.draw(st.sampled_from(events))
    left = [*rows[:at], *rows[at + 1 :]]
    changed = data.draw(st.sampled_from([left, [*left[:to], rows[at], *left[to:]], [*rows[:to], rows[at], *rows[to:]]]))
    assert changed == rows or verified(b"".join(changed)).findings


FIELDS = ["seq", "at", "kind", "project", "job", "salt", "body", "body_hash", "chain"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_forged_field_with_a_good_sum_breaks_the_chain_at_its_event(field: str) -> None:
    story = export_of(told.priced)
    line = story.events[5]
    value = getattr(line, field)
    bad = value + 1 if isinstance(value, int) else ("0" if value[0] != "0" else "1") + value[1:]
    events = (*story.events[:5], replace(line, **{field: bad}), *story.events[6:])
    v = verified(as_file(replace(story, events=events)))
    assert "chain" in found(v) and any("line 7" in where for _, where, _ in v.findings)


FORGED: list[tuple[str, str, Callable[[], Export]]] = [
    ("order", "the refusal is gone", lambda: without(export_of(told.lost), "OfferAnswered")),
    ("order", "used without a yes", lambda: edited(export_of(told.lost), "OfferAnswered", 1, accepted=False)),
    ("order", "a gate that was never passed", lambda: edited(
        export_of(told.lost), "Intended", gates=[["agreement/rofr", "azure", "lapsed", 1]])),
    ("order", "the part was never taken", lambda: edited(export_of(told.divided), "OfferAnswered", accepted=False)),
    ("order", "what is left of nothing", lambda: without(export_of(told.divided), "Split")),
    ("order", "more is left than there was", lambda: edited(export_of(told.divided), "Split", left=6)),
    ("order", "taken is another part", lambda: edited(export_of(told.divided), "Split", workers=2)),
    ("windows", "silence too early", lambda: edited(export_of(told.silence), "OfferLapsed", deadline=1)),
    ("windows", "undeliverable too early", lambda: edited(export_of(told.away), "OfferOpened", undeliverable=10**12)),
    ("windows", "undeliverable inside its window", lambda: at_other_time(
        export_of(told.unheard), "DeliveryFailed", -300)),
    ("terms", "a yes to other terms", lambda: edited(export_of(told.priced), "OfferAnswered", 1, terms="0" * 64)),
    ("terms", "over the ceiling", lambda: edited(export_of(told.priced), "OfferAnswered", 1, price=9_000_000)),
    ("terms", "more workers than offered", lambda: edited(export_of(told.elastic), "OfferAnswered", 1, workers=5)),
    ("terms", "a version that was not in force", lambda: edited(export_of(told.lost), "OfferOpened", contract=7)),
    ("digests", "a document is gone", lambda: replace(export_of(told.priced), specs={})),
    ("order", "a number left out", lambda: edited(export_of(told.lost), "OfferOpened", 2, n=4, unused=1)),
    ("offers", "an ordinal once more", lambda: edited(export_of(told.lost), "OfferOpened", 2, ordinal=1)),
    ("offers", "a head that never was", lambda: edited(export_of(told.lost), "OfferOpened", 1, head="0" * 64)),
    ("offers", "other bytes left", lambda: edited(export_of(told.lost), "OfferOpened", window=1)),
    ("offers", "another receipt", lambda: edited(export_of(told.lost), "OfferDelivered", echo=[2, "0" * 64])),
]  # fmt: skip


@pytest.mark.parametrize(("check", "forge"), [(c, f) for c, _, f in FORGED], ids=[f"{c}: {w}" for c, w, _ in FORGED])
def test_a_forged_ledger_with_a_whole_chain_is_found_by_its_check(check: str, forge: Callable[[], Export]) -> None:
    v = verified(as_file(forge()))
    assert check in found(v) and not {"lines", "chain"} & found(v)


# ---- what only receipts find -----------------------------------------------------------------------------------------


def test_a_ledger_rewritten_and_hashed_anew_is_found_by_the_receipts_alone() -> None:
    """The no is told a second later than it was; numbers, chain, heads, sent bytes and rows are all made to fit."""
    rewritten = as_file(edited(export_of(told.lost), "OfferAnswered", detail="we never said that"))
    assert verified(rewritten).findings == []
    v = verified(rewritten, receipts(told.lost, "azure"))
    assert found(v) == {"receipts"} and any("rewritten" in words for _, _, words in v.findings)


def test_an_offer_that_is_left_out_of_the_ledger_is_found() -> None:
    export = export_of(told.waiting)
    job = next(e.job for e in reversed(export.events) if e.kind == "OfferOpened")
    gone = exports.Export(**{f: getattr(export, f) for f in export.__struct_fields__})
    events = [e for e in gone.events if e.job != job]
    forged = rehash(replace(gone, rows=tuple(r for r in gone.rows if r.job != job)), events)
    assert verified(as_file(forged)).findings == []
    v = verified(as_file(forged), receipts(told.waiting, "azure"))
    assert any("it was left out" in words and job in where for _, where, words in v.findings)


def test_a_delivery_that_never_was_is_found() -> None:
    kept = b"".join(receipts(told.lost, "azure").splitlines(keepends=True)[2:])
    v = verified(exported(told.lost), kept)
    assert [words for _, _, words in v.findings] == [
        "offer 1 was delivered by the ledger's word, and there is no receipt of it"
    ]


def test_an_offer_that_was_laid_out_and_never_looked_at_is_no_finding() -> None:
    """Nothing left us for a holder without a webhook who did not fetch it."""
    kept = b"".join(receipts(told.lost, "azure").splitlines(keepends=True)[2:])
    laid = edited(export_of(told.lost), "OfferDelivered", ref="laid out:1")
    v = verified(as_file(laid), kept)
    assert not any("was delivered by the ledger's word" in words for _, _, words in v.findings)


def test_an_answer_that_the_ledger_calls_silence_is_found() -> None:
    """The holder's yes came after the window; a forger who drops the evidence of it, and the holder who was in time."""
    late = receipts(told.silence, "azure")
    assert verified(exported(told.silence), late).findings == []
    forged = as_file(without(export_of(told.silence), "LateAnswer"))
    early = b"".join(
        json.dumps({**line, "at": line["at"] - 2_000_000} if line["line"] == "answer" else line).encode() + b"\n"
        for line in map(json.loads, late.splitlines())
    )
    assert any("holds no answer" in words for _, _, words in verified(forged, early).findings)


@pytest.mark.parametrize("kind", ["OfferOpened", "OfferAnswered"])
def test_what_is_hidden_from_whom_it_concerns_is_a_finding(kind: str) -> None:
    """The accused does not choose what is judged: azure said yes, the ledger says no, and is shown without that."""

    class But(ForProvider):
        def shows(self, job: str, body: Mapping[str, Any]) -> bool:
            return super().shows(job, body) and body["kind"] != kind

    v = verified(exported(told.lost, But("azure")), receipts(told.lost, "azure"))
    assert any("is hidden from whom it was made to" in words for _, _, words in v.findings)


def test_a_ledger_of_before_offers_had_ordinals_is_audited_and_verified() -> None:
    """Written by an earlier version: its offers are counted, and what they did not have is not judged."""
    older = parse((Path(__file__).parents[1] / "golden" / "older.ledger.jsonl").read_bytes().splitlines())
    report, v = audit_verify(older, StoredDocuments()), verified(as_file(older))
    assert report.findings == () and v.findings == []
    assert v.unchecked["offers"] == 4 == sum(e.kind == "OfferOpened" for e in older.events)


@pytest.mark.parametrize("said", [True, False])
def test_a_no_that_one_side_calls_a_yes_is_found(said: bool) -> None:
    lied = [{**line, "accepted": said} if line["line"] == "answer" else line
            for line in map(json.loads, receipts(told.lost, "azure").splitlines())]  # fmt: skip
    v = verified(exported(told.lost), b"".join(json.dumps(line).encode() + b"\n" for line in lied))
    assert [words for _, _, words in v.findings] == ["one side holds a yes, and the other a no"] * (2 * said)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"windowUs": 1}, "another windowUs"),
        ({"clause": "other/right"}, "another clause"),
        ({"termsHash": "0" * 64}, "its terms have another hash"),
        ({"workload": "serving"}, "other bytes left"),
        ({"ordinal": 9}, "another ordinal"),
    ],
)
def test_a_receipt_that_differs_from_the_ledger_is_found(changes: dict[str, Any], words: str) -> None:
    v = verified(exported(told.priced), receipts(told.priced, "azure", **changes))
    assert any(words in said for _, _, said in v.findings)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_verifier_is_one_file_that_imports_the_standard_library_alone(tmp_path: Path) -> None:
    tree = ast.parse(VERIFY.read_text())
    named = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in named} <= set(sys.stdlib_module_names)
    copied = tmp_path / "anywhere.py"
    copied.write_bytes(VERIFY.read_bytes())
    (tmp_path / "ledger.jsonl").write_bytes(exported(told.lost))
    (tmp_path / "receipts.jsonl").write_bytes(receipts(told.lost, "azure"))
    command = [sys.executable, "-I", "-S", str(copied), "ledger.jsonl", "--receipts", "receipts.jsonl", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, json.loads(ran.stdout)["verified"], ran.stderr) == (0, True, "")


@pytest.mark.parametrize(
    ("data", "options", "code"),
    [
        (exported, [], 0),
        (lambda story: exported(story, ForProvider("azure")), [], 0),
        (lambda story: exported(story, ForProvider("azure")), ["--strict"], 3),
        (lambda story: exported(story)[:-40], [], 1),
        (lambda story: b"", [], 1),
    ],
)
def test_exit_codes_say_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Callable[..., bytes], options: list[str], code: int
) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(data(told.lost))
    assert verifier.main([str(file), *options]) == code
    findings = int(capsys.readouterr().out.splitlines()[-1].split(" events, ")[1].split()[0])
    assert (findings > 0) == (code == 1)


def test_the_demo_asks_the_verifier_for_every_cloud(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_bytes(exported(told.lost))
    for cloud, kept in (("azure", receipts(told.lost, "azure")), ("asked-for-nothing", b""), ("other", b"{}")):
        (tmp_path / cloud).mkdir()
        (tmp_path / cloud / "receipts.jsonl").write_bytes(kept)
    stage = Stage(tmp_path)
    assert [agrees(stage, cloud) for cloud in ("azure", "asked-for-nothing", "other")] == [True, True, False]


def test_a_file_that_is_not_there_is_a_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as gone:
        verifier.main([str(tmp_path / "none")])
    assert gone.value.code == 2 and "cannot be read" in capsys.readouterr().err


def test_what_a_forger_calls_an_event_moves_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = export_of(told.lost)
    named = put(export, 3, replace(export.events[3], kind="\x1b[2J\n0 findings"))
    (file := tmp_path / "l.jsonl").write_bytes(as_file(named))
    assert verifier.main([str(file)]) == 1
    said = capsys.readouterr().out
    assert r"event 4 (\x1b[2J\n0 findings" in said and said.replace("\n", "").isprintable()


def test_the_help_says_how_a_provider_checks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        verifier.main(["--help"])
    told_us = capsys.readouterr().out
    assert all(check in told_us for check in CHECKS) and "Exit codes" in told_us and "--receipts" in told_us
