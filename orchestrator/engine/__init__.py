"""The loop, the only async heart: observe → plan → commit → execute. See `engine.Engine`."""
