"""The world's witnesses against the ledger: overlapping runs, double creations, zombies' entries, leftovers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.cli.audit import StoredDocuments
from orchestrator.cli.witnesses import NoWitness, gather
from orchestrator.core.audit.registry import Finding
from orchestrator.core.audit.verify import verify
from orchestrator.core.audit.world import Journalled, Witnessed, World
from orchestrator.model.ids import launch_key
from orchestrator.model.wire import Checkpoint, Claim, Done, Entry, Fence, Start, encode
from tests.audit import told
from tests.audit.forged import export_of, place

LEDGER = export_of(told.lost)
JOB = LEDGER.events[place(LEDGER, "Submitted")].job
END = LEDGER.events[-1].at
MEANT, AGAIN = (LEDGER.events[place(LEDGER, "Intended", n)].at for n in (0, 1))
FIRST, SECOND = launch_key(JOB, 1), launch_key(JOB, 2)
STEP = Witnessed(job=JOB, epoch=1, rank=0, pid=11, step=1, boot_ns=1_000)
RUNS = [STEP, replace(STEP, step=2, boot_ns=2_000), replace(STEP, epoch=2, pid=12, step=2, boot_ns=3_000)]
JOURNALS = [
    Journalled(at=MEANT, kind="created", key=FIRST), Journalled(at=MEANT + 1, kind="ended", key=FIRST),
    Journalled(at=AGAIN, kind="created", key=SECOND), Journalled(at=END + 1, kind="ended", key=SECOND),
]  # fmt: skip


def entry_of(epoch: int, kind: str) -> Entry:
    made = {"id": f"{kind}{epoch}", "epoch": epoch}
    if kind == "claim":
        return Claim(
            **made, provider={1: "coreweave"}.get(epoch, "oracle"), limit_ms=20_000, grace_ms=3_000, nonce=f"n{epoch}"
        )
    if kind == "fence":
        return Fence(**made, term=1)
    if kind == "done":
        return Done(**made, exit=0, result=None, ran_ms=1, nonce=f"n{epoch}")
    if kind == "start":
        return Start(**made, waited=True, nonce=f"n{epoch}")
    return Checkpoint(**made, step=5, store="main", manifest="m", sha256="0" * 64, nonce=f"n{epoch}")


LOG = [entry_of(1, "claim"), entry_of(1, "start"), entry_of(2, "fence"), entry_of(2, "claim"), entry_of(2, "start")]
HONEST = World(RUNS, JOURNALS, {JOB: LOG})


def findings(world: World) -> list[Finding]:
    return list(verify(LEDGER, StoredDocuments(), world).findings)


def test_an_honest_world_is_judged_and_clean() -> None:
    report = verify(LEDGER, StoredDocuments(), HONEST)
    judged = {v.number: v.judged for v in report.verdicts if v.number in (10, 11, 16, 19)}
    assert report.findings == () and judged == {10: 3, 11: 2, 16: 6, 19: 2}


def test_two_epochs_at_once() -> None:
    zombie = replace(STEP, step=3, boot_ns=4_000)
    assert [f.sentence for f in findings(World([*RUNS, zombie]))] == [10]


def test_a_frozen_process_is_excused_once_the_journal_says_so() -> None:
    zombie, frozen = replace(STEP, step=3, boot_ns=4_000), Journalled(at=2, kind="frozen", key=FIRST)
    assert findings(World([*RUNS, zombie], [frozen])) == []


def test_one_epoch_run_twice() -> None:
    assert [f.sentence for f in findings(World([*RUNS, replace(STEP, pid=99)]))] == [10]


def test_two_clusters_under_one_key() -> None:
    assert [f.sentence for f in findings(World((), [*JOURNALS, replace(JOURNALS[0], cluster="b")]))] == [11]


def test_an_entry_behind_the_fence() -> None:
    assert [f.sentence for f in findings(World((), (), {JOB: [*LOG, entry_of(1, "checkpoint")]}))] == [16]


def test_a_claim_without_its_fence_or_a_fence_that_is_nowhere() -> None:
    """One finding for the claim, one for the ledger that holds fence 2 for placed."""
    unfenced = [e for e in LOG if not isinstance(e, Fence)]
    assert [f.sentence for f in findings(World((), (), {JOB: unfenced}))] == [16, 16]


def test_whatever_follows_done() -> None:
    assert [f.sentence for f in findings(World((), (), {JOB: [*LOG, entry_of(2, "done"), entry_of(3, "fence")]}))] == [
        18
    ]


def test_a_launch_that_nobody_meant() -> None:
    made = Journalled(at=END, kind="created", key=launch_key(JOB, 3))
    ended = Journalled(at=END, kind="ended", key=made.key)
    assert [f.sentence for f in findings(World((), [made, ended]))] == [12]


def test_a_claim_where_nobody_meant_it() -> None:
    elsewhere = [dataclasses.replace(e, provider="azure") if isinstance(e, Claim) else e for e in LOG[3:]]
    assert [f.sentence for f in findings(World((), (), {JOB: [*LOG[:3], *elsewhere]}))] == [12]


@pytest.mark.parametrize("excuse", [
    [Journalled(at=END, kind="unreachable", cloud="c"), Journalled(at=END + 50_000_000, kind="reachable", cloud="c")],
    [Journalled(at=END + 50_000_000, kind="delete_asked", key=SECOND)],
], ids=["out of reach", "asked and not done"])  # fmt: skip
def test_what_could_not_be_ended_in_time_is_no_violation(excuse: list[Journalled]) -> None:
    made = replace(JOURNALS[2], cloud="c")
    ended = Journalled(at=END + 69_000_000, kind="ended", key=SECOND)
    assert findings(World((), [*JOURNALS[:2], made, *excuse, ended])) == []


@pytest.mark.parametrize("seconds", [69, None])
def test_machines_that_outlive_their_job(seconds: int | None) -> None:
    """20 s limit, 3 s grace, 30 s sweep and 15 s for the stop to arrive make 68 s."""
    last = Journalled(at=END + 69_000_000, kind="ended" if seconds else "offer", key=SECOND if seconds else "")
    assert [f.sentence for f in findings(World((), [*JOURNALS[:3], last]))] == [19]


def lay(folder: Path, *slots: int) -> Path:
    """The run log of the job below this folder, with these of its slots."""
    log = folder / "default" / JOB / "log"
    log.mkdir(parents=True)
    for slot in slots:
        (log / f"{slot:08}").write_bytes(encode(LOG[slot - 1]))
    return log


CREATED = '{"at":1,"boottime":1,"cloud":"azure","kind":"created","key":"k","gpus":8}\n'


def test_witnesses_are_gathered_from_a_folder(tmp_path: Path) -> None:
    lay(tmp_path / "store", 1, 2, 3, 4, 5)
    line = {"boot_ns": 1, "job": JOB, "epoch": 1, "rank": 0, "pid": 7, "step": 1}
    (tmp_path / "w.jsonl").write_text(json.dumps(line) + "\n" + '{"boot_ns": 2, "jo')
    (tmp_path / "azure.jsonl").write_text(CREATED)
    world = gather(tmp_path)
    assert [w.pid for w in world.witnessed] == [7]
    assert [(j.kind, j.key) for j in world.journals] == [("created", "k")]
    assert world.logs == {JOB: tuple(LOG)}


def test_a_witness_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_text('{"boot_ns": "soon"}\n')
    with pytest.raises(NoWitness, match="no witnessed line"):
        gather(tmp_path)


@pytest.mark.parametrize("torn", ['{"at":2,"kind":"cre' + CREATED, '{"at":2,"kind":"cre\n'])
def test_a_line_that_cannot_be_read_is_named_where_others_follow_it(tmp_path: Path, torn: str) -> None:
    """A later life of a cloud goes on writing behind what the end of the one before cut off."""
    (tmp_path / "azure.jsonl").write_text(CREATED + "\n" + torn + CREATED)
    with pytest.raises(NoWitness, match="line 3, is no JSON"):
        gather(tmp_path)


def test_an_empty_line_hides_nothing_that_follows_it(tmp_path: Path) -> None:
    (tmp_path / "azure.jsonl").write_text(CREATED + "\n" + CREATED)
    assert [line.key for line in gather(tmp_path).journals] == ["k", "k"]


def test_a_run_log_without_one_of_its_slots_is_no_witness(tmp_path: Path) -> None:
    lay(tmp_path, 1, 2, 3, 5)
    with pytest.raises(NoWitness, match="has no slot 00000004, and later ones"):
        gather(tmp_path)


def test_two_copies_of_a_run_log_are_one_witness_only_where_they_say_the_same(tmp_path: Path) -> None:
    lay(tmp_path / "a", 1, 2, 3, 4, 5), lay(tmp_path / "b", 1, 2, 3, 4, 5)
    assert gather(tmp_path).logs == {JOB: tuple(LOG)}
    lay(tmp_path / "c", 1, 2)
    with pytest.raises(NoWitness, match="another run log of the same job"):
        gather(tmp_path)
