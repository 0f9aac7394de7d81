"""This process: its device, rank, clock and memory, and its progress output.

Every room but `files` and `families` may import this one.
"""
