"""A Ray head of one's own on this machine: how it is started, found and ended.

Used by whoever runs clusters as processes of this machine; those are strangers to each other.
Imports neither ray nor anything else of ours.
"""
