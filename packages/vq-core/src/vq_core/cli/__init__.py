"""What every command shares: the app and its error table, the options, how results are printed.

Only the stages' own command files import this room.
"""
