"""The workers of a Dask cluster, on machines that see the same file system. Dask itself is an optional package.

Joblib's own Dask backend is not used, because it waits for ever for a task that has ended several workers.
"""
import asyncio
import contextlib
import importlib
import logging
import os
import pickle
import sys
import tempfile
import time

from corruptions.utils.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INSTALL = "pip install dask distributed"
CONNECT_SECONDS = 5
WORKERS_SECONDS = 20  # a job script may start workers and this program at the same time
COUNT_SECONDS = 10  # workers come and go, so they are counted again after this time
PIXEL_MODULES = ("numpy", "scipy", "cv2", "skimage", "PIL")  # their versions affect the pixels


class Cluster:
    """The workers of a Dask cluster, as `connect` yields them.

    Args:
        client (distributed.Client): client that is connected to the scheduler.
        address (str): address of the scheduler, for error messages.
    """

    def __init__(self, client, address):
        self.client, self.address = client, address
        self.call = remote_call(ROOT)
        self.cores, self.counted = 1, -COUNT_SECONDS

    @property
    def max_pending(self):
        """The number of tasks to submit ahead: enough for every core to have a next task, few enough for any memory."""
        if time.monotonic() > self.counted + COUNT_SECONDS:
            self.cores, self.counted = max(1, sum(self.client.nthreads().values())), time.monotonic()
        return 3 * self.cores

    def submit(self, function, *arguments):
        return self.client.submit(self.call, pickle.dumps((function, arguments)), pure=False)

    def result(self, future):
        """Return the result of a future from `submit`; Dask repeats the task if a worker dies.

        Raises:
            UserError: the task ended one worker after the other, or the scheduler has gone.
        """
        from distributed import CancelledError, KilledWorker
        try:
            return future.result()
        except KilledWorker as error:
            raise UserError(f"--scheduler {self.address}: several workers died one after the other, perhaps because "
                            "memory was full; give them more, and the same command resumes it") from error
        except CancelledError as error:
            raise UserError(f"--scheduler {self.address}: the scheduler has gone, or was told to drop this job; give "
                            "the same command, which resumes it") from error

    def stop(self, futures):
        """Cancel the tasks that the workers have not begun; the cluster keeps running."""
        self.client.cancel(list(futures))

    def release(self):
        """End the job. The cluster stays for others."""


def remote_call(root):
    """Return a function for workers that unpickles a function and its arguments, and calls it.

    The workers have this program in the folder `root`. The returned function is nested, so it is sent as code: the
    scheduler and the workers need not find it in a module.
    """
    def call(pickled):
        import pickle
        import sys
        if root not in sys.path:
            sys.path.insert(0, root)
        function, arguments = pickle.loads(pickled)
        return function(*arguments)
    return call


@contextlib.contextmanager
def connect(address, target, sources=()):
    """Yield the `Cluster` of the Dask scheduler at HOST:PORT, after a check that it can do the work.

    Args:
        address (str): address of the scheduler.
        target (str): folder that is written; it may be missing.
        sources (iterable of str): paths that are read.

    Raises:
        UserError: Dask is missing, no scheduler answers, the scheduler has no workers, or a worker does not see the
            files or has other packages.
    """
    flag = f"--scheduler {address}"
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(f"{flag}: needs the package distributed; {INSTALL}, or leave the option out") from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # one line reports what ends the job
    if not asyncio.run(is_scheduler(address)):
        raise UserError(f"{flag}: no Dask scheduler answers there; start one (dask scheduler), or leave the option "
                        "out")
    with Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            raise UserError(f"{flag}: the scheduler has no workers; start some (dask worker {address})"
                            ) from error
        with probe(target) as probed:
            check_workers(client, flag, [*(os.path.abspath(path) for path in sources if os.path.exists(path)), probed])
        yield Cluster(client, address)


async def is_scheduler(address):
    """Whether a scheduler answers at once; a `Client` would wait for ever for another server, such as a web server."""
    from distributed import Security
    from distributed.core import rpc
    try:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as there:
            return (await asyncio.wait_for(there.identity(), CONNECT_SECONDS))["type"] == "Scheduler"
    except (OSError, TypeError):  # TypeError: a tls:// address without certificates
        return False


@contextlib.contextmanager
def probe(target):
    """Yield the path of a new file in `target`, or in the nearest existing folder above, while the body runs."""
    folder = os.path.abspath(target)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".seen-by-workers-") as file:
        yield file.name


def check_workers(client, flag, paths):
    """Raise a `UserError` unless all present workers see some paths and have the same packages as this process."""
    answers = client.run(remote_call(ROOT), pickle.dumps((worker_info, (paths,))), on_error="return")
    local_versions = packages()
    for worker, answer in answers.items():
        if isinstance(answer, Exception):
            raise UserError(f"{flag}: the worker {worker} cannot run this program ({answer!r}); start it in the same "
                            "environment, where it sees the same files")
        missing, there = answer
        if missing:
            raise UserError(f"{flag}: the worker {worker} does not see {missing[0]}; name folders that all machines "
                            "share")
        for name, version in local_versions.items():
            if there[name] != version:
                raise UserError(f"{flag}: the worker {worker} has {name} {there[name]}, and here it is {version}; "
                                "install the same everywhere, so that the pixels are the same")


def worker_info(paths):
    """Return the answer of a worker: the paths that it does not see, and its packages."""
    return [path for path in paths if not os.path.exists(path)], packages()


def packages():
    """Return the versions that affect the pixels, a dict."""
    return {"Python": f"{sys.version_info.major}.{sys.version_info.minor}",
            **{name: importlib.import_module(name).__version__ for name in PIXEL_MODULES}}
