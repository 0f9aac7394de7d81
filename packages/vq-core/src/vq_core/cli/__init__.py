"""What every command shares: the app and its error table, the options, what they come to, how results are printed.

Stages import this room where their options are declared and read; no other room of vq_core does.
"""
