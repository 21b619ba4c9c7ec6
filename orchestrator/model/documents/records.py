"""What an attester sends to put something on record, and how a record is shown.

Called by the API, the SDK and `orchestrator record`. Each kind says what it needs; what it has no use for is refused,
so that nobody believes that it counts.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from orchestrator.model.documents.base import Document, load_data
from orchestrator.model.documents.capacity import End
from orchestrator.model.documents.cases import Moment
from orchestrator.model.documents.units import Flag, Integer, Text, Word, refuse
from orchestrator.model.ids import is_job_id
from orchestrator.model.record import Record, What


def _job_id(said: str) -> str:
    if not is_job_id(said.upper()):
        raise refuse("job_id", f"{said} is no job id", "`orchestrator jobs` lists them")
    return said.upper()


def _says_something(said: str) -> str:
    if not said.strip():
        raise refuse("empty", "it says nothing", "Name who or why")
    return said


Said = Annotated[Text, AfterValidator(_says_something)]
JobId = Annotated[Word, AfterValidator(_job_id)]
BlockRef = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9._-]{1,63}/[a-z0-9._-]{1,63}$")]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
_BLOCK = {"block", "to"}
_SUBJECT = {"project", "job", "job_class", "until", "clause"} | _BLOCK
_JOBS = {"project", "job", "job_class", "cited"}
_COMMON = {"what", "document", "approver", "why"}
NEEDS: dict[What, tuple[set[str], set[str]]] = {
    What.CONSENT: ({"holder"}, _SUBJECT),
    What.EVIDENCE: ({"name"}, _SUBJECT | {"cited"}),
    What.WAIVER: ({"holder", "gpus", "until"}, {"project", "job_class", "clause"} | _BLOCK),
    What.EVENT: ({"name"}, set()),
    What.CLASS: ({"name", "job"}, set()),
    What.OVERRIDE: ({"clause", "approver", "why"}, _SUBJECT),
}
"""kind → (what it needs, what it may have besides a paper, an approver and a reason)."""


class RecordDocument(Document):
    """One thing to put on record. What is left out of its subject is any."""

    what: What
    name: Word | None = None
    holder: Word | None = None
    clause: Word | None = None
    project: Word | None = None
    job: JobId | None = None
    block: BlockRef | None = None
    to: End | None = None
    job_class: tuple[Word, ...] = Field(default=(), alias="class")
    cited: Flag = False
    gpus: Annotated[Integer, Field(gt=0)] | None = None
    until: Moment | None = None
    document: Sha256 | None = None
    approver: Said | None = None
    why: Said | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> RecordDocument:
        needed, allowed = NEEDS[self.what]
        given = {name for name in type(self).model_fields if getattr(self, name) not in (None, (), False)}
        if missing := sorted(needed - given):
            raise refuse("incomplete", f"a record of kind {self.what.value} lacks {_names(missing)}", "Add it")
        if extra := sorted(given - needed - allowed - _COMMON):
            raise refuse("no_use", f"a record of kind {self.what.value} has no use for {_names(extra)}", "Leave it out")
        if len(given & _BLOCK) == 1:
            reason = "the prolonging of a block is named by block and to, the end that it is to have"
            raise refuse("incomplete", reason, "Give both")
        if self.block is not None and given & _JOBS:
            raise refuse("no_use", "a record about a block is about no job, whatever its class", "Leave that out")
        return self

    def record(self, by: str) -> Record:
        """The record, of this attester; its id and time are the ledger's."""
        return Record(
            id="",
            what=self.what.value,
            name=self.name or "",
            holder=self.holder or "",
            clause=self.clause or "",
            project=self.project or "",
            job=self.job or "",
            block=self.block or "",
            block_to=self.to,
            classes=self.job_class,
            cited=self.cited or self.block is not None,  # earlier versions know no blocks: to them, of no job
            gpus=self.gpus,
            until=self.until,
            document=self.document or "",
            approver=self.approver or "",
            why=self.why or "",
            by=by,
        )


def _names(fields: list[str]) -> str:
    return ", ".join("class" if name == "job_class" else name for name in fields)


def record_from(data: Any) -> RecordDocument:
    """A record from plain values; `DocumentError` with every problem."""
    return load_data(RecordDocument, data)
