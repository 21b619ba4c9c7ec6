"""Closed records that share a ConfigMap: who goes on which page, and what does a page say of each?"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from orchestrator.adapters.providers.kubernetes import billing, records
from orchestrator.adapters.providers.kubernetes.pages import Pages
from orchestrator.adapters.providers.kubernetes.resources import KEY, LEDGER, Many, Record
from orchestrator.model.offer import Charge
from orchestrator.ports.provider import Unreachable

DAY_US = 24 * 3600 * 1_000_000


class Shelf:
    """Keeps the pages; a write takes a turn of the loop, and fails while `away`."""

    def __init__(self) -> None:
        self.pages: list[dict[str, Any]] = []
        self.away = False

    async def create(self, path: str, body: dict[str, Any], kind: type[Any]) -> None:
        away = self.away
        await asyncio.sleep(0)
        if away:
            raise Unreachable("away")
        self.pages.append(body)

    async def get(self, path: str, kind: type[Any], labelSelector: str) -> Many[Record]:
        label = labelSelector.rpartition(",")[2]
        found = [page for page in self.pages if label in page["metadata"]["labels"]]
        return msgspec.convert({"metadata": {}, "items": found}, Many[Record])

    def keys(self) -> list[list[str]]:
        return [[*page["data"]] for page in self.pages]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def pages(shelf: Shelf) -> Pages:
    names = iter(range(100))
    return Pages(shelf, "/configmaps", lambda size: bytes([next(names)]))  # type: ignore[arg-type]


def closed(at: int = 7) -> dict[str, str]:
    data: dict[str, str] = records.closed(at)["data"]
    return data


async def test_who_ends_together_shares_a_page_and_who_ends_meanwhile_the_next(shelf: Shelf, pages: Pages) -> None:
    first = [asyncio.create_task(pages.add(key, "l1", closed())) for key in ("a", "b")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = [asyncio.create_task(pages.add(key, "l1", closed())) for key in ("c", "d", "e")]
    await asyncio.gather(*first, *later)
    assert shelf.keys() == [["a", "b"], ["c", "d", "e"]]
    assert len({page["metadata"]["name"] for page in shelf.pages}) == 2


async def test_each_ledger_has_pages_of_its_own(shelf: Shelf, pages: Pages) -> None:
    await asyncio.gather(pages.add("a", "l1", closed()), pages.add("b", "l2", closed()))
    assert [page["metadata"]["labels"][LEDGER] for page in shelf.pages] == ["l1", "l2"]


async def test_a_page_that_could_not_be_written_fails_all_on_it_and_nobody_else(shelf: Shelf, pages: Pages) -> None:
    shelf.away = True
    lost = [asyncio.create_task(pages.add(key, "l1", closed())) for key in ("a", "b")]
    await asyncio.wait(lost)
    assert [type(task.exception()) for task in lost] == [Unreachable, Unreachable]
    shelf.away = False
    await pages.add("a", "l1", closed())
    assert shelf.keys() == [["a"]]


async def test_whoever_stops_waiting_takes_nobody_else_along(shelf: Shelf, pages: Pages) -> None:
    gone, stays = (asyncio.create_task(pages.add(key, "l1", closed())) for key in ("a", "b"))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert shelf.keys() == [["a", "b"]]


async def test_a_record_on_a_page_is_found_as_if_it_were_one_of_its_own(pages: Pages) -> None:
    bill = Charge("a-bill", "a", 5, 1, final=True)
    await asyncio.gather(
        pages.add("a", "l1", records.closed(7, bill=bill)["data"]), pages.add("b", "l1", closed())
    )  # fmt: skip
    found = await pages.find("a")
    assert found is not None and found.metadata.ours
    assert (found.metadata.label(KEY), found.metadata.label(LEDGER)) == ("a", "l1")
    assert (billing.told(found), records.closed_at(found)) == (bill, 7)
    assert await pages.find("c") is None


def page(**data: str) -> Record:
    doc = records.page("p", "l1", {key: {} for key in data})
    return msgspec.convert(doc | {"data": data}, Record)


def test_a_record_that_somebody_spoilt_on_a_page_was_closed_all_the_same() -> None:
    [one] = records.each(page(a="much"))
    assert one.data == {"state": "stopped"} and one.metadata.label(records.MARK) == records.CLOSED


def test_a_page_is_kept_until_its_last_record_is_old() -> None:
    def said(day: int) -> str:
        return msgspec.json.encode(closed(1 + day * DAY_US)).decode()

    both = page(a=said(0), b=said(1))
    assert not records.outlived(both, 8 * DAY_US)
    assert records.outlived(both, 9 * DAY_US)
    assert not records.outlived(page(a=said(0), b="much"), 9 * DAY_US)
