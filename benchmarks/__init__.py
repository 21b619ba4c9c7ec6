"""How fast is it, and at what cost? Measured through the same doors that users take.

`python -m benchmarks drain` empties a queue through the composition root and real disk; `python -m benchmarks latency`
asks the HTTP server from outside; `python -m benchmarks kubernetes` lets RayJobs live behind a real API server. Figures
are printed as they are; `--check` makes a missed target an exit code.
"""
