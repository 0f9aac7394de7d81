"""`sensitivity`: what each linear loses in each scheme, as a table and a picture.

Only the command imports this room.
"""
