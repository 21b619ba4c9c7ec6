"""What does a reason code mean, in words? Called wherever a code is shown; codes are stored, words are not."""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    # why a provider was passed over
    "capability": "it has nothing of that kind",
    "region": "no lawful region",
    "operator_jurisdiction": "its operator's jurisdiction is not lawful for this job",
    "seal": "its sovereignty level is too low",
    "data": "no lawful replica of the data",
    "exclusive": "this class of work is another supplier's alone",
    "over_ceiling": "over the price ceiling",
    "loss": "avoided, it just lost this job",
    "avoided": "avoided, it just lost this job",
    "refused": "it refused this already",
    "asked_already": "its first right is over the job as it is now, and it was asked in this round already",
    "parked": "its refusal of such a job still holds",
    "refused_alike": "it has just refused another job that asked no more",
    "busy": "it has refused this already, and others are being put to it again",
    "resting": "launches of several jobs have failed there, so it rests",
    "unreachable": "unreachable",
    "beat_silent": "beat silent",
    "no_reply": "no reply to the launch",
    "never_started": "user code never started",
    "left": "it was given up, behind a fence",
    "launch": "before it is launched again",
    "cancel": "cancel was asked",
    "no_lawful_provider": "no provider may lawfully run it; change contracts or providers, then resume",
    "no_capable_provider": "no provider has the hardware that it asks for; change the job or the providers",
    "declined_by_all": "each provider that may run it says that it never can; scale it, or change providers and resume",
    "restore": "the ledger was put back from a backup",
    "run_log_unread": "its run log could not be read since the ledger was put back; it is asked for again by itself",
    "run_log_ahead": "its run log holds what the ledger does not know; look at it, then resume",
    "run_log_part": "it was split after the backup, and a part of it is done; cancel it, and submit the rest anew",
    "done_in_part": "its run log says that only a part of it is done",
    "classification": "its class is not settled; an attester must record it",
    "start_by_passed": "its start-by moment passed",
    "crash_loop": "killed twice at the same checkpoint",
    "max_runtime": "its maximum run time is used up",
    "lost_worker": "a worker was lost",
    "lost_node": "a node was lost",
    "killed": "its processes were killed from outside",
    "limit": "it could not read its run log for too long and stopped itself",
    "stopped": "stopped as asked",
    "reclaimed": "its machines were taken back, after a notice",
    "scaled": "it is to have another size",
    "scale_lost": "its run log asked it to stop for another size, and the backup that the ledger was put back from is "
    "older than that wish; scale it again, if it is still to have another size",
    "user_failure": "user code failed",
    "bad_package": "its code package was not at its store, or cannot be unpacked; its output says which",
    "max_attempts": "every attempt it may have was used",
    "gate_revived": "the holder's refusal is no longer good",
    "exclusive_revived": "what had freed it from an exclusive is over",
    "exempt_total": "others have used up the exemption's total",
    "block_gone": "the owned capacity has no room for it, or not for long enough, any more",
    "freed": "its holder cannot be reached, and its first right does not hold for this job any more",
    "reclassified": "the job is of another class",
    # why a yes did not count
    "counter": "its yes was to other terms than ours",
    # why a clause does not hold
    "ended": "an event has ended it",
    "waived": "its holder has waived such work",
    "split": "it took a part of the whole",
    "override": "overridden, which is a declared breach",
    "consent": "its holder consented",
    "holder_declined": "its holder declined this job",
    "holder_outage": "its holder has been out of reach for too long",
    "unlawful_for_holder": "its holder may not serve this job",
    "unmet_capacity": "its holder lacks the capacity",
    "exempt": "exempt",
}
"""Reason codes in words; a code that is missing here is shown with spaces."""


def why(code: str) -> str:
    """A reason code in words."""
    return REASONS.get(code, code.replace("_", " "))
