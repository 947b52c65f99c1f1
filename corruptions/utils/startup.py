"""The first steps of a program, before slow imports. This file imports almost nothing."""
import contextlib
import os
import signal
import sys

_program = ""


def begin_imports(program):
    """Make Ctrl-C end the program with one line while it imports its modules.

    Some of these modules swallow a KeyboardInterrupt. Standard streams that are closed at the start, for example by
    `2>&-`, are opened to the null device.

    Args:
        program (str): name of the program, for the line.
    """
    global _program
    _program = program
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # takes the stream's descriptor, which the next file would get
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8", errors="backslashreplace"))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # SIGINT may be ignored, for example by `nohup`
        signal.signal(signal.SIGINT, _end)


def has_begun():
    """Whether this process is a program of this project, which makes its slow imports itself when it needs them."""
    return bool(_program)


@contextlib.contextmanager
def late_imports():
    """Within this, Ctrl-C ends a program of this project as after `begin_imports`."""
    if _program and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        end_imports()


def _end(number, _):
    os.write(2, f"{_program}: interrupted\n".encode())
    os._exit(128 + number)


def end_imports():
    """Make Ctrl-C raise a KeyboardInterrupt again. Without `begin_imports` this changes nothing."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
