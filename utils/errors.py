"""The errors that a user can cause and mend."""


class UserError(ValueError):
    """Something a user can put right. Its text is one line: the flag or file at fault, and the way out."""

    status = 2  # with which a program ends


class ResourceGoneError(UserError):
    """What is needed is gone: a file cannot be read, or a process has been killed."""


class NotFiniteError(UserError):
    """A training has left the numbers that float32 has: a loss or a weight is infinite or not a number."""


class RunInterruptedError(UserError):
    """What has stopped a run that was under way, though nothing was wrong when it began."""

    status = 1
