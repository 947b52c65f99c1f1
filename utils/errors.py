"""Errors that a user can cause and put right."""


class UserError(ValueError):
    """Something that a user can put right. The message is one line: the flag or file at fault, and the way out."""

    status = 2  # exit status of the program


class ResourceGoneError(UserError):
    """A file that was there can no longer be read, or a worker process was killed."""


class NotFiniteError(UserError):
    """A loss or a weight is infinite or not a number."""


class RunInterruptedError(UserError):
    """A run had to stop for a reason that arose after it began, such as a full disk. It can be resumed."""

    status = 1
