"""This process: its device, its rank among others, its clock and memory, what it says while it works.

Every room but `files` and `families` may import this one.
"""
