"""Was a class that its submitter only claims taken for more than its policy lets it be? Sentence 41 (R20)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from orchestrator.core.audit.history import History, Unreadable
from orchestrator.core.audit.lives import Life
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.model import event as ev
from orchestrator.model.contract import Classification


class _Spec(Struct, frozen=True):
    policy: str = "default"


class _Document(Struct, frozen=True):
    """The one part of a job's document that says how it is classified."""

    spec: _Spec = _Spec()


@of_job(41, "A job whose class is only claimed is decided as its policy says, until an attester has recorded it.")
def claims_are_no_more(life: Life, history: History, judge: Judge) -> None:
    """It came in as its policy wants it, and nobody was asked while its class had to be recorded first."""
    for seen, submitted in life.of(ev.Submitted):
        if submitted.rest is not None:
            continue  # of the class of what it was left of, which sentence 42 says
        policies = {p.name: p for p in history.providers(history.providers_at(seen.seq)).policies}
        policy = policies.get(_policy(history, submitted))
        claimed = policy is None or policy.classification is Classification.CLAIMED
        wanted = "" if policy is None or claimed else policy.classification.value
        said = history.shape(life).unsettled
        words = f"it is decided as {said or 'claimed'}, its policy says {wanted or 'claimed'}"
        judge(said == wanted, life.job, seen.seq, words)
    for seen, opened in life.of(ev.OfferOpened):
        words = f"{opened.provider} was asked, and its class was not recorded"
        judge(not history.rules(life, opened, seen).unsettled, life.job, seen.seq, words)


def _policy(history: History, submitted: ev.Submitted) -> str:
    try:
        return _documents.decode(history.document(submitted.spec)).spec.policy
    except msgspec.DecodeError as wrong:
        raise Unreadable(f"the job's document {submitted.spec[:12]} cannot be read: {wrong}") from wrong


_documents = msgspec.json.Decoder(_Document)
