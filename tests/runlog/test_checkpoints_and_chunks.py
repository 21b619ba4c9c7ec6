"""Checkpoints come back whole or not at all; growing texts come back in order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import pytest

from orchestrator.model.wire import Checkpoint
from orchestrator.runlog import checkpoints
from orchestrator.runlog.log import JobLog
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import EMPTY, RunLog, fold
from orchestrator.runlog.shipping import Chunks, newest_chunk, read_chunks
from orchestrator.testing.stores import MemoryStore


@pytest.fixture
def log() -> JobLog:
    return JobLog(MemoryStore(), "p", "J")


def saved(log: JobLog, tmp_path: Path, *steps: int) -> RunLog:
    state = EMPTY
    for step in steps:
        folder = tmp_path / f"made{step}"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "weights").write_bytes(b"w" * step)
        done = checkpoints.save(log, 1, step, f"id{step}", folder)
        entry = Checkpoint(
            epoch=1, step=step, store="m", manifest=done.manifest, sha256=done.sha256, id=f"id{step}", nonce="n"
        )
        state = fold(state, state.position, entry)
    return state


def restored(log: JobLog, state: RunLog, tmp_path: Path) -> tuple[int | None, list[str]]:
    said: list[str] = []
    found = checkpoints.restore(log, state, tmp_path / "into", said.append, store="m")
    if found is not None:
        assert (found.folder / "sub" / "weights").read_bytes() == b"w" * found.checkpoint.step
    return found and found.checkpoint.step, said


def part(log: JobLog, tmp_path: Path, save_id: str, rank: int) -> None:
    folder = tmp_path / f"{save_id}-{rank}"
    folder.mkdir()
    (folder / f"shard-{rank}").write_text(save_id)
    checkpoints.save_part(log, 1, 5, save_id, folder, rank)


def test_parts_of_an_earlier_try_at_the_step_are_not_joined(log: JobLog, tmp_path: Path) -> None:
    part(log, tmp_path, "first", 1)  # and its rank 0 died
    checkpoints.ask_for_parts(log, 1, 5, "nonce", "second")
    part(log, tmp_path, "second", 0)
    assert checkpoints.join(log, 1, 5, "second", 2) == (1,)
    assert checkpoints.asked_for_parts(log, 1, 5, "nonce") == "second"
    part(log, tmp_path, "second", 1)
    assert isinstance(checkpoints.join(log, 1, 5, "second", 2), checkpoints.Saved)


def test_a_part_that_is_listed_and_cannot_be_read_is_missing(tmp_path: Path) -> None:
    class Lagging(MemoryStore):
        def get(self, key: str) -> bytes | None:
            return None if key.endswith("parts/1.json") else super().get(key)

    log = JobLog(Lagging(), "p", "J")
    for rank in (0, 1):
        part(log, tmp_path, "try", rank)
    assert checkpoints.join(log, 1, 5, "try", 2) == (1,)


def test_the_newest_comes_back_as_it_was(log: JobLog, tmp_path: Path) -> None:
    state = saved(log, tmp_path, 5, 9)
    assert restored(log, state, tmp_path) == (9, [])
    assert restored(log, state, tmp_path) == (9, [])


def damage(log: JobLog, what: str, change: bytes | None) -> None:
    (key,) = [key for key in log.store.list("p") if key.endswith(f"id9/{what}")]
    if change is None:
        log.store.delete(key)
    else:
        log.store.put(key, change)


@pytest.mark.fault("checkpoint truncated or its hash wrong")
@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("files/sub/weights", b"w" * 8),
        ("files/sub/weights", b"x" * 9),
        ("files/sub/weights", None),
        ("manifest.json", b"{}"),
        ("manifest.json", None),
    ],
)
def test_a_damaged_one_falls_back_to_the_one_before(
    log: JobLog, tmp_path: Path, what: str, change: bytes | None
) -> None:
    state = saved(log, tmp_path, 5, 9)
    damage(log, what, change)
    step, said = restored(log, state, tmp_path)
    assert step == 5
    assert said[0].startswith("checkpoint of epoch 1, step 9 is not used:")


@pytest.mark.parametrize("name", ["elsewhere", "", "M", "m\n\x1b[2J"])
def test_one_that_names_another_store_is_refused_and_the_one_before_is_used(
    log: JobLog, tmp_path: Path, name: str
) -> None:
    state = saved(log, tmp_path, 5, 9)
    forged = replace(state.checkpoints[1], store=name)
    step, said = restored(log, fold(fold(EMPTY, 1, state.checkpoints[0]), 2, forged), tmp_path)
    assert step == 5
    assert said == [
        f"checkpoint of epoch 1, step 9 is not used: it says that it lies in store {name!r}, and the job's own is 'm'"
    ]
    assert said[0].isprintable()


def test_a_silent_store_is_no_reason_for_an_older_one(log: JobLog, tmp_path: Path) -> None:
    state = saved(log, tmp_path, 5, 9)
    log.store.faults.down = True
    with pytest.raises(StoreUnavailable):
        restored(log, state, tmp_path)


def three_files(log: JobLog, tmp_path: Path) -> RunLog:
    folder = tmp_path / "made"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    done = checkpoints.save(log, 1, 7, "i", folder)
    manifest, sha256 = done.manifest, done.sha256
    return fold(EMPTY, 1, Checkpoint(epoch=1, step=7, store="m", manifest=manifest, sha256=sha256, id="i", nonce="n"))


def at_the_third_file(log: JobLog, then: Callable[[], object]) -> None:
    def before(_verb: str, key: str) -> None:
        if key.endswith("/files/c"):
            log.store.faults.before = None
            then()

    log.store.faults.before = before


def test_of_ranks_that_share_a_folder_one_fetches_and_the_others_wait_for_it(log: JobLog, tmp_path: Path) -> None:
    state, into, found = three_files(log, tmp_path), tmp_path / "into", []

    def rank() -> None:
        found.append(checkpoints.restore(log, state, into, print, store="m"))

    others = [Thread(target=rank) for _ in range(3)]
    at_the_third_file(log, lambda: [other.start() for other in others])
    rank()
    for other in others:
        other.join(10)
    fetched = [key for verb, key in log.store.journal if verb == "get" and "/files/" in key]
    assert len({str(one.folder) for one in found}) == 1 and len(found) == 4 and len(fetched) == 3
    assert sorted(path.name for path in found[0].folder.iterdir()) == ["a", "b", "c"]
    assert [path for path in into.iterdir() if path.is_dir()] == [found[0].folder]


def test_on_a_disk_without_locks_ranks_leave_each_other_s_download_alone(
    log: JobLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, into = three_files(log, tmp_path), tmp_path / "into"

    def no_locks(*_: object) -> None:
        raise OSError("Function not implemented")

    def another_rank() -> None:
        log.store.faults.down = True
        with pytest.raises(StoreUnavailable):
            checkpoints.restore(log, state, into, print, store="m")
        log.store.faults.down = False

    monkeypatch.setattr("fcntl.flock", no_locks)
    at_the_third_file(log, another_rank)
    found = checkpoints.restore(log, state, into, print, store="m")
    assert found is not None and sorted(path.name for path in found.folder.iterdir()) == ["a", "b", "c"]


def test_what_a_killed_process_had_fetched_is_removed_by_the_next(log: JobLog, tmp_path: Path) -> None:
    state, into = three_files(log, tmp_path), tmp_path / "into"
    at_the_third_file(log, lambda: os._exit(9))
    child = get_context("fork").Process(target=lambda: checkpoints.restore(log, state, into, print, store="m"))
    child.start()
    child.join()
    log.store.faults.before = None
    assert child.exitcode == 9 and [path.name for path in into.iterdir() if path.is_dir()] != []
    found = checkpoints.restore(log, state, into, print, store="m")
    assert found is not None and [path for path in into.iterdir() if path.is_dir()] == [found.folder]


def test_a_manifest_cannot_point_outside(log: JobLog, tmp_path: Path) -> None:
    state = saved(log, tmp_path, 5)
    manifest = json.dumps({"files": [{"name": "../../evil", "size": 0, "sha256": ""}]}).encode()
    entry = state.checkpoints[0]
    log.store.put(entry.manifest, manifest)
    bad = replace(entry, sha256=hashlib.sha256(manifest).hexdigest())
    assert restored(log, fold(EMPTY, 1, bad), tmp_path)[0] is None


def test_a_checkpoint_is_a_folder(log: JobLog, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a checkpoint is a folder"):
        checkpoints.save(log, 1, 1, "id", tmp_path / "none")


@pytest.mark.parametrize("fault", ["", "lose_answer"])
def test_chunks_come_back_once_and_in_order(fault: str) -> None:
    store = MemoryStore()
    chunks = Chunks(store, "f")
    chunks.ship(b"a")
    if fault:
        setattr(store.faults, fault, 1)
    chunks.ship(b"b")
    chunks.ship(b"c")
    assert read_chunks(store, "f") == (b"abc", 3)
    assert read_chunks(store, "f", after=2) == (b"c", 3)


@pytest.mark.parametrize("after", [0, 1, 5, 19])
def test_the_newest_chunk_is_found_among_any_number(after: int) -> None:
    store = MemoryStore()
    chunks = Chunks(store, "f")
    for n in range(1, 20):
        chunks.ship(f"{n}".encode())
        if n >= after:
            assert newest_chunk(store, "f", after) == (b"" if n == after else f"{n}".encode(), n)
    assert newest_chunk(store, "none") == (b"", 0)


def test_a_lost_chunk_is_shipped_again_under_its_number() -> None:
    store = MemoryStore()
    chunks = Chunks(store, "f")
    store.faults.lose_request = 1
    with pytest.raises(StoreUnavailable):
        chunks.ship(b"a")
    chunks.ship(b"a")
    assert read_chunks(store, "f") == (b"a", 1)


def test_two_writers_of_one_folder_take_different_numbers() -> None:
    store = MemoryStore()
    first, second = Chunks(store, "f"), Chunks(store, "f")
    first.ship(b"a")
    second.ship(b"b")
    first.ship(b"c")
    assert read_chunks(store, "f") == (b"abc", 3)


def test_a_writer_that_starts_again_finds_the_end_of_thousands_of_chunks_in_few_requests() -> None:
    store = MemoryStore(objects={f"f/{n:08d}": b"x" for n in range(1, 5001)})
    Chunks(store, "f").ship(b"new")
    assert read_chunks(store, "f", after=5000) == (b"new", 5001)
    assert len(store.journal) < 100


def test_a_writer_that_starts_again_believes_no_exists_that_it_cannot_read() -> None:
    store = MemoryStore(objects={f"f/{n:08d}": b"x" for n in range(1, 20)})
    chunks = Chunks(store, "f")
    lie = ("create", "f/00000020")
    store.faults.before = lambda *call: setattr(store.faults, "say_exists", int(call == lie))
    with pytest.raises(StoreUnavailable, match="f/00000020 was put and is not there"):
        chunks.ship(b"new")
    store.faults.before = None
    chunks.ship(b"new")
    assert read_chunks(store, "f", after=19) == (b"new", 20)
