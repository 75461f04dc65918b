"""The two ways a call can end without a result, each carrying one sentence for the person who asked."""


class RefGCError(Exception):
    """Base of every error RefGC raises on purpose; `str(error)` is one sentence that says what to do."""


class InputError(RefGCError):
    """A picture, mask, option or path that cannot be used as given (exit status 2 of the command)."""


class EngineError(RefGCError):
    """An engine that cannot run here, or that failed while it ran (exit status 1 of the command)."""
