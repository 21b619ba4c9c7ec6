"""A supplier's own system, in memory: what `testing.scripted.ScriptedProvider` talks to."""
