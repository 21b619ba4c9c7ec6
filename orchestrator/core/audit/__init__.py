"""Is this ledger what it should be? The sentences that must always hold, judged over an export by pure functions.

`export` writes and reads the lines, `history` lays them out, the modules beside them hold one function a sentence,
`verify` runs them all, `mutate` shows which of them would notice a forgery. Called by `orchestrator audit`, stories
and the benchmarks. Shares the table of moves and the law with the engine, never the planner.
"""
