"""One set of promises, kept by a folder, by S3 (an S3 server in this process) and in memory."""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from obstore.store import MemoryStore as InMemory

from orchestrator.model.wire import StoreRef
from orchestrator.runlog import doctor
from orchestrator.runlog.results import Exists, Stored, StoreUnavailable, Unknown
from orchestrator.runlog.store import CloudStore, Store, Timeouts, open_store
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


def test_a_folder_that_is_not_there_is_no_absent_key(tmp_path: Path) -> None:
    options = {"endpoint": "http://127.0.0.1:9", "region": "x", "allow_http": "true", "access_key_id": "k"}
    store = open_store(StoreRef(name="s", url="s3://runs", options={**options, "secret_access_key": "s"}), QUICK)
    with pytest.raises(FileNotFoundError, match="none/weights"):
        store.download("weights", tmp_path / "none" / "weights")


CALLS = {
    "get": lambda store, path: store.get("a"),
    "put": lambda store, path: store.put("a", b""),
    "list": lambda store, path: store.list("a"),
    "delete": lambda store, path: store.delete("a"),
    "upload": lambda store, path: (path.touch(), store.upload("a", path)),
    "download": lambda store, path: store.download("a", path),
}


@pytest.mark.s3
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_bucket_that_does_not_exist_is_no_empty_store(s3: StoreRef, tmp_path: Path, call: Any) -> None:
    store = open_store(replace(s3, url="s3://none/deep"), QUICK)
    told = r"^the bucket of store 's3' \(s3://none/deep\) does not exist: create it, or correct the url$"
    with pytest.raises(StoreUnavailable, match=told):
        call(store, tmp_path / "x")
    put = store.create("a", b"")
    assert isinstance(put, Unknown) and re.search(told, put.why)


GOOGLE = {"gcs_base_url": "HERE", "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
OTHERS = [
    ("gs://none", {"service_account_key": json.dumps(GOOGLE)}, "NoSuchBucket", "NoSuchKey"),
    ("az://none", {"account_name": "a", "access_key": "a2V5", "endpoint": "HERE"}, "ContainerNotFound", "BlobNotFound"),
]


@pytest.mark.parametrize(("url", "options", "bucket", "key"), OTHERS)
def test_so_it_is_at_other_clouds(url: str, options: dict[str, str], bucket: str, key: str) -> None:
    with refusing_server() as (here, answer):
        given = {name: value.replace("HERE", here) for name, value in options.items()}
        store = open_store(StoreRef(name="m", url=url, options={**given, "allow_http": "true"}), QUICK)
        answer.update(code=key)
        assert store.get("a") is None
        answer.update(code=bucket)
        with pytest.raises(StoreUnavailable, match=r"the bucket of store 'm' .* does not exist"):
            store.get("a")


def test_what_a_store_refuses_is_told_in_one_line() -> None:
    options = {"region": "x", "allow_http": "true", "access_key_id": "k", "secret_access_key": "s"}
    with refusing_server() as (here, answer):
        store = open_store(StoreRef(name="m", url="s3://runs", options={**options, "endpoint": here}), QUICK)
        answer.update(status=403, code="AccessDenied")
        with pytest.raises(StoreUnavailable, match=r"403 Forbidden: AccessDenied: So it is.$") as told:
            store.get("a")
    assert "\n" not in str(told.value)


@contextmanager
def refusing_server() -> Iterator[tuple[str, dict[str, Any]]]:
    """Its address, and what it answers to every GET: a status and the code of an error."""
    answer: dict[str, Any] = {"status": 404}

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            error = f"<Error><Code>{answer['code']}</Code><Message>So it is.</Message><HostId>h</HostId></Error>"
            body = f'<?xml version="1.0" encoding="utf-8"?>\n{error}\n'.encode("utf-8-sig")
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answer
        server.shutdown()


def test_a_large_file_may_take_longer_than_the_timeout_while_its_bytes_come(tmp_path: Path) -> None:
    with slow_server(pieces=15) as store:
        assert store.download("a", tmp_path / "a") is True
    assert (tmp_path / "a").read_bytes() == b"x" * 15


def test_a_download_that_stalls_is_unavailable(tmp_path: Path) -> None:
    with slow_server(pieces=2) as store, pytest.raises(StoreUnavailable, match="did not answer while downloading a"):
        store.download("a", tmp_path / "a")


def test_a_disk_of_ours_that_is_full_is_said_as_that() -> None:
    """Waiting for the store would help nobody."""
    bucket = InMemory()
    store = CloudStore(StoreRef(name="s", url="s3://runs"), bucket, bucket)
    store.put("a", bytes(1 << 20))
    with pytest.raises(OSError, match="No space left on device"):
        store.download("a", Path("/dev/full"))


@contextmanager
def slow_server(pieces: int) -> Iterator[Store]:
    """A store that sends a piece each 0.1 s, of 15 that it promises; its patience for large files is 1 s."""
    over = Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in (("Content-Length", "15"), ("ETag", "e"), ("Last-Modified", self.date_time_string())):
                self.send_header(name, value)
            self.end_headers()
            for _ in range(pieces):
                over.wait(0.1)
                self.wfile.write(b"x")
            over.wait()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        options = {"endpoint": f"http://127.0.0.1:{server.server_port}", "region": "x", "allow_http": "true"}
        keys = {"access_key_id": "k", "secret_access_key": "s"}
        yield open_store(StoreRef(name="m", url="s3://runs", options={**options, **keys}), Timeouts(bulk_ms=1000))
        over.set()
        server.shutdown()


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


@contextmanager
def no_room_for(size: int) -> Iterator[None]:
    """No file of this process may have as many bytes: a write fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("verb", ["create", "put", "upload"])
def test_a_write_that_fails_leaves_nothing_on_a_full_disk(tmp_path: Path, verb: str) -> None:
    store, source = open_store(StoreRef(name="f", url=f"file://{tmp_path}/a"), create=True), tmp_path / "source"
    source.write_bytes(b"x" * (1 << 20))
    with no_room_for(1 << 20):
        if verb == "create":
            assert isinstance(store.create("k/a", source.read_bytes()), Unknown)
        else:
            with pytest.raises(StoreUnavailable, match="File too large"):
                getattr(store, verb)("k/a", source if verb == "upload" else source.read_bytes())
    assert list((tmp_path / "a" / "k").iterdir()) == []


def test_a_write_that_cannot_be_moved_into_place_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(StoreRef(name="f", url=f"file://{tmp_path}"))
    store.put("a/b", b"")
    with pytest.raises(StoreUnavailable):
        store.put("a", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


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
