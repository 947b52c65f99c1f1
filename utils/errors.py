"""Errors of a training. The errors of all programs are in `corruptions/utils/errors.py`."""
from corruptions.utils.errors import UserError


class NotFiniteError(UserError):
    """A loss or a weight is infinite or NaN."""


class RunInterruptedError(UserError):
    """A run had to stop for a reason that arose after it began, such as a full disk. It can be resumed."""

    status = 1
