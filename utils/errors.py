"""Errors that a user can cause and correct."""


class UserError(ValueError):
    """An error that a user can correct. The message is one line: the flag or file at fault, and the way out."""

    status = 2  # exit status of the program


class ResourceGoneError(UserError):
    """A file that was there can no longer be read, or a worker process was killed."""


class NotFiniteError(UserError):
    """A loss or a weight is infinite or NaN."""


class RunInterruptedError(UserError):
    """A run had to stop for a reason that arose after it began, such as a full disk. It can be resumed."""

    status = 1
