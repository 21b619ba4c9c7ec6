"""Kubernetes objects of ours: TrainingJob and ContractSet, served by a controller that is a client of the server.

`orchestrator controller` runs it. It keeps nothing of its own: what users want lies in their objects, what became of it
in the server's ledger, and the objects' status mirrors that. It imports the SDK, the model and Kopf, never the engine.
"""
