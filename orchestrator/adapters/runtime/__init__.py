"""Runtimes: how entrypoints are run on a cluster's machines."""
