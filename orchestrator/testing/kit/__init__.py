"""The conformance kit for providers: `check_provider(factory) -> Report`, one named promise after the other.

A stranger who writes a provider hands a factory of it (or of a `Subject`, which also says how to bring it into
difficulties) and reads which promises of `ports.provider` it breaks.
"""

from orchestrator.testing.kit.examine import PROMISES, check_provider
from orchestrator.testing.kit.report import Finding, Report, Verdict
from orchestrator.testing.kit.subject import Subject

__all__ = ["PROMISES", "Finding", "Report", "Subject", "Verdict", "check_provider"]
