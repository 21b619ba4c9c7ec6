"""One set of promises, kept by a folder, by S3 (an S3 server in this process) and in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.wire import StoreRef
from orchestrator.runlog import doctor
from orchestrator.runlog.results import Exists, Stored, StoreUnavailable, Unknown
from orchestrator.runlog.store import Store, Timeouts, open_store
from orchestrator.testing.stores import MemoryStore
from tests.buckets import a_bucket

QUICK = Timeouts(connect_ms=300, request_ms=2000, bulk_ms=10_000)


@pytest.fixture(scope="module")
def s3() -> Iterator[StoreRef]:
    with a_bucket() as made:
        yield made


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3), "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3"), QUICK)
    return open_store(StoreRef(name="f", url=f"file://{tmp_path}/a"), create=True)


def test_the_first_create_wins(store: Store) -> None:
    assert isinstance(store.create("w/a", b"1"), Stored)
    assert isinstance(store.create("w/a", b"2"), Exists)
    assert store.get("w/a") == b"1"


def test_an_absent_key_is_an_answer(store: Store, tmp_path: Path) -> None:
    assert store.get("g/none") is None
    assert store.download("g/none", tmp_path / "x") is False
    store.delete("g/none")


def test_put_overwrites_and_delete_deletes(store: Store) -> None:
    store.put("p/a", b"1")
    store.put("p/a", b"2")
    assert store.get("p/a") == b"2"
    store.delete("p/a")
    assert store.get("p/a") is None


def test_list_names_whole_keys_below_a_folder(store: Store) -> None:
    for key in ("l/b/2", "l/a/1", "l/a/10", "lx/a"):
        store.put(key, b"")
    assert store.list("l") == ["l/a/1", "l/a/10", "l/b/2"]
    assert store.list("l/c") == []


def test_files_of_any_size(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(12 << 20))
    store.upload("u/big", source)
    assert store.download("u/big", target) is True
    assert target.read_bytes() == source.read_bytes()


def test_a_store_that_cannot_be_reached_is_unavailable_not_empty() -> None:
    ref = StoreRef(
        name="gone",
        url="s3://runs",
        options={"endpoint": "http://127.0.0.1:9", "region": "x", "allow_http": "true", "access_key_id": "k"},
        secrets={"secret_access_key": "file:/dev/null"},
    )
    with pytest.raises(ValueError, match="should be at 'file:/dev/null'"):
        open_store(ref, QUICK)
    store = open_store(StoreRef(name="gone", url=ref.url, options={**ref.options, "secret_access_key": "s"}), QUICK)
    assert isinstance(store.create("a", b""), Unknown)
    with pytest.raises(StoreUnavailable, match="store 'gone' did not answer while reading a"):
        store.get("a")


def test_a_folder_that_vanished_is_unavailable_and_is_not_made_again(tmp_path: Path) -> None:
    ref = StoreRef(name="f", url=f"file://{tmp_path}/a")
    with pytest.raises(StoreUnavailable):
        open_store(ref)
    store = open_store(ref, create=True)
    (tmp_path / "a").rename(tmp_path / "b")
    assert isinstance(store.create("x/y", b""), Unknown)
    with pytest.raises(StoreUnavailable):
        store.get("x/y")
    assert not (tmp_path / "a").exists()


def test_another_folder_in_its_place_is_unavailable(tmp_path: Path) -> None:
    store = open_store(StoreRef(name="f", url=f"file://{tmp_path}/a"), create=True)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    with pytest.raises(StoreUnavailable, match="is not the one that was opened"):
        store.get("x")


@pytest.mark.parametrize("key", ["../x", "a//b", "/a", "a/.tmp-1", "a/./b"])
def test_a_folder_keeps_keys_inside_itself(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is not a store key"):
        open_store(StoreRef(name="f", url=f"file://{tmp_path}")).get(key)


def test_the_doctor_finds_a_folder_sound(tmp_path: Path) -> None:
    folder = StoreRef(name="f", url=f"file://{tmp_path}")
    report = doctor.race(folder, writers=4, rounds=10)
    assert report.ok and (report.double_wins, report.lost_wins, report.unlisted) == (0, 0, 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.s3
def test_the_doctor_races_on_s3(s3: StoreRef) -> None:
    report = doctor.race(s3, writers=2, rounds=3)
    assert (report.rounds, report.lost_answers, report.unlisted) == (3, 0, 0)


def test_the_doctor_finds_a_store_that_lets_two_win() -> None:
    class Both(MemoryStore):
        def create(self, key: str, data: bytes) -> Stored:
            self.put(key, data)
            return Stored()

    both = Both()
    report = doctor.race(StoreRef(name="b", url=""), writers=2, rounds=3, opener=lambda ref: both)
    assert report.double_wins == 3 and not report.ok


@pytest.mark.fault("checkpoint store lying")
def test_the_doctor_counts_lies_that_reading_back_survives() -> None:
    liar = MemoryStore()
    liar.faults.say_exists = 2
    report = doctor.race(StoreRef(name="b", url=""), writers=2, rounds=3, opener=lambda ref: liar)
    assert report.false_exists == 1 and report.ok
