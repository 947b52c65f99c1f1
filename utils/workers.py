"""What processes that train together, started by `msrun`, know of each other without MindSpore: how many they are, and
whether all are alive and have come as far. A process that was started alone is the only worker.
"""
import contextlib
import os
import secrets
import socket
import struct
import sys
import threading
import time

from utils.errors import UserError

PATIENCE = 3  # seconds in which the first worker can say what went wrong before another one does
# What a worker tells another one, a byte each.
HERE, GO_ON, DONE, SAID = b"h", b"g", b"d", b"s"


def is_scheduler():
    """Whether this is the process of `msrun` that only brings the workers together."""
    return os.environ.get("MS_ROLE") == "MS_SCHED"


def count():
    """How many processes train together."""
    return int(os.environ.get("MS_WORKER_NUM", 1)) if "MS_ROLE" in os.environ else 1


def rank():
    """Number of this worker among them, from 0; the first one alone writes and reports."""
    return int(os.environ.get("RANK_ID", 0)) if count() > 1 else 0


def is_first():
    """Whether this is the worker that writes and reports."""
    return rank() == 0 and not is_scheduler()


def share():
    """This worker's number and how many there are, as `own_part` takes them."""
    return rank(), count()


def own_part(number, share):
    """Which of `number` things, one after the other, are those of one of several that share them: a slice, as long for
    all as that for the first, but for the last ones where the number is no multiple.

    Args:
        number (int): how many there are.
        share (tuple): which one it is, from 0, and how many share them.
    """
    which, all_of_them = share
    size = -(-number // all_of_them)
    return slice(min(which * size, number), min((which + 1) * size, number))


class Watch:
    """Connections between the first worker and all others, which break when one of them dies. Those that are left end
    then, with a line that says so, instead of waiting in a collective for what never comes.

    Args:
        exchange (callable): gives the bytes of all workers, a list, for this one's.
        scheduler (str): address of the scheduler, to which this machine has a way.
    """

    def __init__(self, exchange, scheduler):
        self.way_on = "--resume goes on from the newest checkpoint, with any number of workers"
        self._condition, self._here, self._may_go_on, self._is_said = threading.Condition(), 0, 0, False
        family = socket.AF_INET6 if ":" in scheduler else socket.AF_INET
        listener, own = None, ""
        if is_first():
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((scheduler, 1))  # which sends nothing, and shows the address that others can reach
                address = probe.getsockname()[0]
            listener = socket.create_server((address, 0), family=family)
            own = f"{address} {listener.getsockname()[1]} {secrets.token_hex(16)}"
        host, port, token = exchange(own.encode())[0].decode().split()
        if is_first():
            self.peers = self._accepted(listener, token)
        else:
            connection = socket.create_connection((host, int(port)), timeout=60)
            connection.sendall(token.encode() + struct.pack("!I", rank()))
            self.peers = {0: connection}
        for number, connection in self.peers.items():
            connection.settimeout(None)
            for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)  # for machines that fall silent
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            threading.Thread(target=self._listen, args=(number, connection), daemon=True).start()

    @staticmethod
    def _accepted(listener, token):
        peers = {}
        with listener:
            listener.settimeout(60)
            while len(peers) < count() - 1:
                connection, _ = listener.accept()
                connection.settimeout(60)
                greeting = connection.recv(len(token) + 4, socket.MSG_WAITALL)
                if greeting[:-4] == token.encode():
                    peers[struct.unpack("!I", greeting[-4:])[0]] = connection
                else:  # nobody of ours
                    connection.close()
        return peers

    def _tell(self, message):
        for connection in self.peers.values():
            with contextlib.suppress(OSError):  # it has ended, which its own thread finds
                connection.sendall(message)

    def _listen(self, number, connection):
        while True:
            try:
                message = connection.recv(1)
            except OSError:
                message = b""
            if message == DONE or message == b"" and self._is_said:
                return
            if message in (b"", SAID):
                self._end(number, is_said=message == SAID)
            with self._condition:
                self._here += message == HERE
                self._may_go_on += message == GO_ON
                self._condition.notify_all()

    def _end(self, number, is_said):
        """End this process at once, because a worker has."""
        if not is_said:
            print(f"{os.path.basename(sys.argv[0])}: error: worker {number} of {count()} has died, and so all end; "
                  f"{self.way_on}", file=sys.stderr, flush=True)
        if is_first():
            self._tell(SAID)
        if is_said:
            time.sleep(PATIENCE)  # msrun shows nothing more once a worker has ended
        sys.stdout.flush()
        os._exit(1)  # the main thread may wait in a collective

    def wait(self):
        """Wait, however long it takes, until all workers have come here."""
        if is_first():
            with self._condition:
                self._condition.wait_for(lambda: self._here >= len(self.peers))
                self._here -= len(self.peers)
            self._tell(GO_ON)
        else:
            self._tell(HERE)
            with self._condition:
                self._condition.wait_for(lambda: self._may_go_on > 0)
                self._may_go_on -= 1

    def leave(self):
        """All is done: from now on others may end."""
        self.wait()
        self._tell(DONE)

    def said(self):
        """The first worker has said why all end."""
        self._is_said = True
        self._tell(SAID)


watch = None  # the `Watch` of this process, where several train together


def require_alone(what):
    """Make sure that there is one process.

    Raises:
        UserError: there are several.
    """
    if count() > 1:
        raise UserError(f"{what}: is for one process; start it without msrun")


def goes_on(way):
    """What is said of how to go on where another worker dies, from now on."""
    if watch is not None:
        watch.way_on = way


def tell(message):
    """Say on stderr why this process is about to end. Where several train together the first one says it for all;
    another one, which it did not end in the meantime, what is wrong with this one alone.
    """
    if is_scheduler():
        return
    if not is_first():
        time.sleep(PATIENCE)
        message = f"worker {rank()} of {count()}: {message}"
    print(message, file=sys.stderr, flush=True)
    if is_first() and watch is not None:
        watch.said()
        time.sleep(1)  # in which msrun shows it
