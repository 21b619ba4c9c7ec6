"""The run log: who may run a job, what was saved, whether it is done; kept at the job's checkpoint store."""
