"""Where ledgers are kept: `sql` is the one of a running server. Named by the composition root only."""
