"""Is this ledger what it should be? The sentences that must always hold, judged over an export by pure functions.

`export` writes and reads the lines, `redact` leaves bodies out, `history` lays them out, the modules beside them hold
one function a sentence, `verify` runs them all, `mutate` shows which of them would notice a forgery, made by `forger`.
Called by `orchestrator audit`, stories and the benchmarks. Shares the table of moves and the law with the engine, never
the planner. What an outsider runs instead is `orchestrator.verify`, which knows nothing of all this.
"""
