"""Errors that a user can cause and correct, and how a program reports them."""
import contextlib
import errno
import re
import sys

from corruptions.utils.signals import Interrupted
from corruptions.utils.startup import end_imports

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # the command itself was right


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


def one_line(text):
    """Return `text` with line ends and other control characters escaped as in Python source."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(text))


# Errors of one of several networks or runs, after which the others continue. A `UserError` is a ValueError. MindSpore
# has RuntimeError, TypeError and ValueError for full memory and for networks that it cannot compile.
FAILURES = (OSError, MemoryError, RuntimeError, TypeError, ValueError)


def reason_of(error):
    """Return the first line of the text of an error, without MindSpore's titles, which stand between rows of dashes."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not re.match("-+( |$)", line)), type(error).__name__)


def is_out_of_memory(error):
    """Whether an error says that memory was full. MindSpore raises a RuntimeError then."""
    return isinstance(error, MemoryError) or re.search(
        "memory (isn't|is not|not) enough|not enough memory|out of memory", str(error), re.IGNORECASE) is not None


@contextlib.contextmanager
def exit_on_error(program):
    """Turn errors that a user can mend into one line on stderr and an exit status.

    The status is 2 for a `UserError` or `OSError`, and 1 if the work had begun or the disk or the memory is full. It is
    130 for Ctrl-C, and 128 plus the number of the signal for `Interrupted`.

    Args:
        program (str): name of the program, which begins the line.
    """
    end_imports()
    try:
        yield
    except UserError as error:
        print_error(f"{program}: error: {one_line(error)}")
        sys.exit(error.status)
    except OSError as error:
        reason = f"{error.filename or 'input or output'}: {error.strerror or error}"
        print_error(f"{program}: error: {one_line(reason)}")
        sys.exit(1 if error.errno in DISK_ERRORS else 2)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = one_line(reason_of(error)) if str(error) else "no more is free"
        print_error(f"{program}: error: not enough memory ({reason}); give smaller images or batches, or fewer workers")
        sys.exit(1)
    except Interrupted as stop:
        print_error("; ".join(filter(None, [f"{program}: stopped by {stop.signal.name}", stop.resume_hint])))
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
