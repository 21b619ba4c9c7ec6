"""Providers that are wrong on purpose, each in one way: the kit must name exactly the promise that each breaks.

`BROKEN` maps the promise's name to classes. Each is a `ScriptedProvider` with one verb bent; never used otherwise.
"""

from __future__ import annotations

from orchestrator.testing.broken import faults, launches, offers
from orchestrator.testing.scripted import ScriptedProvider

BROKEN: dict[str, list[type[ScriptedProvider]]] = {
    "capabilities_constant": [offers.Fickle],
    "empty_batches": [offers.Fussy],
    "receipts_in_order": [offers.Shuffler],
    "same_offer_id_same_offer": [offers.Stamper],
    "receipts_echo": [offers.Mute],
    "no_answer_lost": [offers.Forgetful],
    "acceptance_names_terms": [offers.Mumbler],
    "acceptance_in_range": [offers.Greedy],
    "declines_are_typed": [offers.Vague],
    "withdrawal_repeatable": [offers.Deaf],
    "withdrawal_releases": [offers.Hoarder],
    "long_poll_bounded": [offers.Stayer],
    "poll_wakes_for_news": [offers.Sleeper],
    "answers_in_receipts": [offers.Boaster],
    "launch_replies_in_order": [launches.Backwards],
    "whole_batch_is_launched": [launches.Lazy],
    "same_key_same_launch": [launches.Twice],
    "confirmed_is_listed": [launches.Shy],
    "listing_carries_ledger": [launches.Nameless],
    "every_ledger_is_listed": [launches.Selfish],
    "reads_change_nothing": [launches.Curious],
    "feed_tells_running": [launches.Quiet],
    "rejected_leaves_nothing": [launches.Leftover],
    "stop_of_unknown_acknowledged": [launches.Pedant],
    "stop_until_gone": [launches.Brittle],
    "gone_key_stays_gone": [launches.Resurrector],
    "stop_touches_its_key_only": [launches.Butcher],
    "foreign_untouched": [launches.Reaper],
    "delete_after_kept": [launches.Undying],
    "closing_stops_nothing": [launches.Closer],
    "cancelled_offers_repeatable": [faults.Amnesiac],
    "cancelled_launch_repeatable": [faults.Careless],
    "cancelled_poll_loses_nothing": [faults.Clinger],
    "unreachable_is_not_a_no": [faults.Liar, faults.Blank],
    "back_in_reach_goes_on": [faults.Dropper],
    "locked_out_is_the_operators": [faults.Denier],
    "throttling_is_typed": [faults.Swallower],
    "bills_only_grow": [faults.Shrinker],
    "bill_keeps_the_price": [faults.Overcharger],
    "logs_of_unknown_are_empty": [faults.Babbler],
    "check_says_remedies": [faults.Worrier],
}
"""Promise → providers that break it and no other."""
