"""The errors a user can cause; anything else that is raised is a bug and keeps its traceback."""


class VqError(Exception):
    """A mistake in the input. The message is one sentence: what is wrong, where, and what to do."""


class GateFailed(VqError):
    """Everything ran, and the result is not good enough (a failed `verify` or a missed threshold)."""


class Unfinished(VqError):
    """Work was stopped by something outside this process. What is finished stays, for `--resume`."""
