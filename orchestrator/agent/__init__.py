"""The agent: runs beside a training process, claims its epoch, watches the run log, and ends what must end.

Light by promise: the standard library, the run log and the model, nothing else.
"""
