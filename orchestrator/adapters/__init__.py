"""Translators to the world outside, each behind a port; strangers to each other. They translate, they never decide."""
