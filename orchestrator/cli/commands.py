"""Which commands are there, where does each live, and what does the list of them say of it?

Read by `main` alone. What a command does is said here too, in the first words of its own help, so that none has to be
loaded where all are listed; a test compares the two.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a command lives: a function or a `typer.Typer`."""

    module: str
    name: str


COMMANDS = {
    "serve": Place("orchestrator.cli.serve", "serve"),
    "run": Place("orchestrator.cli.run", "run"),
    "submit": Place("orchestrator.cli.run", "submit"),
    "jobs": Place("orchestrator.cli.jobs", "jobs"),
    "job": Place("orchestrator.cli.jobs", "job"),
    "logs": Place("orchestrator.cli.jobs", "logs"),
    "explain": Place("orchestrator.cli.jobs", "explain"),
    "exec": Place("orchestrator.cli.inside", "run_in"),
    "dump": Place("orchestrator.cli.inside", "dump"),
    "forward": Place("orchestrator.cli.inside", "forward"),
    "offers": Place("orchestrator.cli.offers", "app"),
    "cancel": Place("orchestrator.cli.jobs", "cancel"),
    "resume": Place("orchestrator.cli.jobs", "resume"),
    "scale": Place("orchestrator.cli.jobs", "scale"),
    "providers": Place("orchestrator.cli.providers", "app"),
    "contracts": Place("orchestrator.cli.contracts", "app"),
    "capacity": Place("orchestrator.cli.capacity", "app"),
    "record": Place("orchestrator.cli.record", "app"),
    "audit": Place("orchestrator.cli.audit", "app"),
    "backup": Place("orchestrator.cli.keeping", "backup"),
    "restore": Place("orchestrator.cli.keeping", "restore"),
    "doctor": Place("orchestrator.cli.doctor", "app"),
    "pack": Place("orchestrator.cli.run", "pack"),
    "controller": Place("orchestrator.cli.controller", "controller"),
    "mock-cloud": Place("orchestrator.cli.mockcloud", "app"),
    "demo": Place("orchestrator.cli.demo", "demo"),
}

DOES = {
    "serve": "Take jobs in and see them through, until Ctrl-C or SIGTERM; running jobs need no server.",
    "run": "Run a command as a job and follow its output.",
    "submit": "Submit a job from a file; a folder of code (`package: {dir: .}`) is packed and uploaded, "
    "relative to the file.",
    "jobs": "List jobs, newest first.",
    "job": "Show where one job stands: attempts, what user code reported, what was submitted.",
    "logs": "Print what user code printed, over all attempts, in order.",
    "explain": "Tell a job's life in sentences: who was asked by which right, what they said, why it stands "
    "where it stands.",
    "exec": "Run a command beside a running job: in the environment and folder of one of its processes.",
    "dump": "Show where every rank of a running job is: the stacks of its Python processes, by py-spy.",
    "forward": "Bring a port beside a running job to this machine: it listens on 127.0.0.1 alone, until Ctrl-C.",
    "offers": "Who was asked for a job (`orchestrator offers JOB`), and the answers of suppliers who give "
    "them by hand.",
    "cancel": "Ask for a job's end; asking again changes nothing.",
    "resume": "Let a held job go on, after what held it was changed.",
    "scale": "Give a job another number of workers.",
    "providers": "Show the providers that the server uses, and check what is missing.",
    "contracts": "Check, explain and test contract documents before they take effect; list those that have.",
    "capacity": "Show the capacity that is owned already, or let another set of it take effect.",
    "record": "Put consents, evidence, waivers, events, classes and overrides on record, or list them (no command).",
    "audit": "Prove from the ledger that every promise was kept, or see which was not.",
    "backup": "Write the ledger, as of now, to a file. The server need not stop, and the database may be either.",
    "restore": "Put a ledger back from a backup, where there is none: a new file, or an empty database.",
    "doctor": "Say what is wrong here, and what to do about it.",
    "pack": "Upload a folder of code and print its digest, or a job with its digest in it, for `kubectl apply`.",
    "controller": "Serve TrainingJob and ContractSet objects of a Kubernetes cluster: `kubectl apply -f job.yaml` "
    "submits a job.",
    "mock-cloud": "Play a cloud over HTTP: offers, clusters, prices, finite capacity, its own error codes, and "
    "faults on demand.",
    "demo": "A real training job, offered by contract, cut off by an outage, resumed elsewhere, audited. "
    "Takes 3 minutes.",
}
