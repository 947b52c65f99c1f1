"""Rank and world size of the processes that `msrun` starts, and a monitor that detects their death, without MindSpore.

A process that was started alone has rank 0 and world size 1.
"""
import contextlib
import os
import secrets
import socket
import struct
import sys
import threading
import time

from corruptions.utils.errors import UserError, set_error_reporter

GRACE_SECONDS = 3  # time for rank 0 to report an error before another rank does
# Messages between ranks, one byte each.
ARRIVED, RELEASED, FINISHED, REPORTED = b"h", b"g", b"d", b"s"


def is_scheduler():
    """Whether this is the scheduler of `msrun`, which has no rank."""
    return os.environ.get("MS_ROLE") == "MS_SCHED"


def world_size():
    """Return the number of processes that train together."""
    return int(os.environ.get("MS_WORKER_NUM", 1)) if "MS_ROLE" in os.environ else 1


def rank():
    """Return the rank of this process, from 0."""
    return int(os.environ.get("RANK_ID", 0)) if world_size() > 1 else 0


def is_main_process():
    """Whether this is rank 0, the only rank that writes files and reports."""
    return rank() == 0 and not is_scheduler()


def rank_and_world_size():
    """Return the tuple (rank, world size) that `rank_slice` takes."""
    return rank(), world_size()


def rank_slice(number, share):
    """Return the slice of `number` items that belongs to a rank. All slices are equally long; the last may be shorter.

    Args:
        number (int): number of items.
        share (tuple): rank and world size.
    """
    rank, world_size = share
    size = -(-number // world_size)
    return slice(min(rank * size, number), min((rank + 1) * size, number))


class PeerMonitor:
    """A failure detector: the connection between rank 0 and another rank breaks when one of the two dies.

    The remaining processes then print one line and exit. Otherwise they would wait in a collective for ever.

    Args:
        all_gather_bytes (callable): bytes of this rank to the list of the bytes of all ranks.
        scheduler (str): address of the scheduler, which this machine can reach.
    """

    def __init__(self, all_gather_bytes, scheduler):
        self.resume_hint = "--resume starts from the newest checkpoint, with any number of workers"
        self._condition, self._arrived, self._released, self._is_reported = threading.Condition(), 0, 0, False
        family = socket.AF_INET6 if ":" in scheduler else socket.AF_INET
        listener, endpoint = None, ""
        if is_main_process():
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((scheduler, 1))  # sends nothing, and reveals the address that other machines can reach
                address = probe.getsockname()[0]
            listener = socket.create_server((address, 0), family=family)
            endpoint = f"{address} {listener.getsockname()[1]} {secrets.token_hex(16)}"
        host, port, token = all_gather_bytes(endpoint.encode())[0].decode().split()
        if is_main_process():
            self.peers = self._accept_peers(listener, token)
        else:
            connection = socket.create_connection((host, int(port)), timeout=60)
            connection.sendall(token.encode() + struct.pack("!I", rank()))
            self.peers = {0: connection}
        for number, connection in self.peers.items():
            connection.settimeout(None)
            for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)  # detects machines that stop responding
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            threading.Thread(target=self._listen, args=(number, connection), daemon=True).start()

    @staticmethod
    def _accept_peers(listener, token):
        peers = {}
        with listener:
            listener.settimeout(60)
            while len(peers) < world_size() - 1:
                connection, _ = listener.accept()
                connection.settimeout(60)
                greeting = connection.recv(len(token) + 4, socket.MSG_WAITALL)
                if greeting[:-4] == token.encode():
                    peers[struct.unpack("!I", greeting[-4:])[0]] = connection
                else:  # a process of somebody else
                    connection.close()
        return peers

    def _send(self, message):
        for connection in self.peers.values():
            with contextlib.suppress(OSError):  # the peer has ended, and its listener thread notices that
                connection.sendall(message)

    def _listen(self, number, connection):
        while True:
            try:
                message = connection.recv(1)
            except OSError:
                message = b""
            if message == FINISHED or message == b"" and self._is_reported:
                return
            if message in (b"", REPORTED):
                self._end(number, is_reported=message == REPORTED)
            with self._condition:
                self._arrived += message == ARRIVED
                self._released += message == RELEASED
                self._condition.notify_all()

    def _end(self, number, is_reported):
        """Exit at once, because a worker has ended."""
        if not is_reported:
            print(f"{os.path.basename(sys.argv[0])}: error: worker {number} of {world_size()} has died, and so all end"
                  f"; {self.resume_hint}", file=sys.stderr, flush=True)
        if is_main_process():
            self._send(REPORTED)
        if is_reported:
            time.sleep(GRACE_SECONDS)  # msrun shows no more output once a worker has ended
        sys.stdout.flush()
        os._exit(1)  # the main thread may wait in a collective

    def barrier(self):
        """Block until all ranks have called this, without a time-out."""
        if is_main_process():
            with self._condition:
                self._condition.wait_for(lambda: self._arrived >= len(self.peers))
                self._arrived -= len(self.peers)
            self._send(RELEASED)
        else:
            self._send(ARRIVED)
            with self._condition:
                self._condition.wait_for(lambda: self._released > 0)
                self._released -= 1

    def shutdown(self):
        """Let the other ranks end. No collective may follow. Collective."""
        self.barrier()
        self._send(FINISHED)

    def announce_error(self):
        """Tell the other ranks that rank 0 has reported why all processes end."""
        self._is_reported = True
        self._send(REPORTED)


monitor = None  # the `PeerMonitor` of this process, if the world size is above 1


def require_single_process(option):
    """Raise a `UserError` that names `option`, unless the world size is 1."""
    if world_size() > 1:
        raise UserError(f"{option}: is for one process; start it without msrun")


def set_resume_hint(way):
    """Set the text on how to resume the run. It is printed when another rank dies."""
    if monitor is not None:
        monitor.resume_hint = way


def report_error(message):
    """Print to stderr why this process is about to end.

    Rank 0 prints for all ranks. Another rank first waits for rank 0, and then prints its own error.
    """
    if is_scheduler():
        return
    if not is_main_process():
        time.sleep(GRACE_SECONDS)
        message = f"worker {rank()} of {world_size()}: {message}"
    print(message, file=sys.stderr, flush=True)
    if is_main_process() and monitor is not None:
        monitor.announce_error()
        time.sleep(1)  # msrun needs this time to show the message


set_error_reporter(report_error)
