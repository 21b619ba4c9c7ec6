"""Decisions, pure: no clock, no I/O, no logging, no randomness, nothing async."""
