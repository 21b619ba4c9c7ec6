"""Code packages: named by their hash, checked before anything is kept."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from orchestrator.api.app import Front, create_app
from orchestrator.testing.desk import FakeDesk
from orchestrator.testing.stores import MemoryStore
from tests.api.conftest import LEAST, YAML, token_of, write_tokens, zip_of


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_package_is_kept_once_and_read_back(owner: httpx.AsyncClient, store: MemoryStore) -> None:
    data, digest = zip_of(**{"train.py": "print(1)", "pkg/__init__.py": ""})
    statuses = [(await owner.put(f"/v1/packages/{digest}", content=data)).status_code for _ in range(2)]
    assert statuses == [201, 200]
    assert store.objects == {f"default/packages/{digest}.zip": data}
    assert (await owner.get(f"/v1/packages/{digest}")).content == data
    assert (await owner.head(f"/v1/packages/{digest}")).status_code == 200


async def test_a_package_belongs_to_its_project(owner: httpx.AsyncClient) -> None:
    data, digest = zip_of(**{"train.py": ""})
    await owner.put(f"/v1/packages/{digest}?project=vision", content=data)
    assert (await owner.head(f"/v1/packages/{digest}?project=vision")).status_code == 200
    assert (await owner.head(f"/v1/packages/{digest}")).status_code == 404
    assert (await owner.get(f"/v1/packages/{digest}")).status_code == 404


async def test_other_bytes_than_the_digest_are_not_kept(owner: httpx.AsyncClient, store: MemoryStore) -> None:
    data, _ = zip_of(**{"train.py": ""})
    reply = await owner.put(f"/v1/packages/{'0' * 64}", content=data)
    assert (reply.status_code, reply.json()["type"]) == (422, "urn:orchestrator:problem:digest-mismatch")
    assert not store.objects


async def test_a_package_over_the_limit_is_not_kept(owner: httpx.AsyncClient, store: MemoryStore) -> None:
    data = b"x" * 100_001
    assert (await owner.put(f"/v1/packages/{digest_of(data)}", content=data)).status_code == 413
    assert not store.objects


@pytest.mark.parametrize("project", ["../x", "a/b", "", "A", ".", "x" * 64])
async def test_a_project_cannot_leave_its_folder(owner: httpx.AsyncClient, project: str) -> None:
    data, digest = zip_of(a="")
    for verb in ("PUT", "GET", "HEAD"):
        reply = await owner.request(verb, f"/v1/packages/{digest}", params={"project": project}, content=data)
        assert reply.status_code == 422


@pytest.mark.parametrize("digest", ["0" * 63, "A" * 64, "..%2f..%2fetc%2fpasswd", "0" * 64 + ".zip"])
async def test_a_digest_is_a_digest(owner: httpx.AsyncClient, digest: str) -> None:
    assert (await owner.put(f"/v1/packages/{digest}", content=b"")).status_code in (404, 422)


@pytest.fixture
async def of_two(tmp_path: Path, store: MemoryStore, european: MemoryStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with two policies, each with a store of its own."""
    tokens, by_policy = write_tokens(tmp_path / "tokens.json"), {"default": store, "european": european}
    app = create_app(FakeDesk(), Front(find=tokens.find, files=store, by_policy=by_policy, metrics=lambda: b""))
    headers = {"Authorization": f"Bearer {token_of('owner')}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


@pytest.fixture
def european() -> MemoryStore:
    return MemoryStore()


async def test_a_package_for_a_policy_is_kept_at_its_store_and_read_from_there(
    of_two: httpx.AsyncClient, store: MemoryStore, european: MemoryStore
) -> None:
    data, digest = zip_of(**{"train.py": ""})
    assert (await of_two.put(f"/v1/packages/{digest}?policy=european", content=data)).status_code == 201
    assert (list(store.objects), list(european.objects)) == ([], [f"default/packages/{digest}.zip"])
    assert (await of_two.get(f"/v1/packages/{digest}")).content == data
    asked = [(await of_two.head(f"/v1/packages/{digest}{of}")).status_code for of in ("", "?policy=default")]
    assert asked == [200, 404]


async def test_a_package_for_a_policy_that_is_not_there_goes_to_nobodys_store(
    of_two: httpx.AsyncClient, store: MemoryStore
) -> None:
    data, digest = zip_of(**{"train.py": ""})
    reply = await of_two.put(f"/v1/packages/{digest}?policy=europaen", content=data)
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "spec.policy")
    assert not store.objects


async def test_the_store_of_another_policy_may_be_away(of_two: httpx.AsyncClient, european: MemoryStore) -> None:
    european.faults.down = True
    data, digest = zip_of(**{"train.py": ""})
    assert (await of_two.put(f"/v1/packages/{digest}", content=data)).status_code == 201
    body = LEAST.replace("command:", f"package: {{digest: 'sha256:{digest}'}}, command:")
    assert (await of_two.post("/v1/jobs", content=body, headers=YAML)).status_code == 201


def made(change: Callable[[zipfile.ZipFile], None]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        change(archive)
    return buffer.getvalue()


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("a.py", "1")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.py", "2")


def lying_size(data: bytes) -> bytes:
    """The directory says that the file has 10 bytes; it unpacks to many more."""
    at = data.rindex(b"PK\x01\x02") + 24
    return data[:at] + (10).to_bytes(4, "little") + data[at + 4 :]


def damaged(data: bytes) -> bytes:
    """The first bytes of the first file's deflate stream are no such stream."""
    at = data.index(b"PK\x03\x04") + 30 + len("train.py")
    return data[:at] + b"\xff" * 8 + data[at + 8 :]


def pointing_before_its_begin(data: bytes) -> bytes:
    """The directory is said to lie behind where it does, and so each file before the zip's first byte."""
    at = data.rindex(b"PK\x05\x06") + 16
    return data[:at] + (int.from_bytes(data[at : at + 4], "little") + 10).to_bytes(4, "little") + data[at + 4 :]


def within_a_file(*names: str) -> bytes:
    return made(lambda archive: [archive.writestr(name, "") for name in names] and None)


BOMB = made(lambda archive: archive.writestr("big", b"\0" * 10_000_000))
HOSTILE = {
    "absolute": made(lambda archive: archive.writestr("/etc/passwd", "")),
    "parent": made(lambda archive: archive.writestr("a/../../b", "")),
    "backslash": made(lambda archive: archive.writestr("..\\b", "")),
    "drive": made(lambda archive: archive.writestr("C:/b", "")),
    "control": made(lambda archive: archive.writestr("a\x1b[2Jb", "")),
    "dot": made(lambda archive: archive.writestr("./a", "")),
    "link": made(link),
    "twice": made(twice),
    "within-a-file": within_a_file("a", "a!", "a/b"),
    "within-a-file-that-comes-later": within_a_file("a/b/c", "a!", "a"),
    "folder-within-a-file": within_a_file("a", "a/b/"),
    "long-part": made(lambda archive: archive.writestr("ä" * 128, "")),
    "long-path": made(lambda archive: archive.writestr("abc/" * 1000, "")),
    "damaged": damaged(made(lambda archive: archive.writestr("train.py", "print(1)\n" * 100))),
    "elsewhere": pointing_before_its_begin(made(lambda archive: archive.writestr("a", ""))),
    "bomb": BOMB,
    "liar": lying_size(BOMB),
    "not-a-zip": b"PK\x03\x04 or so",
    "empty": b"",
    "cut": zip_of(a="b" * 1000)[0][:-30],
    "lzma": (lambda b: (zipfile.ZipFile(b, "w", zipfile.ZIP_LZMA).writestr("a", "x" * 100), b.getvalue())[1])(
        io.BytesIO()
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_package_is_not_kept(owner: httpx.AsyncClient, store: MemoryStore, name: str) -> None:
    data = HOSTILE[name]
    reply = await owner.put(f"/v1/packages/{digest_of(data)}", content=data)
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["reason"] and "\x1b" not in reply.text
    assert not store.objects


async def test_a_store_that_is_away_is_nobodys_fault_here(owner: httpx.AsyncClient, store: MemoryStore) -> None:
    data, digest = zip_of(a="")
    store.faults.down = True
    reply = await owner.put(f"/v1/packages/{digest}", content=data)
    assert (reply.status_code, reply.json()["fault"]) == (503, "server")
    store.faults.down = False
    assert (await owner.put(f"/v1/packages/{digest}", content=data)).status_code == 201
