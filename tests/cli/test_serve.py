"""`orchestrator serve` as a process: what it leaves for clients, how it ends, why it refuses to begin."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import Client, command_job
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock, load_documents, make_providers, notices, this_machine
from orchestrator.model.documents import load_contracts, load_providers
from orchestrator.ports.runtime import Tools
from orchestrator.sdk.errors import Invalid
from orchestrator.settings import load
from orchestrator.testing.scripted import ScriptedProvider
from tests.cli.conftest import Run
from tests.core.contract_worlds import contract, contract_set

UP_S = 40.0


def start(home: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "orchestrator.cli.main", "serve", "--port", "0", *arguments]
    given = {**os.environ, "ORCHESTRATOR_HOME": str(home), **environment}
    return subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True)


def wait_up(home: Path, process: subprocess.Popen[str]) -> str:
    end = time.monotonic() + UP_S
    while not (home / "server.json").exists():
        assert process.poll() is None and time.monotonic() < end, process.stderr and process.stderr.read()
        time.sleep(0.05)
    return str(json.loads((home / "server.json").read_text())["url"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "home"


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[str]:
    process = start(folder)
    try:
        yield wait_up(folder, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert not (folder / "server.json").exists()
    finally:
        process.kill()
        process.communicate()


def test_what_it_writes_is_its_owners_alone(running: str, folder: Path) -> None:
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in (".", "tokens.json", "server.json")}
    assert modes == {".": 0o700, "tokens.json": 0o600, "server.json": 0o600}
    token = json.loads((folder / "tokens.json").read_text())["tokens"][0]
    assert len(token["token"]) >= 43 and set(token["scopes"]) >= {"viewer", "submitter", "attester", "operator"}


def test_a_token_of_a_provider_that_is_not_there_is_named_at_the_start(tmp_path: Path) -> None:
    row = {"name": "sales", "token": "t" * 40, "scopes": ["provider"], "provider": "azzure"}
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": [row]}))
    (tmp_path / "tokens.json").chmod(0o600)
    process = start(tmp_path)
    try:
        wait_up(tmp_path, process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert "note: the token 'sales' is bound to 'azzure', which is none of the providers (local)" in " ".join(
        said.split()
    )


def test_it_listens_on_loopback_and_wants_the_token(running: str) -> None:
    assert running.startswith("http://127.0.0.1:")
    assert httpx.get(f"{running}/readyz").text == "ready\n"
    assert httpx.get(f"{running}/metrics").status_code == 401
    assert httpx.get(f"{running}/healthz", headers={"Host": "evil.example"}).status_code == 421


def test_a_client_finds_it_by_itself(running: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(folder))
    with Client() as client:
        assert [provider.name for provider in client.providers()] == ["local"]
        held = command_job(["python", "-c", "1"], folder=None, workers={"count": 1, "gpus": 8, "accelerator": ["H100"]})
        job = client.submit(held, key="once")
        assert client.submit(held, key="once").id == job.id
        assert job.refresh().document["spec"]["workers"]["gpus"] == 8
        assert job.cancel().state == "cancelled"
        assert next(job.events()).kind == "Submitted"


def test_a_policy_that_nobody_declared_is_refused(running: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(folder))
    with Client() as client, pytest.raises(Invalid, match=r"spec\.policy"):
        client.submit(command_job(["python", "-c", "1"], folder=None, policy="gentle"))


def test_metrics_are_prometheus_text(running: str, folder: Path) -> None:
    token = json.loads((folder / "tokens.json").read_text())["tokens"][0]["token"]
    reply = httpx.get(f"{running}/metrics", headers={"Authorization": f"Bearer {token}"})
    assert reply.status_code == 200 and "# TYPE orchestrator_" in reply.text


def test_a_second_server_on_the_same_ledger_is_refused(running: str, folder: Path) -> None:
    second = start(folder)
    said = second.communicate(timeout=UP_S)[1]
    assert second.returncode == 1 and "error:" in said and "Traceback" not in said
    assert httpx.get(f"{running}/healthz").status_code == 200
    assert json.loads((folder / "server.json").read_text())["url"] == running


def test_a_port_that_is_taken_is_named(running: str, cli: Run, home: Path) -> None:
    ran = cli("serve", "--port", running.rpartition(":")[2])
    assert ran.exit_code == 1 and "ORCHESTRATOR_PORT" in ran.stderr


def test_the_port_of_the_homes_own_server_is_known(running: str, folder: Path) -> None:
    second = start(folder, "--port", running.rpartition(":")[2])
    said = second.communicate(timeout=UP_S)[1]
    assert second.returncode == 1 and f"runs already, at {running} (pid " in said


def test_settings_that_make_no_sense_are_named(cli: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_POLICY__LIMIT", "15")
    monkeypatch.setenv("ORCHESTRATOR_LOG_LEVEL", "loud")
    ran = cli("serve", "--port", "0")
    assert ran.exit_code == 2
    assert "ORCHESTRATOR_POLICY__LIMIT" in ran.stderr and "ORCHESTRATOR_LOG_LEVEL" in ran.stderr


def test_documents_that_are_wrong_are_refused(cli: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "contracts.yaml").write_text(
        "apiVersion: orchestrator.dev/v1alpha1\nkind: ContractSet\nspec: {contrcts: []}\n"
    )
    ran = cli("serve", "--port", "0", "--contracts", str(tmp_path / "contracts.yaml"))
    assert ran.exit_code == 4 and "spec.contrcts" in ran.stderr


def test_a_connection_that_makes_no_sense_is_named(cli: Run, home: Path, tmp_path: Path) -> None:
    facts = {"regions": {"r": "EU"}, "operatorJurisdiction": "EU", "seal": 1, "accelerators": {"H100": 1}}
    cloud = {**facts, "adapter": "kubernetes", "connection": {"namespaze": "training"}}
    document = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "ProviderSet", "metadata": {"name": "p"}}
    (tmp_path / "p.json").write_text(json.dumps({**document, "spec": {"providers": {"a": cloud}}}))
    ended = cli("serve", "--providers", str(tmp_path / "p.json"))
    assert ended.exit_code == 2 and "namespaze" in ended.stderr and "Traceback" not in ended.stderr


def test_open_streams_do_not_keep_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(tmp_path / "home")
    try:
        wait_up(tmp_path / "home", process)
        monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
        with Client(waiting_patience_s=1) as client:
            next(client.events(follow=True))
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0
    finally:
        process.kill()
        process.communicate()


def free_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def test_a_follower_outlives_a_server_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, port = tmp_path / "home", free_port()
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))
    first = start(home, "--port", port)
    wait_up(home, first)
    with Client() as client:
        unplaceable = {"count": 1, "gpus": 8, "accelerator": ["H100"]}
        job = client.submit(command_job(["python", "-c", "1"], folder=None, workers=unplaceable))
        events = job.events(follow=True)
        seen = [next(events).kind]
        first.kill()
        first.communicate()
        (home / "server.json").unlink()
        second = start(home, "--port", port)
        try:
            wait_up(home, second)
            job.cancel()
            seen += [event.kind for event in events]
        finally:
            second.terminate()
            second.communicate()
    assert seen[0] == "Submitted" and seen[-1] == "Cancelled" and len(seen) == len(set(seen))


def test_a_home_that_cannot_be_used_is_named(cli: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = cli("serve", "--port", "0", "--home", str(tmp_path / "file"))
    assert ran.exit_code == 1 and f"home folder {tmp_path / 'file'} cannot be used" in ran.stderr


def test_a_host_that_is_not_ours_is_named(cli: Run, home: Path) -> None:
    ran = cli("serve", "--port", "0", "--host", "host.invalid")
    assert ran.exit_code == 1 and "let ORCHESTRATOR_HOST be an address of this machine" in ran.stderr


@pytest.mark.parametrize("store", ["banana", "s3://", "file://relative", "file:///proc/none/such"])
@pytest.mark.parametrize("command", [["serve", "--port", "0", "--store"], ["doctor", "store", "--url"]])
def test_a_store_that_makes_no_sense_is_named(cli: Run, home: Path, store: str, command: list[str]) -> None:
    ran = cli(*command, store)
    assert ran.exit_code in (1, 2) and "store" in ran.stderr and "Traceback" not in ran.stderr


def test_a_clause_that_is_not_enforced_yet_has_its_own_exit_code(cli: Run, home: Path, tmp_path: Path) -> None:
    contracts = tmp_path / "contracts.yaml"
    clause = "{id: z, type: precedence}"
    contracts.write_text(
        "apiVersion: orchestrator.dev/v1alpha1\nkind: ContractSet\nmetadata: {name: mine}\nspec: {contracts: ["
        f"{{id: a, holder: local, term: {{from: 2026-01-01, to: 2027-12-31}}, clauses: [{clause}]}}]}}\n"
    )
    ran = cli("serve", "--port", "0", "--contracts", str(contracts))
    assert ran.exit_code == 3 and f"{contracts} is refused" in ran.stderr
    assert "spec.contracts[0].clauses[0]: precedence of one supplier is not enforced" in ran.stderr


def test_a_home_with_odd_characters_is_a_home(tmp_path: Path) -> None:
    home = tmp_path / 'a "b" c\\d'
    process = start(home)
    try:
        assert wait_up(home, process)
    finally:
        process.kill()
        process.communicate()


def test_settings_that_decide_nothing_are_told(tmp_path: Path) -> None:
    """A misspelt ORCHESTRATOR_CONTRACTS would serve without a contract."""
    (tmp_path / "providers.yaml").write_text(
        "apiVersion: orchestrator.dev/v1alpha1\nkind: ProviderSet\nmetadata: {name: mine}\nspec: {providers: "
        "{here: {adapter: local, regions: {x: US}, operatorJurisdiction: US, seal: 1}}}\n"
    )
    given = {"ORCHESTRATOR_CONTRACT": "c.yaml", "ORCHESTRATOR_POLICY__GRACE": "9s", "ORCHESTRATOR_TOKEN": "x"}
    process = start(tmp_path / "home", "--providers", str(tmp_path / "providers.yaml"), **given)
    try:
        wait_up(tmp_path / "home", process)
    finally:
        process.terminate()
    said = process.communicate(timeout=UP_S)[1]
    assert "nothing reads ORCHESTRATOR_CONTRACT; is it misspelt?" in said and "ORCHESTRATOR_TOKEN" not in said
    assert "ORCHESTRATOR_POLICY__… is not read beside" in said


def test_warnings_of_the_contract_set_are_told(tmp_path: Path) -> None:
    settings = load(contracts=tmp_path / "c.yaml", home=tmp_path)
    contracts = load_contracts(contract_set(contract("type: exclusive, select: {class: [api]}")))
    told = list(notices(settings, contracts, this_machine(settings)))
    assert any("work of class api is left with azure" in line for line in told)
    assert any("c/k goes by class" in line and "spec.policies for default" in line for line in told)


@pytest.mark.parametrize("folder", ["orchestrator/demo", "examples/kubernetes"])
def test_the_demos_have_nothing_to_warn_of(folder: str, tmp_path: Path) -> None:
    files = {name: Path(__file__).parents[2] / folder / f"{name}.yaml" for name in ("contracts", "providers")}
    settings = load(**files, home=tmp_path, store="s3://runs")
    assert list(notices(settings, *load_documents(settings))) == []


def test_a_webhook_whose_secret_is_nowhere_is_told_at_the_start(tmp_path: Path) -> None:
    hooked = {"answers": "by_hand", "webhook": {"url": "https://azure.example/offers", "secret": "env:NOT_THERE"}}
    stated = {"adapter": "local", "regions": {"eu": "EU"}, "operatorJurisdiction": "EU", "seal": 1, **hooked}
    head = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "ProviderSet", "metadata": {"name": "one"}}
    operators = load_providers(json.dumps(head | {"spec": {"providers": {"azure": stated}}}))
    told = list(notices(load(home=tmp_path), None, operators))
    assert any(line.startswith("no offer reaches azure: ") and "env:NOT_THERE" in line for line in told)


def test_an_adapter_is_handed_its_own_price_book_the_cheapest_row_of_each_accelerator() -> None:
    rows = (("H100", "3.50"), ("H100", "2.49"), ("A100", "1.10"))
    book = [{"accelerator": kind, "usdPerGpuHour": usd, "source": "here", "date": "2026-03-01"} for kind, usd in rows]
    stated = {"adapter": "told", "regions": {"eu-1": "EU"}, "operatorJurisdiction": "EU", "seal": 1}
    stated |= {"accelerators": {"H100": 1, "A100": 0.4}}
    both = {"a": stated | {"prices": book}, "b": stated}
    head = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "ProviderSet", "metadata": {"name": "two"}}
    document = json.dumps(head | {"spec": {"providers": both}})
    handed: dict[str, Tools] = {}

    def factory(name: str, connection: Mapping[str, Any], tools: Tools) -> ScriptedProvider:
        handed[name] = tools
        return ScriptedProvider(name)

    tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="l")
    made = make_providers(load_providers(document), tools, {"told": factory})
    assert [*made] == ["a", "b"]
    assert handed["a"].prices == {"H100": 2_490_000, "A100": 1_100_000} and handed["b"].prices == {}
