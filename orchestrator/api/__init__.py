"""The HTTP front: checks who asks and what, hands wishes to the desk, shows projections. It decides nothing."""
