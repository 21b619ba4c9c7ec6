"""Providers: one translator per supplier, strangers to each other."""
