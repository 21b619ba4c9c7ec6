"""`orchestrator offers` over real HTTP: the owner's list of a job, and a supplier's desk work by its own token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.model.offer import OfferOut, Reason
from orchestrator.testing.builders import an_offer, some_terms
from orchestrator.verify import Verifier
from tests.cli.conftest import Run
from tests.served import AZURE, Served


@pytest.fixture
def offer(server: Served, monkeypatch: pytest.MonkeyPatch) -> OfferOut:
    """One is open for azure, and we are azure."""
    made = an_offer(clause="agreement/rofr", terms=some_terms(ceiling_microusd=2_800_000))
    server.tell(lambda desk: desk.laid_out.update(azure=[made]))
    monkeypatch.setenv("ORCHESTRATOR_TOKEN", AZURE)
    return made


def test_what_is_open_is_listed_for_people_and_for_programs(cli: Run, offer: OfferOut) -> None:
    row = cli("offers", "list").stdout.splitlines()[1]
    assert (
        offer.offer in row
        and "2 x 4 H100 for 1:00:00" in row
        and "$2.80" in row
        and "0:01:00 from when you have it" in row
    )
    [plain] = json.loads(cli("offers", "list", "--json").stdout)
    assert (plain["termsHash"], plain["ledgerHead"], plain["ordinal"]) == (offer.terms_hash, offer.ledger_head, 1)


def test_a_yes_names_the_terms_that_were_shown(cli: Run, server: Served, offer: OfferOut) -> None:
    told = cli("offers", "answer", offer.offer, "accept", "--price", "2.60", "--region", "eu-1", "--json")
    assert (told.exit_code, json.loads(told.stdout)["outcome"]) == (0, "accepted")
    said = server.tell(lambda desk: desk.said[offer.offer])
    assert (said.terms_hash, said.price, said.region, said.by) == (offer.terms_hash, 2_600_000, "eu-1", "azure")


def test_a_no_has_a_reason_and_what_comes_later_is_closed(cli: Run, server: Served, offer: OfferOut) -> None:
    assert cli("offers", "answer", offer.offer, "decline").exit_code == 2
    no = cli("offers", "answer", offer.offer, "decline", "--reason", "capacity", "--detail", "sold out")
    assert no.exit_code == 0 and "declined" in no.output
    said = server.tell(lambda desk: desk.said[offer.offer])
    assert (said.reason, said.detail) == (Reason.CAPACITY, "sold out")
    late = cli("offers", "answer", offer.offer, "accept")
    assert late.exit_code == 1 and "closed" in late.output


@pytest.mark.parametrize("given", [
    ("accept", "--price", "inf"), ("accept", "--price", "1e300"), ("accept", "--workers", "9" * 30),
    ("decline", "--reason", "capacity", "--detail", "sold out. " * 20), ("accept", "--region", "r" * 65),
], ids=lambda given: f"{given[-2]} {given[-1][:8]}")  # fmt: skip
def test_an_answer_that_nobody_could_send_says_which_part(
    cli: Run, server: Served, offer: OfferOut, given: tuple[str, ...]
) -> None:
    told = cli("offers", "answer", offer.offer, *given)
    assert told.exit_code == 2 and isinstance(told.exception, SystemExit), told.output
    assert f"Invalid value for {given[-2]}:" in told.output.replace("'", "")
    assert server.tell(lambda desk: offer.offer not in desk.said)


def test_what_is_not_theirs_is_not_there(cli: Run, offer: OfferOut, monkeypatch: pytest.MonkeyPatch) -> None:
    other = an_offer(n=2).offer
    assert cli("offers", "answer", other, "decline", "--reason", "price").exit_code == 2
    assert cli("offers", "answer", "nonsense", "decline", "--reason", "price").exit_code == 2
    assert cli("jobs").exit_code == 6
    monkeypatch.delenv("ORCHESTRATOR_TOKEN")
    owner = cli("offers", "list")
    assert owner.exit_code == 6 and "bound to no provider" in owner.output


def test_what_was_seen_and_said_is_kept_once_as_the_verifier_reads_it(
    cli: Run, offer: OfferOut, tmp_path: Path
) -> None:
    kept = tmp_path / "receipts.jsonl"
    for _ in range(2):
        assert cli("offers", "list", "--receipts", str(kept)).exit_code == 0
        cli("offers", "answer", offer.offer, "decline", "--reason", "price", "--receipts", str(kept))
    v = Verifier()
    offers, answers = v.take(kept.read_bytes())
    assert v.findings == [] and len(kept.read_text().splitlines()) == 2
    assert (offers[offer.offer]["ledgerHead"], answers[offer.offer]["accepted"]) == (offer.ledger_head, False)
    kept.write_text("something else")
    assert cli("offers", "list", "--receipts", str(kept)).exit_code == 2


def test_the_help_teaches_both(cli: Run) -> None:
    told = cli("offers", "--help").stdout
    assert "list" in told and "answer" in told and "offers JOB" in told
    assert "Examples" in cli("offers", "answer", "--help").stdout
