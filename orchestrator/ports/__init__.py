"""Promises: what the decisions and the loop need of the world, as Protocols of few verbs."""
