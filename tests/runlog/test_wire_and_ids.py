"""Bytes and names: what is written is read back, what is not understood is an error and never absent."""

from __future__ import annotations

import json

import pytest

from orchestrator.model import ids, wire
from orchestrator.model.wire import AttemptEnv, Beat, Isolation, StoreRef, UnknownKind, WireError

ENTRIES = [
    wire.Fence(epoch=2, id="i", term=7),
    wire.Claim(epoch=2, provider="oracle", limit_ms=None, grace_ms=30, id="i", nonce="n"),
    wire.Clear(epoch=2, id="i", term=7),
    wire.Start(epoch=2, waited=True, id="i", nonce="n"),
    wire.Checkpoint(epoch=2, step=9, store="m", manifest="k", sha256="x", id="i", nonce="n"),
    wire.Prune(epoch=2, paths=("a", "b"), id="i", nonce="n"),
    wire.Stop(epoch=2, reason="cancel", grace_ms=5, id="i", term=7),
    wire.Release(epoch=2, why="limit", gone=False, ran_ms=1, id="i", nonce="n"),
    wire.Done(epoch=2, exit=3, result="Ä", ran_ms=1, id="i", nonce="n"),
    wire.Done(epoch=2, exit=0, result=None, ran_ms=1, id="i", nonce="n", workers=3),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=wire.kind_of)
def test_an_entry_is_read_back_as_it_was_written(entry: wire.Entry) -> None:
    assert wire.decode(wire.encode(entry)) == entry


def test_the_bytes_of_an_entry_are_plain_sorted_json() -> None:
    assert wire.encode(ENTRIES[0]) == b'{"epoch":2,"id":"i","kind":"fence","term":7,"v":1}'


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"v":1,"kind":"merge","epoch":1,"id":"i"}', UnknownKind),
        (b'{"v":2,"kind":"fence","epoch":1,"id":"i","term":1}', UnknownKind),
        (b'{"v":1,"kind":"release","epoch":1,"id":"i","nonce":"n","gone":true,"ran_ms":0,"why":"new"}', UnknownKind),
        (b'{"v":1,"kind":"fence","epoch":1,"id":"i"}', WireError),
        (b'{"v":1,"kind":"fence","epoch":true,"id":"i","term":1}', WireError),
        (b"", WireError),
        (b"[]", WireError),
        (b"\xff", WireError),
    ],
)
def test_what_cannot_be_understood_is_an_error(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        wire.decode(data)


def test_a_field_that_was_added_later_is_left_alone() -> None:
    doc = json.loads(wire.encode(ENTRIES[0])) | {"added": 1}
    assert wire.decode(json.dumps(doc).encode()) == ENTRIES[0]


def test_the_attempts_environment_is_read_back() -> None:
    env = AttemptEnv(
        job="J",
        project="p",
        epoch=3,
        provider="oracle",
        region="us-1",
        store=StoreRef(name="m", url="s3://b", options={"region": "x"}, secrets={"secret_access_key": "env:K"}),
        isolation=Isolation(limit_ms=None),
        command=("python", "train.py"),
        environment={"LR": "0.1"},
        requirements=("numpy==2.4.6",),
        max_runtime_left_ms=5,
    )
    assert AttemptEnv.from_json(env.to_json()) == env


def test_the_attempts_environment_names_what_is_missing() -> None:
    with pytest.raises(WireError, match=r"AttemptEnv\.store is missing"):
        AttemptEnv.from_json('{"v":1}')
    with pytest.raises(WireError, match="isolation needs 0 < check <= limit"):
        AttemptEnv.from_json('{"v":1,"store":{"name":"m","url":"u"},"isolation":{"check_ms":0}}')


def test_a_beat_is_read_back() -> None:
    beat = Beat(epoch=1, nonce="n", n=4, phase="running", ran_ms=9, at_us=1)
    assert Beat.from_json(beat.to_json()) == beat


def test_job_ids_sort_by_time() -> None:
    early, late = ids.new_job_id(1_700_000_000_000_000, bytes(10)), ids.new_job_id(1_700_000_000_001_000, bytes(10))
    assert early < late and len(early) == 26 and ids.is_job_id(early)
    assert ids.new_job_id(1_469_918_176_385_000, bytes(10))[:10] == "01ARYZ6S41"


def test_offers_and_launches_are_named_after_their_job() -> None:
    job = ids.new_job_id(1_700_000_000_000_000, b"0123456789")
    assert ids.parse_offer_id(ids.offer_id(job, 12)) == (job, 12)
    assert ids.parse_launch_key(ids.launch_key(job, 3)) == (job, 3)
    assert ids.launch_key(job, 3) == f"{job.lower()}-e3"


def test_a_number_that_no_computer_counts_to_makes_no_id() -> None:
    job, endless = ids.new_job_id(1_700_000_000_000_000, b"0123456789"), int("9" * 4000)
    assert not ids.is_offer_id(ids.offer_id(job, endless)) and not ids.is_launch_key(ids.launch_key(job, endless))
    assert ids.is_offer_id(ids.offer_id(job, 10**17)) and ids.is_launch_key(ids.launch_key(job, 10**17))


@pytest.mark.parametrize("text", ["", "x-e1", "01aryz6s410000000000000000-e0", "01ARYZ6S410000000000000000-e1"])
def test_what_is_no_launch_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a launch key"):
        ids.parse_launch_key(text)


def test_a_job_id_needs_its_entropy() -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        ids.new_job_id(1, b"")
