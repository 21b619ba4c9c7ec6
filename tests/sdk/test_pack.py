"""Packing a folder: the same files are the same bytes; secrets and ignored files stay at home."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import orchestrator.sdk.pack as sdk_pack
from orchestrator.api import zips
from orchestrator.api.zips import complaints
from orchestrator.sdk.errors import PackageError
from orchestrator.sdk.pack import Packed, pack


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(packed: Packed) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(packed.data)).namelist()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one = write(tmp_path / "one", **{"b.py": "1", "a/c.py": "2"})
    two = write(tmp_path / "two", **{"a/c.py": "2", "b.py": "1"})
    os.utime(two / "b.py", (1, 1))
    (two / "b.py").chmod(0o600)
    assert pack(one) == pack(two)
    assert names(pack(one)) == ["a/c.py", "b.py"]


def test_what_is_packed_is_accepted(tmp_path: Path) -> None:
    packed = pack(write(tmp_path / "code", **{"train.py": "print(1)", "pkg/x.py": "", "run.sh": "#!/bin/sh"}))
    (tmp_path / "p.zip").write_bytes(packed.data)
    assert complaints(tmp_path / "p.zip", 1000) == []


def test_ignore_rules_of_every_folder_are_respected(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        **{
            ".gitignore": "*.log\n/data/\n", ".orchestratorignore": "notes/\n",
            "sub/.gitignore": "!keep.log\nlocal.py\n",
            "a.log": "", "sub/b.log": "", "sub/keep.log": "", "sub/local.py": "", "local.py": "", "data/x": "",
            "sub/data/y": "", "notes/n": "", "train.py": "",
        },
    )  # fmt: skip
    kept = {name for name in names(pack(root)) if "ignore" not in name}
    assert kept == {"train.py", "local.py", "sub/keep.log", "sub/data/y"}


def test_secrets_stay_at_home_and_one_is_told(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        **{
            "train.py": "",
            ".env": "KEY=1",
            "deep/id_rsa": "",
            "tls.pem": "",
            ".aws/credentials": "",
            ".git/config": "",
        },
    )
    packed = pack(root)
    assert names(packed) == ["train.py"]
    assert sorted(notice.split(":")[0] for notice in packed.notices) == [
        "left out .aws/", "left out .env", "left out deep/id_rsa", "left out tls.pem",
    ]  # fmt: skip


@pytest.mark.parametrize("marks", [["ledger.db"], ["ledger.db.lock"], ["server.json"], []])
def test_a_servers_home_is_never_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marks: list[str]) -> None:
    files = {f"work/mine/{name}": "" for name in ["tokens.json", *marks]}
    root = write(tmp_path, **{"train.py": "", "work/a.py": ""}, **files)
    if not marks:  # by the variable alone
        monkeypatch.setenv("ORCHESTRATOR_HOME", str(root / "work" / "mine"))
    packed = pack(root)
    assert names(packed) == ["train.py", "work/a.py"]
    assert packed.notices == ("left out work/mine/: it is a server's own folder, with its tokens",)
    with pytest.raises(PackageError, match="server's own folder"):
        pack(root / "work" / "mine")


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, **{"outside/secret": "s", "code/train.py": ""})
    (tmp_path / "code" / "out").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "code" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "code" / "same.py").symlink_to("train.py")
    packed = pack(tmp_path / "code")
    assert names(packed) == ["same.py", "train.py"] and len(packed.notices) == 2


def test_a_link_brings_nothing_that_is_left_out_itself(tmp_path: Path) -> None:
    left_out = {"conf": ".env", "key": ".ssh/config", "head": ".git/HEAD", "tokens": "home/tokens.json",
                "sample": "data/x", "own": "sub/local.py"}  # fmt: skip
    files = dict.fromkeys([*left_out.values(), "train.py", "home/ledger.db"], "")
    write(tmp_path, **{**files, ".gitignore": "data/\n", "sub/.gitignore": "local.py\n"})
    for name, target in left_out.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "sub" / "good.py").symlink_to("../train.py")
    packed = pack(tmp_path)
    assert [name for name in names(packed) if "ignore" not in name] == ["sub/good.py", "train.py"]
    told = {f"left out {name}: it is a link to {target}, which is left out" for name, target in left_out.items()}
    assert told <= {*packed.notices}


@pytest.mark.parametrize(("closed", "mode"), [(".", 0), ("locked", 0), ("locked", 0o444), ("locked/.gitignore", 0)])
def test_what_may_not_be_read_is_named(anyones: Path, closed: str, mode: int) -> None:
    pack(write(anyones, **{"train.py": "", "locked/.gitignore": ""}))
    (anyones / closed).chmod(mode)
    with mortal(), pytest.raises(PackageError, match=f"{anyones / closed}.* cannot be read: .*; make it readable or"):
        pack(anyones)


def test_what_may_not_be_read_and_is_ignored_is_no_trouble(anyones: Path) -> None:
    pack(write(anyones, **{"train.py": "", ".orchestratorignore": "locked/", "locked/x": ""}))
    (anyones / "locked").chmod(0)
    with mortal():
        assert names(pack(anyones)) == [".orchestratorignore", "train.py"]


@pytest.fixture
def anyones() -> Iterator[Path]:
    """A folder that everybody may read; pytest's own are their owner's alone."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def mortal() -> Iterator[None]:
    """Root may read everything: be somebody else."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_pipes_and_broken_links_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, **{"train.py": ""})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")
    assert names(pack(tmp_path)) == ["train.py"]


def test_the_cap_names_where_it_was_reached(tmp_path: Path) -> None:
    root = write(tmp_path, **{"a.py": "", "big.bin": "x" * 10_000})
    with pytest.raises(PackageError, match=r"big\.bin.*\.orchestratorignore"):
        pack(root, limit=5_000)


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_nothing_to_pack_is_an_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PackageError):
        pack(tmp_path / folder)


@pytest.mark.parametrize("name", ["a\nb.py", "a\\b.py", "c:d.py", os.fsdecode(b"a\xff.py")])
def test_a_name_that_no_server_takes_is_said_at_home(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(PackageError, match="rename it, or ignore it"):
        pack(tmp_path)


def test_links_to_nowhere_and_to_themselves_are_told(tmp_path: Path) -> None:
    write(tmp_path, **{"train.py": ""})
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "self").symlink_to("self")
    assert len(pack(tmp_path).notices) == 2


def test_a_file_over_the_limit_is_never_read(tmp_path: Path) -> None:
    with (tmp_path / "data.bin").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PackageError, match=r"data.bin.*orchestratorignore"):
        pack(tmp_path)


def test_more_files_than_a_server_takes_are_refused_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sdk_pack.MAX_FILES == zips.MAX_FILES
    monkeypatch.setattr(sdk_pack, "MAX_FILES", 2)
    with pytest.raises(PackageError, match="more than 2 files"):
        pack(write(tmp_path, a="", b="", c=""))
