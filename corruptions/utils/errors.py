"""Errors that a user can cause and correct, and how a program reports them."""
import sys


class UserError(ValueError):
    """An error that a user can correct. The message is one line: the flag or file at fault, and the way out."""

    status = 2  # exit status of the program


class ResourceGoneError(UserError):
    """A file that was there can no longer be read, or a worker process was killed."""


def print_error(message):
    """Print to stderr why this process is about to end."""
    _report(message)


def set_error_reporter(report):
    """Replace the function that `print_error` calls, such as in a program of several processes."""
    global _report
    _report = report


def _report(message):
    print(message, file=sys.stderr, flush=True)
