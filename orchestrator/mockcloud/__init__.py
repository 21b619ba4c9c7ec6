"""A cloud as a real client meets it: over HTTP, with prices, finite capacity, latency, throttling and faults.

A program of its own, one process per cloud (`python -m orchestrator.mockcloud`). It knows nothing of contracts,
ledgers or run logs, and no other part of the product imports it: it is met over HTTP only. What really ran is
written to its journal, which the auditor reads. Importing this package loads nothing.
"""
