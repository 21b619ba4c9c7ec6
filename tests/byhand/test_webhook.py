"""Webhooks as a supplier hears them, over real HTTP: signed, repeated, the same bytes, no word too much."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.adapters.byhand import ByHand, Webhook
from orchestrator.adapters.byhand.webhook import READ_S
from orchestrator.bootstrap import SystemClock, make_providers
from orchestrator.model.documents import DocumentError, load_providers
from orchestrator.model.offer import Receipt, Undelivered
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_offer
from orchestrator.testing.kit import check_provider
from orchestrator.testing.kit.report import Verdict
from orchestrator.testing.scripted import ScriptedProvider

SECRET = "a-secret-of-the-two-of-us"
NOW = 1_767_225_600


class Receiver:
    """A supplier's system: answers with what `replies` says, then 200."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.heard: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.heard.append((dict(self.headers.items()), body))
                status, said = receiver.replies.pop(0) if receiver.replies else (200, b"")
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/offers"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.end()


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text(SECRET + "\n")
    return f"file:{tmp_path / 'secret'}"


def provider(receiver: Receiver, secret: str) -> ByHand:
    webhook = Webhook(receiver.url, secret, lambda: NOW)
    webhook.pause_s = 0.01
    return ByHand(ScriptedProvider("azure"), webhook)


async def test_an_offer_is_told_signed_and_holds_its_allow_list_alone(receiver: Receiver, secret: str) -> None:
    offer = an_offer(clause="agreement/rofr")
    [receipt] = await provider(receiver, secret).place_offers([offer])
    assert receipt == offer.receipt(f"webhook:{offer.offer}")
    [(headers, body)] = receiver.heard
    made = hmac.new(SECRET.encode(), f"{NOW}.".encode() + body, hashlib.sha256).hexdigest()
    assert (headers["Orchestrator-Timestamp"], headers["Orchestrator-Signature"]) == (str(NOW), f"v1={made}")
    told = json.loads(body)
    assert told["what"] == "offer" and hashlib.sha256(told["offer"]["terms"].encode()).hexdigest() == offer.terms_hash
    assert set(told["offer"]) == {
        "offer", "clause", "contractVersion", "version", "workload", "trigger", "terms", "termsHash", "windowUs",
        "ledgerHead", "ordinal",
    }  # fmt: skip


async def test_what_the_receiver_echoes_is_what_the_receipt_says(receiver: Receiver, secret: str) -> None:
    receiver.replies = [(200, b'{"ordinal": 9, "ledgerHead": "ab"}')]
    [receipt] = await provider(receiver, secret).place_offers([an_offer()])
    assert isinstance(receipt, Receipt) and (receipt.ordinal, receipt.ledger_head) == (9, "ab")


HEAD = b'{"ordinal": 1, "ledgerHead": '
HOSTILE = {
    "number-without-end": b'{"ordinal": 1e999, "ledgerHead": ""}', "long-number": b'{"ordinal": ' + b"9" * 5000 + b"}",
    "more-than-64-bits": b'{"ordinal": 9223372036854775808, "ledgerHead": ""}', "below-zero": HEAD[:12] + b"-1}",
    "deep": b"[" * 60_000, "deep-inside": b'{"a": ' * 10_000, "half-a-character": HEAD + b'"\\ud800"}',
    "not-utf8": HEAD + b'"\xff"}', "long-head": HEAD + b'"' + b"a" * 65 + b'"}', "no-hash": HEAD + b'"<script>"}',
    "nothing": b"null", "text": HEAD[:12] + b'"1", "ledgerHead": ""}', "too-long": HEAD + b'""}' + b" " * 65_536,
}  # fmt: skip


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
async def test_an_acknowledgement_that_echoes_nonsense_acknowledges_and_echoes_nothing(
    receiver: Receiver, secret: str, said: bytes
) -> None:
    receiver.replies = [(200, said)]
    offer = an_offer()
    assert await provider(receiver, secret).place_offers([offer]) == [offer.receipt(f"webhook:{offer.offer}")]


async def test_of_an_acknowledgement_without_end_no_more_is_read_than_an_echo_has(secret: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 8192
            yield b" " * 8192

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
    azure = ByHand(ScriptedProvider("azure"), Webhook("https://a.example/o", secret, lambda: NOW, transport))
    assert isinstance((await azure.place_offers([an_offer()]))[0], Receipt) and sent < 100_000


@pytest.mark.looptime
async def test_a_body_that_only_drips_acknowledges_after_a_while(secret: str) -> None:
    async def drips() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(9)
            yield b" "

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=drips()))
    azure = ByHand(ScriptedProvider("azure"), Webhook("https://a.example/o", secret, lambda: NOW, transport))
    began = asyncio.get_running_loop().time()
    assert isinstance((await azure.place_offers([an_offer()]))[0], Receipt)
    assert asyncio.get_running_loop().time() - began == pytest.approx(READ_S)


async def test_an_address_that_is_a_secret_is_read_where_it_lies(
    receiver: Receiver, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure = ByHand(ScriptedProvider("azure"), Webhook("env:AZURE_HOOK", secret, lambda: NOW))
    [reply] = await azure.place_offers([an_offer()])
    assert isinstance(reply, Undelivered) and "AZURE_HOOK is empty" in reply.why
    monkeypatch.setenv("AZURE_HOOK", receiver.url)
    assert isinstance((await azure.place_offers([an_offer()]))[0], Receipt) and not await azure.check()


async def test_a_secret_that_is_no_text_is_undelivered_with_a_remedy(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe")
    azure = provider(receiver, f"file:{tmp_path / 'secret'}")
    [reply] = await azure.place_offers([an_offer()])
    assert (
        isinstance(reply, Undelivered) and "UTF-8" in reply.why and any("UTF-8" in line for line in await azure.check())
    )


async def test_a_busy_receiver_is_told_again_with_the_same_bytes(receiver: Receiver, secret: str) -> None:
    receiver.replies = [(503, b""), (429, b"")]
    [receipt] = await provider(receiver, secret).place_offers([an_offer()])
    assert isinstance(receipt, Receipt)
    assert len(receiver.heard) == 3 and len({body for _, body in receiver.heard}) == 1


@pytest.mark.parametrize(("replies", "calls"), [([(404, b"")], 1), ([(500, b"")] * 3, 3)])
async def test_what_is_not_acknowledged_is_undelivered(
    receiver: Receiver, secret: str, replies: list[tuple[int, bytes]], calls: int
) -> None:
    receiver.replies = list(replies)
    [reply] = await provider(receiver, secret).place_offers([an_offer()])
    assert isinstance(reply, Undelivered) and str(replies[0][0]) in reply.why and len(receiver.heard) == calls


async def test_a_withdrawal_is_told_until_it_is_acknowledged(receiver: Receiver, secret: str) -> None:
    azure = provider(receiver, secret)
    receiver.replies = [(400, b"")]
    assert list(await azure.withdraw(["j-o1"])) == []
    await asyncio.sleep(1.1)
    assert list(await azure.withdraw(["j-o1"])) == ["j-o1"]
    assert json.loads(receiver.heard[-1][1]) == {"what": "withdrawn", "offer": {"offer": "j-o1"}}


@pytest.mark.looptime
async def test_a_webhook_that_refuses_is_spared_for_longer_and_longer(secret: str) -> None:
    heard: list[int] = []

    def refuse(_: httpx.Request) -> httpx.Response:
        heard.append(round(asyncio.get_running_loop().time()))
        return httpx.Response(400)

    azure = ByHand(
        ScriptedProvider("azure"), Webhook("https://a.example/o", secret, lambda: NOW, httpx.MockTransport(refuse))
    )
    for _ in range(20):
        assert list(await azure.withdraw(["j-o1"])) == []
        await asyncio.sleep(1)
    assert [at - heard[0] for at in heard] == [0, 1, 3, 7, 15]


async def test_nobody_there_and_no_secret_are_undelivered_and_the_check_says_what_to_do(tmp_path: Path) -> None:
    webhook = Webhook("http://127.0.0.1:9/offers", f"file:{tmp_path / 'none'}", lambda: NOW)
    azure = ByHand(ScriptedProvider("azure"), webhook)
    [reply] = await azure.place_offers([an_offer()])
    assert isinstance(reply, Undelivered) and "cannot be read" in reply.why
    assert any("write it" in line for line in await azure.check())
    (tmp_path / "none").write_text(SECRET)
    webhook.pause_s = 0.01
    [reply] = await azure.place_offers([an_offer()])
    assert isinstance(reply, Undelivered) and "no reply" in reply.why and SECRET not in reply.why


DOCUMENT = """
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {{name: hand}}
spec:
  providers:
    azure:
      adapter: scripted
      {answers}
      regions: {{eu-1: EU}}
      operatorJurisdiction: US
      seal: 2
      accelerators: {{H100: 1}}
"""


def tools() -> Tools:
    return Tools(runtime=None, clock=SystemClock(), ledger="l")  # type: ignore[arg-type]


def test_the_providers_file_says_who_answers_by_hand() -> None:
    operators = load_providers(
        DOCUMENT.format(answers="answers: by_hand\n      webhook: {url: 'https://a.example/o', secret: env:A}")
    )
    made = make_providers(operators, tools(), {"scripted": lambda name, _, __: ScriptedProvider(name)})
    assert isinstance(made["azure"], ByHand)
    plain = load_providers(DOCUMENT.format(answers="seal: 1").replace("seal: 1\n", "\n"))
    assert isinstance(
        make_providers(plain, tools(), {"scripted": lambda name, _, __: ScriptedProvider(name)})["azure"],
        ScriptedProvider,
    )


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ("answers: sometimes", "answers"),
        ("webhook: {url: 'https://a.example/o', secret: env:A}", "answers by hand"),
        ("answers: by_hand\n      webhook: {url: 'https://a.example/o', secret: open-text}", "secret"),
        ("answers: by_hand\n      connection: {queue: gpus}", "reserves nothing"),
        ("answers: by_hand\n      webhook: {url: 'ftp://a.example/o', secret: env:A}", "url"),
        ("answers: by_hand\n      webhook: {url: 'https://me:hunter2@a.example/o', secret: env:A}", "holds a password"),
    ],
)
def test_what_makes_no_sense_is_refused_at_load(answers: str, words: str) -> None:
    with pytest.raises(DocumentError) as refused:
        load_providers(DOCUMENT.format(answers=answers))
    assert words in str(refused.value) and "hunter2" not in str(refused.value)


@pytest.mark.looptime
async def test_it_keeps_the_promises_that_need_no_answer() -> None:
    names = ["capabilities_constant", "empty_batches", "long_poll_bounded", "check_says_remedies"]
    report = await check_provider(lambda: ByHand(ScriptedProvider("azure")), only=names, seed=1)
    assert set(report.names(Verdict.KEPT)) == set(names), str(report)
