"""Does an exported ledger hold, and does it agree with what a provider has kept? One file, standard library only.

For whoever does not trust the ledger's owner: copy this file, read it, run `python verify.py EXPORT --receipts MINE`.

  event n   body hash = sha256(salt + body); chain n = sha256(chain n-1 + u64 seq + u64 µs + lp(kind) + lp(project) +
            lp(job) + body hash); lp(x) = u16 length + UTF-8; chain 0 = sha256("orchestrator.dev/ledger/v1" + ledger id)
  any line  ends with "sum": 16 digits of the sha256 of the line without it, so that damage is named by its line
  receipts  a provider's own JSON lines: {"line": "offer", …} as it came, later {"line": "answer" | "withdrawn", …}
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FORMAT, CLOSING_POLL, HIDDEN = "orchestrator.dev/audit/v1", 60_000_000, -1  # µs of a closing poll; an offer redacted
# fmt: off
CHECKS = {
    "lines": "every line is as it was written, and none is missing",
    "chain": "numbers are dense, time is monotone, each body is behind its hash, each hash is in the chain",
    "digests": "each document is behind its digest, and none that is cited is missing",
    "order": "offers are dense per job, one at a time, answered once; attempts use accepted offers and passed gates",
    "windows": "no silence was taken for an answer before its window was over; our own absence does not count",
    "terms": "answers name the terms that were offered, by the version in force, at no price over the ceiling",
    "offers": "what left us is what the ledger says: dense ordinals, heads of this chain, receipts that echo both",
    "receipts": "a provider's own receipts and the ledger tell the same: no gap, no rewrite, no omission",
}
HELP = f"""Check an exported ledger without trusting whoever exported it:
{chr(10).join(f"  {name:<9} {words}" for name, words in CHECKS.items())}

A provider finds a rewritten ledger by its own receipts; without them only the chain speaks:
  orchestrator audit export --for azure -o ledger.jsonl        # the owner; bodies that are not azure's are redacted
  orchestrator-verify ledger.jsonl --receipts receipts.jsonl   # azure

Exit codes: 0 it holds · 1 it does not, findings are listed · 2 usage · 3 --strict, and something was not checked"""
CITED, CHAINED = ("spec", "shape", "terms", "digest", "next"), ("kind", "project", "job", "salt", "body_hash", "chain")
FIELDS: dict[str, dict[str, Any]] = {
    "header": {"ledger": str, "format": str}, "end": {"events": int, "head": str}, "row": {}, "counter": {},
    "event": {"seq": int, "at": int, "body": (str, type(None)), **dict.fromkeys(CHAINED, str)},
    "spec": {"digest": str, "text": str}, "answer": {"offer": str, "at": int, "accepted": bool},
    "withdrawn": {"offer": str}, "offer": {**dict.fromkeys(("ordinal", "windowUs", "at"), int),
        **dict.fromkeys(("offer", "ledgerHead", "workload", "terms", "termsHash"), str)}}
SAME = {"ordinal": ("ordinal", 0), "ledgerHead": ("head", ""), "contractVersion": ("contract", 0),
        "clause": ("clause", ""), "termsHash": ("terms", ""), "windowUs": ("window", 0), "version": ("version", 1),
        "trigger": ("trigger", "new")}  # fields of a receipt → of the offer in the ledger, and what it is if not said
ENDS: dict[str, Any] = {**dict.fromkeys(("accepted", "accept_failed"), ("OfferAnswered", "accepted", True)),
    "lapsed": ("OfferLapsed", "how", "silence"), "undeliverable": ("OfferLapsed", "how", "undeliverable"),
    "declined": ("OfferAnswered", "accepted", False), "split": ("Split", "kind", "Split"),
}  # by what a gate was passed → the event that says so; by anything else: not checked here
ALLOWED = ("offer", "clause", "contract_version", "version", "workload", "trigger", "terms", "terms_hash", "window_us",
           "ledger_head", "ordinal")
NO_YES = ("counter", "price", "region", "spec")  # a yes to something else than was offered is no yes
RECEIPTS, CLOSING = ("offer", "answer", "withdrawn"), ("OfferAnswered", "OfferLapsed", "OfferWithdrawn")
Body = dict[str, Any]
# fmt: on


class Event(NamedTuple):
    """One event; its body is None where it is redacted or cannot be read; `where` is for people."""

    seq: int
    at: int
    kind: str
    job: str
    body: Body | None
    where: str


class Verifier:
    """One export, in three parts: `read`, `judge_events`, `compare`. `findings` are (check, where, words)."""

    def __init__(self) -> None:
        self.findings, self.events = list[tuple[str, str, str]](), list[Event]()
        self.head, self._proven, self.heads = b"", False, dict[str, int]()  # chain → number of its event; 0: beginning
        self.documents, self.classes = dict[str, str](), dict[str, str]()  # digest → text; offer → class
        self.checked, self.unchecked, self.hidden, self._open, self._last = (Counter[str]() for _ in range(5))
        self.kinds: dict[tuple[str, str], list[Event]] = defaultdict(list)

    def judge(self, check: str, holds: object, where: str, words: str, maybe: object = False) -> bool:
        """Count one thing; `words` say what is wrong where it does not hold; `maybe`: what is hidden may mend that."""
        (self.checked if holds or not maybe else self.unchecked)[check] += 1
        self.findings += [] if holds or maybe else [(check, where, words)]
        return bool(holds)

    def attempt(self, check: str, where: str, judged: Callable[..., None], *given: Any) -> None:
        """Judge what may lack something: whoever wrote this file may be no friend of whoever reads it."""
        try:
            judged(*given)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            self.judge(check, False, where, f"something is missing in it, or of another kind ({error!r})")

    def of(self, job: str, kind: str, before: int = 1 << 64, /, **named: Any) -> Iterator[tuple[Event, Body]]:
        """A job's readable events of one kind, earlier than event `before`, in which these fields have these values."""
        for e in self.kinds[job, kind]:
            if e.body is not None and e.seq < before and all(e.body.get(k) == v for k, v in named.items()):
                yield e, e.body

    def read(self, data: bytes) -> None:
        """First the file: lines, chain, documents."""
        raws = data.removesuffix(b"\n").split(b"\n")
        last = f"line {len(raws)}"
        self.judge("lines", data.endswith(b"\n"), last, "the file is cut: its last line has no end")
        lines = [(f"line {n}", line) for n, raw in enumerate(raws, 1) if (line := self._line(f"line {n}", raw))]
        header, end = (lines[0][1], lines[-1][1]) if lines else ({}, {})
        self.judge("lines", header.get("format") == FORMAT, "line 1", f"it is no header of {FORMAT}")
        self.head = hashlib.sha256(b"orchestrator.dev/ledger/v1" + _raw(header.get("ledger", ""))).digest()
        self.heads[self.head.hex()] = 0
        for where, line in lines:
            if line["line"] == "event":
                self._event(where, line)
            elif line["line"] == "spec":
                self.documents[line["digest"]] = line["text"]
                self.judge("digests", _sha(line["text"]) == line["digest"], where, "its text has another hash")
        whole = end.get("line") == "end" and end["events"] == len(self.events)
        self.judge("lines", whole, last, f"it does not say that there are {len(self.events)} events: the file is cut")
        self.judge("chain", end.get("head") == self.head.hex(), last, "the head is not the chain of the last event")
        for e in self.events:
            for digest in (x for name in CITED if isinstance(x := (e.body or {}).get(name), str) and len(x) == 64):
                self.judge("digests", digest in self.documents, e.where, f"document {digest} is missing", self.hidden)

    def _line(self, where: str, raw: bytes) -> Body | None:
        whole = raw[-26:] == b',"sum":"' + _sha(raw[:-26] + b"}")[:16].encode() + b'"}'
        line = _object(raw, FIELDS)
        self.judge("lines", whole and line, where, f"it {'is no line of an export' if line is None else 'was changed'}")
        return line

    def _event(self, where: str, line: Body) -> None:
        """One event after the one before it; the chain goes on as it states it, so that one change is one finding."""
        text, last = line["body"], self.events[-1] if self.events else Event(0, 0, "", "", None, "")
        body = told if (told := _object(text or "")) and told.get("kind") == line["kind"] else None
        where += f", event {line['seq']} ({line['kind']}{' of job ' + line['job'] if line['job'] else ''})"
        e = Event(line["seq"], line["at"], line["kind"], line["job"], body, where)
        self.judge("chain", e.seq == last.seq + 1 and e.at >= last.at, where, f"it does not follow event {last.seq}")
        self.hidden.update([e.job] * (text is None))
        good = body is not None and _sha(_raw(line["salt"]) + _utf8(text or "")) == line["body_hash"]
        self.judge("chain", good, where, "its body is not the one that was hashed", text is None)
        numbers = struct.pack(">QQ", e.seq, e.at) if min(e.seq, e.at) >= 0 and max(e.seq, e.at) < 1 << 64 else b""
        names = b"".join(struct.pack(">H", len(raw)) + raw for raw in (_utf8(line[x])[:65535] for x in CHAINED[:3]))
        made = hashlib.sha256(self.head + numbers + names + _raw(line["body_hash"])).hexdigest()
        self.judge("chain", made == line["chain"], where, "the chain breaks here")
        self.events.append(e)
        self.kinds[e.job, e.kind].append(e)
        self.head, self.heads[line["chain"]] = _raw(line["chain"]), e.seq

    def judge_events(self) -> None:
        """Then what the ledger says of itself: each event is judged by those before it."""
        judged = {"OfferOpened": self._opened, "OfferDelivered": self._delivered, "OfferAnswered": self._answered,
                  "OfferLapsed": self._lapsed, "Intended": self._intended}  # fmt: skip
        for e in self.events:
            if e.kind in judged and e.body is not None:
                self.attempt("order", e.where, judged[e.kind], e, e.body)
            self.unchecked["order"] += e.kind in judged and e.body is None
            if e.kind in ("OfferOpened", *CLOSING):
                self._open[e.job] = 0 if e.kind in CLOSING else (e.body or {"n": HIDDEN}).get("n", 0)

    def _opened(self, e: Event, offer: Body) -> None:
        for kind, cited in (("ContractInForce", offer["contract"]), ("ProvidersInForce", offer["providers"])):
            newest = max((body["n"] for _, body in self.of("", kind, e.seq)), default=0)
            self.judge("terms", cited == newest, e.where, f"it cites {kind} {cited}, but {newest} was in force")
        last, at, since = max(((o["n"], x.at, x.seq) for x, o in self.of(e.job, e.kind, e.seq)), default=(0, 0, 0))
        lost = sum(body.get("lost", 0) for x, body in self.of("", "Restored", e.seq) if at < x.at)  # of a backup
        between = sum(x.body is None and since < x.seq < e.seq for x in self.kinds[e.job, e.kind])
        left, unused = offer["n"] - last - 1 - between, offer.get("unused", 0)
        dense = unused <= left <= lost and (between or left == unused) and not self._open[e.job]
        words = f"offer {offer['n']} follows offer {last}, and {'one' if self._open[e.job] else 'none'} is open"
        self.judge("order", dense, e.where, words)
        self._proven = self._proven or bool(offer.get("head"))
        earlier = not self._proven or self.heads.get(offer.get("head", ""), e.seq) < e.seq
        self.judge("offers", earlier, e.where, "it took a head along that this ledger never had")
        last = self._last[offer["provider"]]
        ordinal = self._last[offer["provider"]] = offer.get("ordinal", 0) if self._proven else last + 1
        maybe = ordinal > last + 1 and any(x.kind == e.kind and x.body is None for x in self.events)
        self.unchecked["offers"] += not self._proven
        words = f"it is number {ordinal} to {offer['provider']}, after number {last}"
        self.judge("offers", ordinal == last + 1, e.where, words, maybe)

    def _delivered(self, e: Event, receipt: Body) -> None:
        n, opened = receipt["n"], next(self.of(e.job, "OfferOpened", e.seq, n=receipt["n"]), None)
        self.judge("order", opened, e.where, f"offer {n} was never opened", self._open[e.job] == HIDDEN)
        self.judge("offers", receipt.get("echo") is None, e.where, "its receipt echoes another offer")
        if opened is None or not receipt["sent"] or not opened[1].get("head"):
            return
        name, offer = f"{e.job}-o{n}", opened[1]
        job_class, terms = self._class(e.job, name, opened[0].seq), self.documents.get(offer["terms"])
        sent = None if job_class is None or terms is None else _sent(name, job_class, terms, offer)
        self.judge("offers", sent == receipt["sent"], e.where, "other bytes left us", sent is None)

    def _class(self, job: str, offer: str, before: int) -> str | None:
        """As submitted, or as an attester had recorded; else as a receipt tells. None: nobody does."""
        told = [json.loads(self.documents.get(x["shape"], "{}")).get("job_class") for _, x in self.of(job, "Submitted")]
        maybe = {"record": {"what": "class", "job": job}}  # what is redacted may be about this job
        records = [(x.body or maybe)["record"] for x in self.kinds["", "Recorded"] if x.seq < before]
        told += [r.get("name") for r in records if r["what"] == "class" and r.get("job") in self._past(job, before)]
        return next(reversed(told), None) or self.classes.get(offer)

    def _answered(self, e: Event, answer: Body) -> None:
        begun = [told.at for told, _ in self.of(e.job, "OfferDelivered", e.seq, n=answer["n"])]
        if (offer := self._close(e, n := answer["n"], bool(begun))) is None or not answer["accepted"]:
            return
        self.judge("terms", answer.get("terms") == offer["terms"], e.where, "the yes names other terms than offered")
        terms, took = json.loads(self.documents.get(offer["terms"], "{}")), answer.get("workers") or 0
        self.unchecked["terms"] += not terms
        ceiling, price, least = terms.get("ceilingMicrousd"), answer.get("price") or 0, terms.get("minWorkers", took)
        fits = (asked := terms.get("workers", took)) >= took >= least and (ceiling is None or price <= ceiling)
        self.judge("terms", fits, e.where, f"{price} µ$ over a ceiling of {ceiling} µ$, or {took} workers out of range")
        for _, cut in self.of(e.job, "Split", n=n):
            parts = terms.get("divisible") and cut["workers"] == took and asked == offer.get("most", took + cut["left"])
            self.judge("order", parts, e.where, f"{cut['workers']} and {cut['left']} workers are no parts of this yes")
        since, most = min(begun, default=e.at), offer["window"] + CLOSING_POLL  # a closing poll that failed is repeated
        present = min(e.at, answer.get("provider_at") or e.at) - since - self._absent(e.seq, since, e.at)
        in_time = present <= most or any(self.of(e.job, "DeliveryFailed", n=n))
        self.judge("windows", in_time, e.where, f"the yes came {present - most} µs too late")

    def _lapsed(self, e: Event, lapse: Body) -> None:
        n, silent = lapse["n"], lapse["how"] == "silence"
        if (offer := self._close(e, n)) is None:
            return
        told = [x for x, _ in self.of(e.job, "OfferDelivered", e.seq, n=n)]
        begins = [0, *(x.seq for x in told), *(x.seq for x, _ in self.of(e.job, "DeliveryFailed", n=n, unheard=True))]
        failed = [x for x, _ in self.of(e.job, "DeliveryFailed", e.seq, n=n) if max(begins) < x.seq]
        limits = [(e.seq, failed, e.at, offer.get("undeliverable")), (e.seq, told, lapse["deadline"], offer["window"])]
        polls = failed[:1] if told and not silent else []  # a closing poll, which is sent when the window is over
        for before, begun, until, needed in [limits[silent], *((x.seq, told, x.at, offer["window"]) for x in polls)]:
            present = until - (since := begun[0].at if begun else until) - self._absent(before, since, until)
            words = f"offer {n} to {offer['provider']} lapsed ({lapse['how']}) after {present} of {needed} µs"
            self.judge("windows", needed is not None and present >= needed, e.where, words)
        self.judge("windows", not silent or until <= lapse["polled_at"] <= e.at, e.where, "not after its closing poll")

    def _close(self, e: Event, n: int, told: bool = True) -> Body | None:
        """The offer that ends here, where that can be judged."""
        ends, words = self._open[e.job] == n and told, f"offer {n} ends, and was not open or not delivered"
        maybe = not told and any(x.body is None for x in self.kinds[e.job, "OfferDelivered"])
        self.judge("order", ends, e.where, words, maybe or self._open[e.job] == HIDDEN)
        return next((body for _, body in self.of(e.job, "OfferOpened", e.seq, n=n)), None)

    def _intended(self, e: Event, made: Body) -> None:
        past = self._past(e.job, e.seq)
        for clause, holder, by, offer in ((None, made["provider"], "accepted", made["offer"]), *made.get("gates", ())):
            job, _, n = offer.rpartition("-o") if isinstance(offer, str) else (e.job, "", offer)
            if by not in ENDS or self.hidden[e.job] or (job != e.job and self.hidden):
                self.unchecked["order"] += 1
                continue
            needed, before = (("OfferOpened", "provider", holder), ENDS[by]), past.get(job, 0)
            told = (any(self.of(job, kind, before, **{"n": int(n), name: value})) for kind, name, value in needed)
            words = f"epoch {made['epoch']}{' passes ' + clause if clause else ''}: {holder} never {by} offer {offer}"
            self.judge("order", all(told), e.where, words)

    def _past(self, job: str, before: int) -> dict[str, int]:
        """The job, and those that it was left of when they were split: each with the event before which that was."""
        past = {job: before}
        while came := next(self.of(job, "Submitted", before), None):
            offer, before, child = str((came[1].get("rest") or {}).get("offer")), came[0].seq, job
            job = offer.rpartition("-o")[0]
            if offer not in [f"{job}-o{cut['n']}" for _, cut in self.of(job, "Split", before, rest=child)]:
                break
            past[job] = before
        return past

    def _absent(self, before: int, since: int, until: int) -> int:
        """Microseconds between two moments in which nobody led, as far as the ledger knew before event `before`."""
        total, reached, known = 0, 0, self.of("", "ControllerAbsent", before)
        for a, b in sorted((max(body["since"], since), min(body["until"], until)) for _, body in known):
            total, reached = total + max(0, b - max(a, reached)), max(reached, b)
        return total

    def take(self, data: bytes) -> tuple[dict[str, Body], dict[str, Body]]:
        """A provider's receipts: (offer → receipt, offer → its answer)."""
        offers, ends = dict[str, Body](), dict[str, Body]()
        for n, raw in enumerate(data.splitlines(), 1):
            line = _object(raw, FIELDS) or {"line": ""}
            if self.judge("receipts", line["line"] in RECEIPTS, f"receipts line {n}", "it is no receipt"):
                {"offer": offers, "answer": ends}.get(line["line"], {}).setdefault(line["offer"], line)
        self.classes = {offer: line["workload"] for offer, line in offers.items()}
        return offers, ends

    def compare(self, receipts: dict[str, Body], ends: dict[str, Body], provider: str | None) -> None:
        """Last the receipts: what only one of the two sides holds, and what they hold differently."""
        opened = {f"{e.job}-o{e.body.get('n')}": (e, e.body) for e in self.events if e.kind == "OfferOpened" and e.body}
        theirs = {str(opened[name][1].get("provider")) for name in receipts if name in opened}
        names = {provider} if provider else theirs
        words = f"they are of several providers: {sorted(theirs)}"
        self.judge("receipts", len(theirs | names) == 1 and theirs, "receipts", words, not theirs)
        for name, receipt in receipts.items():
            self.attempt("receipts", f"offer {name}", self._receipt, receipt, opened.get(name), ends.get(name, {}))
        numbers = Counter(receipt["ordinal"] for receipt in receipts.values())
        ours = {int(o.get("ordinal", 0)): (e, o) for e, o in opened.values() if o.get("provider") in names}
        last = 0
        for n in sorted(one for one in {*numbers, *ours} if one > 0):
            if n > last + 1:
                self.judge("receipts", False, f"ordinals {last + 1} to {n - 1}", "nobody has them", self.hidden)
            if n not in numbers:
                e, offer = ours[n]  # what is only laid out waits to be fetched
                left = [body["ref"] for _, body in self.of(e.job, "OfferDelivered", n=offer["n"]) if body["sent"]]
                words = f"offer {n} was delivered by the ledger's word, and there is no receipt of it"
                self.judge("receipts", all(ref.startswith("laid out:") for ref in left), e.where, words)
            else:
                self.judge("receipts", numbers[n] == 1, f"ordinal {n}", f"{numbers[n]} receipts have it")
            last = n

    def _receipt(self, receipt: Body, found: tuple[Event, Body] | None, end: Body) -> None:
        job, at = receipt["offer"].rpartition("-o")[0], f"receipt {receipt['ordinal']} (offer {receipt['offer']})"
        self.judge("receipts", receipt["ledgerHead"] in self.heads, at, "its head is of no event: it was rewritten")
        self.judge("receipts", _sha(receipt["terms"]) == receipt["termsHash"], at, "its terms have another hash")
        if not self.judge("receipts", found, at, "it was left out, or is hidden from whom it was made to") or not found:
            return
        (e, offer), n = found, found[1]["n"]
        other = [k for k, (own, usual) in SAME.items() if (receipt.get(k) or usual) != (offer.get(own) or usual)]
        self.judge("receipts", not other, at, f"the ledger has another {', '.join(other)} at {e.where}")
        made = _sent(receipt["offer"], receipt["workload"], receipt["terms"], offer)
        for told, body in self.of(job, "OfferDelivered", n=n):
            self.judge("receipts", body["sent"] in ("", made), at, f"other bytes left by the word of {told.where}")
        ends = [(x.body or {}).get("n") for kind in CLOSING for x in self.kinds[job, kind] if x.seq > e.seq]
        self.judge("receipts", None not in ends or n in ends, at, "its end is hidden from whom it was made to")
        answers, lapses, _, late = ([x for _, x in self.of(job, kind, n=n)] for kind in (*CLOSING, "LateAnswer"))
        self.unchecked["receipts"] += 0 if end else len(answers)  # whoever answers by hand need not keep that
        if end and lapses and not answers:  # whoever is asked by hand has its own time from when it first looks
            heard, by_hand = late and lapses[0]["how"] == "undeliverable", any(x.get("by") for x in late)
            words = "it was answered inside its window by the provider's clock, and the ledger holds no answer in time"
            self.judge("receipts", heard or end["at"] - receipt["at"] >= receipt["windowUs"], at, words, by_hand)
        for yes, why in ((x["accepted"], x.get("reason")) for x in answers + late if end):
            maybe = end.get("outcome") == "closed" or (why in NO_YES and not yes)  # another's was first, or to what?
            self.judge("receipts", yes == end["accepted"], at, "one side holds a yes, and the other a no", maybe)


def _sha(data: bytes | str) -> str:
    return hashlib.sha256(_utf8(data)).hexdigest()


def _utf8(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")


def _raw(text: object) -> bytes:
    return bytes.fromhex(text) if isinstance(text, str) and re.fullmatch("([0-9a-f]{2})*", text) else b""


def _object(raw: bytes | str, known: dict[str, dict[str, Any]] | None = None) -> Body | None:
    """A JSON object, of one of the `known` kinds of lines with all its fields; None for anything else."""
    try:
        found = json.loads(raw)
        kinds = known[found["line"]] if known else {}
        return found if isinstance(found, dict) and all(isinstance(found[n], k) for n, k in kinds.items()) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _sent(offer: str, job_class: str, terms: str, o: Body) -> str:
    """sha256 of an offer as it left: the allow-list in its order, terms in base64."""
    told = [offer, o.get("clause") or None, o["contract"], o.get("version", 1), job_class, o.get("trigger", "new")]
    told += [base64.b64encode(_utf8(terms)).decode(), o["terms"], o["window"], o.get("head", ""), o.get("ordinal", 0)]
    return _sha(json.dumps(dict(zip(ALLOWED, told, strict=True)), separators=(",", ":"), ensure_ascii=False))


def main(arguments: list[str] | None = None) -> int:
    """The command; gives its exit code."""
    parser = argparse.ArgumentParser("orchestrator-verify", formatter_class=argparse.RawTextHelpFormatter, epilog=HELP)
    parser.add_argument("export", type=Path, help="written by `orchestrator audit export`")
    parser.add_argument("--receipts", type=Path, help="JSON lines that a provider kept of the offers it was given")
    parser.add_argument("--provider", help="its name in the ledger; default: whose offers the receipts are of")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--strict", action="store_true", help="exit with 3 where something could not be checked")
    given = parser.parse_args(arguments)
    try:
        data, receipts = given.export.read_bytes(), given.receipts.read_bytes() if given.receipts else None
        (v := Verifier()).read(data)
        taken = None if receipts is None else v.take(receipts)
        v.judge_events()
        if taken is not None:
            v.attempt("receipts", "receipts", v.compare, *taken, given.provider)
        found = [dict(zip(("check", "where", "words"), one, strict=True)) for one in v.findings]
        checks = [{"check": c, "checked": v.checked[c], "unchecked": v.unchecked[c]} for c in CHECKS]
        verdict = {"verified": not found, "events": len(v.events), "head": v.head.hex()}
        print(json.dumps({**verdict, "checks": checks, "findings": found}) if given.json else _told(v), flush=True)
    except OSError as e:  # exit code 1 is for findings; and what standard output still holds is not tried again
        sys.stdout = sys.stderr
        parser.error(f"{e.filename or 'standard output'} cannot be {'read' if e.filename else 'written'}: {e.strerror}")
    return 1 if found else 3 if given.strict and (v.unchecked.total() or not v.checked["receipts"]) else 0


def _told(v: Verifier) -> str:
    wrong, lines = Counter(check for check, _, _ in v.findings), list[str]()
    for check, words in CHECKS.items():
        state = f"{wrong[check]} findings" if wrong[check] else "ok" if v.checked[check] else "not checked"
        left = f" · {v.unchecked[check]} not checked: redacted or not known here" if v.unchecked[check] else ""
        lines.append(f"{check:<9} checked {v.checked[check]:>7}  {state:<12} {words}{left}")
    counted = f"{len(v.events)} events, {len(v.findings)} findings"
    return "\n".join([*lines, *(repr(": ".join(one))[1:-1] for one in v.findings), f"head {v.head.hex()}", counted])


if __name__ == "__main__":
    sys.exit(main())
