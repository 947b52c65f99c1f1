"""The first steps of a program, before it imports anything that takes long. This file imports almost nothing."""
import os
import signal
import sys

_program = ""


def begin_imports(program):
    """Have Ctrl-C end the program in one line while it imports its modules, some of which swallow a KeyboardInterrupt.
    Streams that it was started without, such as by `2>&-`, are opened, and lead nowhere.

    Args:
        program (str): its name, for the line.
    """
    global _program
    _program = program
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # takes the stream's number, or else the next file would
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8", errors="backslashreplace"))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as by `nohup`
        signal.signal(signal.SIGINT, _end)


def _end(number, _):
    os.write(2, f"{_program}: interrupted\n".encode())
    os._exit(128 + number)


def end_imports():
    """From now on Ctrl-C is a KeyboardInterrupt again; without `begin_imports` it is one anyway."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
