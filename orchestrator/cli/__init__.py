"""Commands: each file is one; `main` puts them together."""
