"""Signals that stop a program, at places where it can go on later.

Within `waiting`, Ctrl-C and SIGTERM wait until somebody asks for them; within `ended_by_sigterm`, SIGTERM does what
Ctrl-C does. A signal for a process is given to any of its threads that does not hold it back, so that threads that
others start, too, are to begin within `uninterrupted`.
"""
import contextlib
import signal
import threading

from utils.distributed import is_main_process

STOPPING = (signal.SIGINT, signal.SIGTERM)

_come = None  # the signals that have come so far; None where they do not wait


class Stopped(KeyboardInterrupt):
    """A signal has stopped the program.

    Attributes:
        signal (signal.Signals): which one.
        way_on (str): how to go on, if there is more than to begin again.
    """

    def __init__(self, number, way_on=""):
        super().__init__(number)
        self.signal, self.way_on = signal.Signals(number), way_on


@contextlib.contextmanager
def uninterrupted():
    """Put Ctrl-C off until the body has ended, and SIGTERM where it does not just kill; threads and processes that the
    body starts never get them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to its main thread alone
        return
    before = {number: handler for number in STOPPING if callable(handler := signal.getsignal(number))}
    come = []
    for number in before:
        signal.signal(number, lambda number, _: come.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set(before))  # a new thread or process inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in come[:1]:
        signal.raise_signal(number)


@contextlib.contextmanager
def ended_by_sigterm(way_on):
    """While the body runs, SIGTERM ends it as Ctrl-C does, so that it can end the processes that it has started. In
    another thread than the main one, or where SIGTERM has a handler already, this does nothing.

    Args:
        way_on (str): how to go on, as of `Stopped`.

    Raises:
        Stopped: SIGTERM has come.
    """
    if (threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL):
        yield
        return

    def stop(number, _):
        raise Stopped(number, way_on)
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def waiting():
    """While the body runs, signals that stop a program wait for `check`; one that nobody has asked for in the end stops
    it then. In another thread than the main one, or within another `waiting`, this does nothing; and signals that the
    program was started to ignore, as by `nohup`, are still ignored.

    Raises:
        Stopped: by `check`, or in the end.
    """
    global _come
    if _come is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _come = []
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    handlers = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, lambda number, _: _come.append(number))
    # MindSpore makes a SIGTERM of the SIGINT that a thread gets while a graph runs.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} & set(handlers))
    try:
        yield
        check()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _come = None


def watched(batches):
    """Iterate over batches, with a `check` before each."""
    for batch in batches:
        check()
        yield batch


def check():
    """Raise `Stopped` if a signal is waiting. Where several workers train together it is the first one that stops: it
    has what is to be saved, and ends the others, none of which can take another step alone.
    """
    if _come is None or not is_main_process():
        return
    # Does not wait: a thread that holds nothing back may take the signal first, and leaves it to the handler.
    while (taken := signal.sigtimedwait({signal.SIGINT}, 0)) is not None:
        _come.append(taken.si_signo)
    if _come:
        raise Stopped(_come[0])
