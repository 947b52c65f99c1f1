"""What tests of signals and of other processes share."""
import os
import signal
import time


def wait_until(condition, process=None, seconds=60):
    """Wait until `condition()` is true; fail if that takes too long, or if a `subprocess.Popen` has ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"ended with exit status {process.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.01)


def terminate_self(*_):
    """Send SIGTERM to this process, which has to have a handler; without one it would end, and the tests with it."""
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "SIGTERM has no handler"
    os.kill(os.getpid(), signal.SIGTERM)
