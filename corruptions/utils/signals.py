"""SIGINT and SIGTERM, which stop a program only where it can be resumed.

Within `defer_signals`, Ctrl-C and SIGTERM wait until `raise_if_interrupted` is called. Within `sigterm_interrupts`,
SIGTERM has the same effect as Ctrl-C. The system delivers a signal to any thread of the process that does not block it.
Every new thread is therefore started within `block_signals`.
"""
import contextlib
import signal
import threading

STOPPING = (signal.SIGINT, signal.SIGTERM)

_pending = None  # numbers of the signals that were held back; None outside `defer_signals`
_raises = True  # whether `raise_if_interrupted` raises in this `defer_signals`


class Interrupted(KeyboardInterrupt):
    """A signal has stopped the program.

    Attributes:
        signal (signal.Signals): the signal.
        resume_hint (str): how the user can continue; empty if only a new start is possible.
    """

    def __init__(self, number, resume_hint=""):
        super().__init__(number)
        self.signal, self.resume_hint = signal.Signals(number), resume_hint


@contextlib.contextmanager
def block_signals():
    """Hold back Ctrl-C, and a SIGTERM that has a handler, until the end of the body.

    Threads and processes that the body starts inherit the signal mask, so they never get these signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers only in its main thread
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


def stop_tqdm_monitor():
    """Keep tqdm from starting its thread that watches bars, which would get Ctrl-C in place of the main thread."""
    from tqdm import tqdm  # here, because the import takes long

    tqdm.monitor_interval = 0


@contextlib.contextmanager
def sigterm_interrupts(resume_hint):
    """Make SIGTERM raise an exception in the body as Ctrl-C does. The body can then end the processes it has started.

    Outside the main thread, or if SIGTERM already has a handler, this does nothing.

    Args:
        resume_hint (str): how the user can continue, see `Interrupted`.

    Raises:
        Interrupted: SIGTERM or Ctrl-C was received.
    """
    if (threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL):
        yield
        return

    stop_tqdm_monitor()

    def stop(number, _):
        raise Interrupted(number, resume_hint)
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as interruption:
        raise Interrupted(signal.SIGINT, resume_hint) from interruption
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def defer_signals(raises=True):
    """Hold back SIGINT and SIGTERM while the body runs, until `raise_if_interrupted` or the end of the body.

    Outside the main thread, or within another `defer_signals`, this does nothing. A signal that the program ignores
    from its start, for example because of `nohup`, is still ignored.

    Args:
        raises (bool): whether a signal raises an error. Without it, the signals have no effect in the body.

    Raises:
        Interrupted: a signal was received; raised by `raise_if_interrupted` or at the end.
    """
    global _pending, _raises
    if _pending is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    stop_tqdm_monitor()
    _pending, _raises = [], raises
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    handlers = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, lambda number, _: _pending.append(number))
    # While a graph runs, MindSpore turns a SIGINT that one of its threads receives into a SIGTERM.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} & set(handlers))
    try:
        yield
        raise_if_interrupted()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _pending = None


def interruptible(batches):
    """Iterate over batches, and call `raise_if_interrupted` before each batch."""
    for batch in batches:
        raise_if_interrupted()
        yield batch


def raise_if_interrupted():
    """Raise `Interrupted` if a signal is waiting."""
    if _pending is None or not _raises:
        return
    # The time-out is 0: a thread without a mask may take the signal first, and then the handler adds it to the list.
    while (taken := signal.sigtimedwait({signal.SIGINT}, 0)) is not None:
        _pending.append(taken.si_signo)
    if _pending:
        raise Interrupted(_pending[0])
