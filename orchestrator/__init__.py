"""Orchestrator: places training jobs across clouds by contract, and proves that it did.

Importing this package loads nothing: the agent beside a training process and a user's script pay for what they use.
"""
