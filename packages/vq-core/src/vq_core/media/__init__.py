"""Pictures and videos as files: decoded and checked, brought to a size, written.

Every room but `files`, `families` and `runtime` may import this one.
"""
