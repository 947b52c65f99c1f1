"""Who does the work: this process, several on this machine, or the workers of a Dask cluster; one loop for all."""
import collections
import os
import signal
import threading
import time
from multiprocessing import resource_tracker

import cv2
from joblib.externals import loky
from tqdm import tqdm

from corruptions.jobs.cluster import Cluster
from utils.errors import UserError
from utils.runtime.signals import STOPPING, block_signals

tqdm.monitor_interval = 0  # the thread with which it would watch its bars gets Ctrl-C in place of the main one

RESUME_HINT = "the same command goes on where it was"
PARENT_SECONDS = 0.5  # so often a process looks whether the one that it works for is there
IDLE_SECONDS = 300  # processes that have nothing to do for so long end, and start again when they have
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def start_worker(parent):
    """Begin a process that works for the process with the number `parent`, and ends when that does.

    Ctrl-C, which reaches all processes of a terminal, and SIGTERM, which Slurm sends to all of a job, are left to the
    parent.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent):
    """End this process at once when its parent has ended, such as by SIGKILL."""
    # PR_SET_PDEATHSIG would not do: it waits for the end of the thread that has started this process.
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def single_threaded(function, *arguments):
    """Call a function in a process that shares the cores with others."""
    cv2.setNumThreads(1)
    return function(*arguments)


class ProcessPool:
    """Several processes on this machine; they stay for the next job.

    Args:
        number (int): how many.
    """

    def __init__(self, number):
        self.most_under_way = 2 * number  # so many fit into the executor's queue, which `stop` counts on
        resource_tracker.ensure_running()  # it lets Ctrl-C through again when it starts: not when the others do
        self.executor = loky.get_reusable_executor(number, timeout=IDLE_SECONDS, initializer=start_worker,
                                                   initargs=(os.getpid(),), env=ONE_THREAD)

    def submit(self, function, *arguments):
        return self.executor.submit(function, *arguments)

    def result(self, future):
        """What `submit` has promised.

        Raises:
            UserError: a process was killed.
        """
        try:
            return future.result()
        except loky.process_executor.TerminatedWorkerError as error:
            raise UserError("a process that corrupts images was killed, perhaps because memory was full; give the same "
                            "command with fewer --workers, and it goes on where it was") from error

    def stop(self, futures):
        """End the processes at once. What they were at is lost."""
        while any(not future.running() and not future.done() for future in futures):
            time.sleep(0.01)  # loky's thread fails at one that it has not queued yet
        self.executor.shutdown(kill_workers=True)


def parallel_map(workers, function, arguments):
    """Call `function(*a)` for each tuple `a` of `arguments`; yield the results in their order.

    The tuples are taken as they are needed, so that memory does not grow with their number. A generator that is closed
    before its end, such as by an error, Ctrl-C, or SIGTERM within `sigterm_interrupts`, leaves no process.

    Args:
        workers (int or Cluster): processes, 1 for this one alone, or those of a cluster.
        function (callable): can be found by its name in a module, for other processes.
        arguments (iterable of tuple): small ones; they are copied.

    Raises:
        UserError: a process was killed, or the cluster is gone; and what the function raises.
    """
    if workers == 1:
        for some in arguments:
            yield single_threaded(function, *some)
        return
    with block_signals():
        pool = workers if isinstance(workers, Cluster) else ProcessPool(workers)
    ahead = collections.deque()

    def next_result():
        result = pool.result(ahead[0])
        ahead.popleft()
        return result
    try:
        for some in arguments:
            with block_signals():
                ahead.append(pool.submit(single_threaded, function, *some))
            if len(ahead) >= pool.most_under_way:
                yield next_result()
        while ahead:
            yield next_result()
    except BaseException:
        with block_signals():
            pool.stop(ahead)
        raise
