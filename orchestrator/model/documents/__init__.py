"""Where do documents come in? The YAML and HTTP edge: TrainingJob, ContractSet, ProviderSet, case files.

The only place of pydantic. Loaders refuse with every problem at once (`DocumentError`); `compile_…` make
the frozen structs that decisions read. Core and the planner never import this package.
"""

from orchestrator.model.documents.base import canonical_bytes, digest
from orchestrator.model.documents.compile import (
    compile_contracts,
    compile_providers,
    disagreements,
    refused,
    stated_providers,
    unenforced,
)
from orchestrator.model.documents.conflicts import contracts_from, load_contracts
from orchestrator.model.documents.contracts import ContractSet
from orchestrator.model.documents.errors import DocumentError, Notice, Problem
from orchestrator.model.documents.job import (
    TrainingJob,
    job_bytes,
    job_digest,
    job_from,
    job_from_bytes,
    load_job,
    refuse_unhonoured,
    shape_of,
    unhonoured,
    with_package,
)
from orchestrator.model.documents.providers import ProviderSet, load_providers
from orchestrator.model.documents.warnings import unattested, undescribed, warnings

__all__ = [
    "ContractSet",
    "DocumentError",
    "Notice",
    "Problem",
    "ProviderSet",
    "TrainingJob",
    "canonical_bytes",
    "compile_contracts",
    "compile_providers",
    "contracts_from",
    "digest",
    "disagreements",
    "job_bytes",
    "job_digest",
    "job_from",
    "job_from_bytes",
    "load_contracts",
    "load_job",
    "load_providers",
    "refuse_unhonoured",
    "refused",
    "shape_of",
    "stated_providers",
    "unattested",
    "undescribed",
    "unenforced",
    "unhonoured",
    "warnings",
    "with_package",
]
