"""The workers of a Dask cluster, on machines that see the same file system. Dask itself is an optional package.

Joblib's own way to Dask is not used: it waits for ever for a piece of work that has ended several workers.
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

from utils.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INSTALL = "pip install dask distributed"
CONNECT_SECONDS = 5
WORKERS_SECONDS = 20  # a job script may start workers and this program at the same time
COUNT_SECONDS = 10  # workers come and go; they are counted so often
PIXEL_MODULES = ("numpy", "scipy", "cv2", "skimage", "PIL")  # their versions decide about pixels


class Cluster:
    """The workers of a Dask cluster, as `connect` gives them.

    Args:
        client (distributed.Client): connected with the scheduler.
        address (str): of the scheduler, for errors.
    """

    def __init__(self, client, address):
        self.client, self.address = client, address
        self.call = remote_call(ROOT)
        self.cores, self.counted = 1, -COUNT_SECONDS

    @property
    def most_under_way(self):
        """Pieces of work to hand out: enough for every core to have a next one, few enough for any memory."""
        if time.monotonic() > self.counted + COUNT_SECONDS:
            self.cores, self.counted = max(1, sum(self.client.nthreads().values())), time.monotonic()
        return 3 * self.cores

    def submit(self, function, *arguments):
        return self.client.submit(self.call, pickle.dumps((function, arguments)), pure=False)

    def result(self, future):
        """What `submit` has promised; Dask has done it again where a worker died.

        Raises:
            UserError: it ended one worker after the other, or the scheduler has gone.
        """
        from distributed import CancelledError, KilledWorker
        try:
            return future.result()
        except KilledWorker as error:
            raise UserError(f"--scheduler {self.address}: several workers died one after the other, perhaps because "
                            "memory was full; give them more, and the same command goes on where it was") from error
        except CancelledError as error:
            raise UserError(f"--scheduler {self.address}: the scheduler has gone, or was told to drop this job; give "
                            "the same command, and it goes on where it was") from error

    def stop(self, futures):
        """Tell the workers to leave out what they have not begun; the cluster stays."""
        self.client.cancel(list(futures))


def remote_call(root):
    """A function for workers, which have this program in the folder `root`: it unpickles a function and arguments, and
    calls it. Because it stands inside another, it is sent as code: scheduler and workers need not find it in a module.
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
    """Give the body the `Cluster` of the Dask scheduler at HOST:PORT, after a look at whether it can do the work.

    Args:
        address (str): of the scheduler.
        target (str): the folder that is written, there or not.
        sources (iterable of str): what is read.

    Raises:
        UserError: Dask is missing, no scheduler answers, it has no workers, or one of these does not see the files or
            has other packages.
    """
    flag = f"--scheduler {address}"
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(f"{flag}: needs the package distributed; {INSTALL}, or leave the option out") from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what ends the job is said in one line
    if not asyncio.run(is_scheduler(address)):
        raise UserError(f"{flag}: no Dask scheduler answers there; start one, as corruptions/README.md says, or leave "
                        "the option out")
    with Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            raise UserError(f"{flag}: the scheduler has no workers; start some, as corruptions/README.md "
                            "says") from error
        with probe(target) as probed:
            check_workers(client, flag, [*(os.path.abspath(path) for path in sources if os.path.exists(path)), probed])
        yield Cluster(client, address)


async def is_scheduler(address):
    """Whether a scheduler answers at once; a `Client` would wait for ever for what is none, such as a web server."""
    from distributed import Security
    from distributed.core import rpc
    try:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as there:
            return (await asyncio.wait_for(there.identity(), CONNECT_SECONDS))["type"] == "Scheduler"
    except (OSError, TypeError):  # the latter of a tls:// address without certificates
        return False


@contextlib.contextmanager
def probe(target):
    """A new file in the folder `target`, or the nearest above that is there, while the body runs; gives its path."""
    folder = os.path.abspath(target)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".seen-by-workers-") as file:
        yield file.name


def check_workers(client, flag, paths):
    """Raise a `UserError` unless all workers that are there now see some paths and have the packages that are here."""
    answers = client.run(remote_call(ROOT), pickle.dumps((worker_info, (paths,))), on_error="return")
    here = packages()
    for worker, answer in answers.items():
        if isinstance(answer, Exception):
            raise UserError(f"{flag}: the worker {worker} cannot run this program ({answer!r}); start it in the same "
                            "environment, where it sees the same files")
        missing, there = answer
        if missing:
            raise UserError(f"{flag}: the worker {worker} does not see {missing[0]}; name folders that all machines "
                            "share")
        for name, version in here.items():
            if there[name] != version:
                raise UserError(f"{flag}: the worker {worker} has {name} {there[name]}, and here it is {version}; "
                                "install the same everywhere, so that the pixels are the same")


def worker_info(paths):
    """What a worker answers: the paths that it does not see, and its packages."""
    return [path for path in paths if not os.path.exists(path)], packages()


def packages():
    """The versions that decide about pixels, a dict."""
    return {"Python": f"{sys.version_info.major}.{sys.version_info.minor}",
            **{name: importlib.import_module(name).__version__ for name in PIXEL_MODULES}}
