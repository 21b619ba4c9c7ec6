"""What does the status of an object look like, field by field? Its schema in the CRDs is made from here.

Filled by `mirror` and `sets`. Conditions follow Kubernetes' conventions: a type is a fact, its status True, False
or Unknown, its reason one CamelCase word, `observedGeneration` the generation that it was judged by.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Text = Annotated[str, Field(max_length=4096)]


class Part(BaseModel):
    """Base of all parts of a status."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="ignore")


class Condition(Part):
    """One fact about the object, and since when."""

    type: Annotated[str, Field(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=1024)]
    message: Annotated[str, Field(max_length=32_768)] = ""
    last_transition_time: datetime
    observed_generation: int | None = None


Conditions = Annotated[list[Condition], Field(max_length=8)]


class JobStatus(Part):
    """Where the job of this object stands, as the server last said."""

    job: Text | None = Field(default=None, description="id of the job; `orchestrator job ID` shows it")
    state: Text | None = Field(
        default=None,
        description="as in `orchestrator jobs`; pending: not submitted yet; refused: it will not be submitted",
    )
    reason: Text | None = Field(default=None, description="why it is held, failed, pending or refused")
    message: Text | None = Field(default=None, description="one sentence on where it stands")
    provider: Text | None = Field(default=None, description="who has it, or is being asked now")
    region: Text | None = None
    attempt: int | None = Field(default=None, description="number of the newest attempt")
    step: int | None = Field(default=None, description="last step reported, looked up once a minute at most")
    checkpoint_step: int | None = None
    loss: Text | None = None
    machines: Text | None = Field(default=None, description="of a job that is over: ending, or gone")
    exit_code: int | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    told_until: datetime | None = Field(default=None, description="what happened until then was told as events")
    observed_generation: int | None = None
    conditions: Conditions = []


class ContractSetStatus(Part):
    """What is known of this contract set, and whether it is the one that decides."""

    digest: Text | None = Field(default=None, description="sha256 of the document, as `orchestrator contracts check`")
    in_force: Text | None = Field(default=None, description="True, False or Unknown")
    version: int | None = Field(default=None, description="number under which decisions cite it, while in force")
    reason: Text | None = None
    observed_generation: int | None = None
    applied_generation: int | None = Field(
        default=None, description="newest change of it that is settled: taken, refused or overtaken"
    )
    conditions: Conditions = []
