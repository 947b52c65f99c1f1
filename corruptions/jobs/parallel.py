"""One loop for all kinds of workers: this process, several on this machine, or the workers of a Dask cluster."""
import collections
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import wait
from multiprocessing import resource_tracker

import cv2
from joblib.externals import loky

from corruptions.jobs.cluster import Cluster
from corruptions.utils.errors import UserError
from corruptions.utils.signals import STOPPING, block_signals

RESUME_HINT = "the same command resumes it"
PARENT_SECONDS = 0.5  # interval at which a worker process checks that its parent exists
IDLE_SECONDS = 300  # processes that are idle for this time end, and start again for new work
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}

_lock = threading.Lock()  # for the two counts
_jobs = collections.Counter()  # the jobs that use an executor now; threads share one
_single_threaded_calls, _threads_before = 0, 0


def start_worker(parent):
    """Initialize a worker process of the process with the number `parent`; the worker ends when the parent ends.

    The worker leaves two signals to the parent: Ctrl-C, which reaches all processes of a terminal, and SIGTERM, which
    Slurm sends to all processes of a job.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent):
    """End this process at once when its parent has ended, such as by SIGKILL."""
    # PR_SET_PDEATHSIG would not do, because it waits for the end of the thread that has started this process.
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def single_threaded(function, *arguments):
    """Call a function in a process that shares the cores with others. OpenCV has one thread until all calls end."""
    global _single_threaded_calls, _threads_before
    with _lock:
        if not _single_threaded_calls:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _single_threaded_calls += 1
    try:
        return function(*arguments)
    finally:
        with _lock:
            _single_threaded_calls -= 1
            if not _single_threaded_calls:
                cv2.setNumThreads(_threads_before)


def start_executor(number):
    """Return a new loky executor of `number` processes with one thread each, which end with this process.

    `loky.get_reusable_executor` is not used, because `joblib.Parallel` shares its processes and would fail.
    """
    with block_signals():
        resource_tracker.ensure_running()  # starts before the workers, because its start unblocks Ctrl-C
        return loky.ProcessPoolExecutor(number, timeout=IDLE_SECONDS, initializer=start_worker,
                                        initargs=(os.getpid(),), env=ONE_THREAD)


@functools.lru_cache(maxsize=1)
def get_executor(number, parent):
    """Return the executor of `number` processes of the process `parent`, this one; the same executor at every call."""
    return start_executor(number)


class ProcessPool:
    """Several worker processes on this machine; they stay for the next job.

    Args:
        number (int): number of processes.

    Raises:
        UserError: this process is a worker of `multiprocessing`, which cannot start processes.
    """

    def __init__(self, number):
        if multiprocessing.current_process().daemon:
            raise UserError(f"{number} workers: this process is a worker itself and cannot start others; take 1")
        self.max_pending = 2 * number  # this many fit into the executor's queue; `stop` relies on it
        with _lock:
            self.executor = get_executor(number, os.getpid())
            _jobs[self.executor] += 1

    def submit(self, function, *arguments):
        """Begin a call of a function, and return its future.

        Raises:
            UserError: a process was killed.
        """
        with report_killed_worker():
            return self.executor.submit(function, *arguments)

    def result(self, future):
        """Return the result of a future from `submit`; errors as in `submit`, and those of the function."""
        with report_killed_worker():
            return future.result()

    def stop(self, futures):
        """End the processes at once; their work in progress is lost. If another job uses them, wait for the work."""
        with _lock:
            is_shared = _jobs[self.executor] > 1
            get_executor.cache_clear()  # the next job gets new processes
        if is_shared:
            wait([future for future in futures if not future.cancel()])
            return
        while any(not future.running() and not future.done() for future in futures):
            time.sleep(0.01)  # loky's thread fails for a future that it has not queued yet
        self.executor.shutdown(kill_workers=True)

    def release(self):
        """End the job. The processes stay for the next one."""
        with _lock:
            _jobs[self.executor] -= 1
            if not _jobs[self.executor]:
                del _jobs[self.executor]


@contextlib.contextmanager
def report_killed_worker():
    """Raise a `UserError` in place of the error of loky if a process was killed."""
    try:
        yield
    except loky.process_executor.TerminatedWorkerError as error:
        raise UserError("a process that corrupts images was killed, perhaps because memory was full; run it again, "
                        "with fewer workers") from error


def parallel_map(workers, function, arguments):
    """Call `function(*a)` for each tuple `a` of `arguments`; yield the results in the order of the tuples.

    The tuples are taken as they are needed, so that memory does not grow with their number. No work goes on if the
    generator is closed before its end, such as by an error, Ctrl-C, or SIGTERM within `sigterm_interrupts`. Then no
    process remains either, unless another job in this process uses it.

    Args:
        workers (int or Cluster): number of processes, 1 for this process alone, or a cluster.
        function (callable): function that other processes can find by its name in a module.
        arguments (iterable of tuple): small tuples; they are copied.

    Raises:
        UserError: a process was killed, or the cluster is gone. Errors of the function are raised, too.
    """
    if workers == 1:
        for call_arguments in arguments:
            yield single_threaded(function, *call_arguments)
        return
    pool = workers if isinstance(workers, Cluster) else ProcessPool(workers)
    ahead = collections.deque()

    def next_result():
        result = pool.result(ahead[0])
        ahead.popleft()
        return result
    try:
        for call_arguments in arguments:
            with block_signals():
                ahead.append(pool.submit(single_threaded, function, *call_arguments))
            if len(ahead) >= pool.max_pending:
                yield next_result()
        while ahead:
            yield next_result()
    except BaseException as error:
        if ahead or not isinstance(error, GeneratorExit):  # a generator whose results were all taken may be closed
            with block_signals():
                pool.stop(ahead)
        raise
    finally:
        pool.release()
