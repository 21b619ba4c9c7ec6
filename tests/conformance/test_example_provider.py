"""The example of a provider outside of our tree: found by its name once installed, keeps its promises, serves a job."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator import Client, command_job
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock, make_providers
from orchestrator.model.documents import DocumentError, load_providers
from orchestrator.model.placement import Terms
from orchestrator.model.wire import AttemptEnv, Isolation, StoreRef
from orchestrator.ports.provider import Misconfigured, Provider
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_attempt, some_terms
from orchestrator.testing.kit import PROMISES, Subject, check_provider
from tests.real import ONE_PROVIDER, one_provider, real

EXAMPLE = Path(__file__).parents[2] / "examples" / "provider"
LEVERS_OF_A_SERVICE = {
    "unreachable_is_not_a_no", "back_in_reach_goes_on", "locked_out_is_the_operators", "throttling_is_typed",
    "bills_only_grow", "bill_keeps_the_price",
}  # fmt: skip
"""A folder of this machine is never away, asks for no credentials, and sends no bills."""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """What `pip install` leaves behind of a package, made from its pyproject.toml: code, and metadata that is found."""
    before = set(sys.modules)

    def one(project: Path, source: str = "src") -> None:
        told = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        site = tmp_path / f"site-{told['name']}"
        shutil.copytree(project / source, site, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        about = site / f"{told['name'].replace('-', '_')}-{told['version']}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {told['version']}\n")
        points = [f"[{g}]\n" + "".join(f"{n} = {v}\n" for n, v in e.items()) for g, e in told["entry-points"].items()]
        (about / "entry_points.txt").write_text("\n".join(points))
        monkeypatch.syspath_prepend(str(site))

    yield one
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "shed":
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "store").mkdir()
    yield tmp_path
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            inside = str(tmp_path).encode() in path.read_bytes() and b"SHED_KEY=" in path.read_bytes()
        except OSError:
            continue
        if inside:
            subprocess.run(["kill", f"-{signal.SIGKILL}", path.parent.name], check=False)


def tools() -> Tools:
    return Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger")


def providers(adapter: str, connection: str = "{}") -> dict[str, Provider]:
    text = ONE_PROVIDER.replace("ADAPTER", adapter).replace("CONNECTION", connection)
    return make_providers(load_providers(text), tools(), {})


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process on the same machine."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
async def subject(install: Install, folder: Path, stranger: subprocess.Popen[bytes]) -> AsyncIterator[Subject]:
    """The shed with 8 CPUs."""
    install(EXAMPLE)

    def connect() -> Provider:
        return providers("shed", f'{{folder: "{folder}/shed", cpus: 8}}')["there"]

    async def reconnect() -> Provider:
        return connect()

    async def foreign() -> list[str]:
        return [str(stranger.pid)] if stranger.poll() is None else []

    def attempt(job: str, epoch: int) -> AttemptEnv:
        isolation = Isolation(check_ms=1_000, limit_ms=600_000, grace_ms=500)
        store = StoreRef(name="main", url=(folder / "store").as_uri())
        return an_attempt(job, epoch, store=store, isolation=isolation, command=("sleep", "600"))

    def small(cpus: int) -> Terms:
        return some_terms(workers=1, gpus_per_worker=0, accelerators=(), cpus=cpus)

    yield Subject(
        provider=connect(),
        terms=small(1),
        attempt=attempt,
        patience_s=30,
        poll_s=0.1,
        all_gpus=small(8),
        declined=small(9),
        rejected=lambda order: replace(order, cpus=9),
        foreign=foreign,
        reconnect=reconnect,
    )


def test_it_is_small() -> None:
    lines = [line for path in (EXAMPLE / "src").rglob("*.py") for line in path.read_text().splitlines()]
    assert len(lines) < 150
    assert f"one file of {len(lines)} lines" in (EXAMPLE / "README.md").read_text()


@pytest.mark.timeout(180)
async def test_it_keeps_every_promise_that_a_folder_can_break(subject: Subject) -> None:
    report = await check_provider(lambda: subject)
    assert not report.broken, str(report)
    assert {f.name for f in report.findings if f.verdict == "not judged"} == LEVERS_OF_A_SERVICE


@pytest.mark.timeout(120)
def test_a_job_lives_its_life_there(install: Install, folder: Path) -> None:
    install(EXAMPLE)
    file = one_provider(folder, "shed", {"folder": str(folder / "shed"), "cpus": 2})
    with real(folder, file) as server, Client(server.url, server.token) as client:
        job = client.submit(command_job(["python", "-c", "print('from the shed')"], folder=None))
        assert job.wait(timeout=90).state == "succeeded"
        assert "from the shed" in "".join(job.logs())
        assert [attempt.provider for attempt in job.refresh().attempts] == ["there"]


def test_what_its_readme_says_is_so(install: Install, tmp_path: Path) -> None:
    install(EXAMPLE)
    readme = (EXAMPLE / "README.md").read_text()
    text = readme.partition("<<'YAML'\n")[2].partition("YAML\n")[0].replace("/var/tmp", str(tmp_path))
    assert [*make_providers(load_providers(text), tools(), {})] == ["shed"]
    assert f"judges {len(PROMISES)} promises" in readme


def test_a_connection_that_makes_no_sense_is_the_operators(install: Install) -> None:
    install(EXAMPLE)
    with pytest.raises(Misconfigured, match=r"folder: /a/path.*mend providers.yaml"):
        providers("shed", "{cpus: many}")


# ---- what may be wrong with a package of a stranger ------------------------------------------------------------------


def package(at: Path, name: str, target: str, code: str = "") -> Path:
    """A package that offers the adapter `odd`."""
    (at / name / "src").mkdir(parents=True)
    (at / name / "src" / f"{name}.py").write_text(code)
    points = f'[project.entry-points."orchestrator.providers"]\nodd = "{target}"\n'
    (at / name / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "1"\n{points}')
    return at / name


@pytest.mark.parametrize(("target", "code", "said"), [
    ("odd_a:factory", "", "cannot be loaded: AttributeError"),
    ("odd_b:factory", "import nowhere", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
    ("odd_c:factory", "def factory(name): ...", "cannot be loaded: TypeError"),
    ("odd_d:factory", "def factory(*_): return object()", "makes no provider: it has no capabilities, place_offers"),
    ("odd_e:factory", "raise RuntimeError('no license')", "cannot be loaded: RuntimeError: no license"),
])  # fmt: skip
def test_a_package_that_does_not_work_is_named(
    install: Install, tmp_path: Path, target: str, code: str, said: str
) -> None:
    install(package(tmp_path / "made", target.partition(":")[0], target, code))
    with pytest.raises(DocumentError, match=r"spec\.providers\.there\.adapter: the adapter 'odd'") as refused:
        providers("odd")
    assert said in str(refused.value)


def test_two_packages_with_one_adapter_are_refused(install: Install, tmp_path: Path) -> None:
    for name in ("odd_f", "odd_g"):
        install(package(tmp_path / "made", name, f"{name}:factory"))
    with pytest.raises(DocumentError, match=r"is in odd_f and odd_g\. Uninstall all but one"):
        providers("odd")


def test_an_adapter_that_nobody_installed_is_refused_with_those_there_are(install: Install) -> None:
    install(EXAMPLE)
    with pytest.raises(DocumentError, match=r"no adapter 'barn'. Use one of: kubernetes, local, mock, shed"):
        providers("barn")
