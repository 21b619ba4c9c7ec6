"""The whole product on sockets of this machine: a real server, two clouds over HTTP, and ways between them that lose.

azure holds a first right to every job, oracle is the market. Their machines are of paper, so nothing of the user's runs
unless a test wants processes; whatever happens, the audit finds no fault with the ledger and the clouds' journals.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest

from orchestrator.adapters.ledger.sql import reading
from orchestrator.cli.audit import audit
from orchestrator.cli.stage import Switches
from orchestrator.cli.witnesses import gather
from orchestrator.engine.wiring import Pace
from orchestrator.mockcloud.config import CloudConfig, Mishap
from orchestrator.mockcloud.network import Forwarder
from orchestrator.mockcloud.server import Running, running
from orchestrator.model import event as ev
from orchestrator.simulate.world import first_right, job_document, provider_document
from tests.elsewhere import Elsewhere
from tests.real import real

T = TypeVar("T")
CLOUDS = ("azure", "oracle")
WINDOW_S = 8
"""Of azure's first right: long enough for a busy machine, short enough to be waited out."""
CHECK_S = 0.5
ISOLATION = {"check": f"{CHECK_S}s", "limit": "10s", "grace": "1s"}
CLOUD = {
    "machines": "paper",
    "paperRun": 3_600_000,
    "regions": {"eu-1": "EU"},
    "capacity": {"eu-1": {"H100": 16}},
    "prices": {"H100": 2_000_000},
    "provisioning": {},
    "termination": 0,
    "listLag": 0,
}


def until(look: Callable[[], T], seconds: float = 20.0) -> T:
    """What `look` gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found


@dataclass
class Place:
    """A cloud and the way to its API, on a loop of their own."""

    here: Running
    way: Forwarder

    @property
    def switches(self) -> Switches:
        return Switches(self.here.document())

    def connection(self) -> dict[str, str]:
        """How a server gets there."""
        token = self.here.folder / "token"
        token.write_text(self.here.token)
        return {"url": f"http://127.0.0.1:{self.way.port}", "token": f"file:{token}"}

    def answers(self, *policies: Mapping[str, Any]) -> None:
        """How offers are answered from now on."""
        self.switches.put("/policies", policies, "PUT")

    def breaks(self, **faults: Any) -> None:
        """What is broken in it from now on; what is not named stays."""
        self.switches.put("/faults", faults, "PUT")

    def journal(self, *kinds: str) -> list[dict[str, Any]]:
        """What really happened there, of these kinds or all."""
        return [line for line in self.switches.get("/journal") if not kinds or line["kind"] in kinds]

    def loses(self, *mishaps: Mishap) -> None:
        """What comes to requests on the way there, from now on."""
        self.way.mishaps = [*mishaps]

    def calls(self, method: str, path: str) -> list[tuple[str, int | None]]:
        """(what came to it, how the cloud answered it) of each request like this, in order."""
        lines = [line for line in self.way.lines if (line["method"], line["path"]) == (method, path)]
        return [(line["deed"], line["status"]) for line in lines]

    def alive(self) -> list[str]:
        """Keys of the clusters that are not gone."""
        return [one["key"] for one in self.switches.get("/clusters") if one["state"] != "terminated"]


@asynccontextmanager
async def a_way(url: str, log: Path) -> AsyncIterator[Forwarder]:
    """To this address, by one that can be told what to lose and how slow to be."""
    far = urlsplit(url)
    way = Forwarder(lambda: asyncio.open_connection(far.hostname, far.port), log=log)
    await way.listen()
    try:
        yield way
    finally:
        await way.aclose()


@asynccontextmanager
async def clouds(folder: Path, **changes: Any) -> AsyncIterator[dict[str, Place]]:
    async with AsyncExitStack() as stack:
        made = {}
        for name in CLOUDS:
            config = CloudConfig.model_validate({"cloud": name, **CLOUD, **changes})
            here = await stack.enter_async_context(running(config, folder / name))
            way = await stack.enter_async_context(a_way(here.url, folder / name / "way"))
            made[name] = Place(here, way)
        yield made


@dataclass
class Town:
    """A server and its clouds."""

    home: Path
    http: httpx.Client
    azure: Place
    oracle: Place

    def submit(self, **spec: Any) -> str:
        reply = self.http.post("/v1/jobs", json=job_document(**spec))
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])

    def job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/v1/jobs/{job}").json()
        return found

    def reaches(self, job: str, state: str, seconds: float = 20.0) -> dict[str, Any]:
        """The job, once it is in this state."""
        return until(lambda: row if (row := self.job(job))["state"] == state else {}, seconds)

    def events(self, job: str, *kinds: type[T]) -> list[T]:
        """What the ledger holds of a job, of these kinds."""
        with reading(self.home / "ledger.db") as ledger:
            decoded = [ev.decode(one.body) for one in ledger.events() if one.job == job and one.body]
        return [event for event in decoded if isinstance(event, kinds or object)]

    def offers(self, job: str) -> list[tuple[str, str, str]]:
        """(provider, state, reason) of each offer, as the API shows them."""
        rows = self.http.get(f"/v1/jobs/{job}/offers").json()["items"]
        return [(row["provider"], row["state"], row["reason"]) for row in rows]

    def told(self, job: str, *kinds: type) -> list[str]:
        return [ev.kind_of(event) for event in self.events(job, *kinds)]


@contextmanager
def reached(home: Path, places: Mapping[str, Place]) -> Iterator[Town]:
    """By the files in which the server says where it is."""
    url = json.loads((home / "server.json").read_text())["url"]
    token = json.loads((home / "tokens.json").read_text())["tokens"][0]["token"]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20) as http:
        yield Town(home, http, **places)


def assert_whole(home: Path) -> None:
    """No sentence is violated, by the ledger and by what the clouds wrote down."""
    with reading(home / "ledger.db") as ledger:
        report = audit(ledger, gather(home))
    assert not report.findings, report.findings[:5]


def write_documents(
    home: Path, places: Mapping[str, Place], store: Mapping[str, Any], window_s: int = WINDOW_S
) -> tuple[Path, Path]:
    """The providers file and the contract set of a server among these clouds."""
    ways = {name: {"adapter": "mock", "connection": place.connection()} for name, place in places.items()}
    operators = provider_document(list(places), **ways)
    operators["spec"] |= {"stores": {"main": store}, "policies": {"default": {"isolation": ISOLATION}}}
    for name, document in {"providers": operators, "contracts": first_right("azure", window=f"{window_s}s")}.items():
        (home / f"{name}.yaml").write_text(json.dumps(document))
    return home / "providers.yaml", home / "contracts.yaml"


@contextmanager
def a_town(
    home: Path, store: Mapping[str, Any], window_s: int = WINDOW_S, pace: Pace | None = None, **changes: Any
) -> Iterator[Town]:
    """A server among two clouds; `changes` are the clouds'."""
    with ExitStack() as stack:
        places = stack.enter_context(Elsewhere(lambda: clouds(home, **changes)))
        providers, contracts = write_documents(home, places, store, window_s)
        stack.enter_context(real(home, providers, pace=pace, contracts=contracts))
        yield stack.enter_context(reached(home, places))
    assert_whole(home)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """One of the test's own: it costs half a second, less than to clear up behind another test."""
    with a_town(tmp_path, {"url": (tmp_path / "store").as_uri(), "jurisdiction": "EU"}) as made:
        yield made
