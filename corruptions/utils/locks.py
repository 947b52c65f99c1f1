"""Locks on files, so that two processes do not write the same files."""
import contextlib
import errno
import fcntl
import os
import socket
import sys
import time

from corruptions.utils.errors import UserError

# Errors of `flock` on file systems without locks. Lustre and NFS can be mounted so.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def file_lock(path, guarded, seconds=0):
    """Hold the lock file `path` while the body runs, so that no other process writes the same files.

    The lock file names the process that holds it, and is removed at the end. A lock file that a killed process has left
    does not block, even if it belongs to another user, as long as it can be read. On a file system without locks, there
    is a warning and no lock.

    Args:
        path (str): the lock file, in an existing folder.
        guarded (str): the file or folder that is written. The error names it.
        seconds (float): time to wait for another process that holds the lock.

    Raises:
        UserError: another process holds the lock, or the file belongs to another user and cannot be read.
    """
    deadline = time.monotonic() + seconds
    while True:
        file = _open_lock(path)  # closed below in every case
        try:
            is_free = _lock(file, guarded, wait=time.monotonic() < deadline)
            # The process that held the lock has removed its lock file. Open the path again if this was that file.
            if is_free and _is_same(file, path):
                break
        except BaseException:
            file.close()
            raise
        file.close()
        if not is_free:
            time.sleep(0.05)
    try:
        if file.writable():
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
    finally:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # in a sticky folder only the owner can remove it
            os.remove(path)
        file.close()


def _open_lock(path):
    try:
        return open(path, "a+", encoding="utf-8")
    except PermissionError:
        if not os.path.exists(path):
            raise
    try:
        return open(path, encoding="utf-8")  # reading is enough for `flock`
    except FileNotFoundError:
        return _open_lock(path)
    except PermissionError as error:
        raise _foreign_lock_error(path) from error


def _foreign_lock_error(path):
    return UserError(f"{path}: cannot be locked, because the file is another user's; remove it if that user's command "
                     "has ended")


def _lock(file, guarded, wait):
    """Lock a file. If another process holds the lock, return False where `wait` is true, and raise where it is not."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if wait:
            return False
        file.seek(0)
        raise UserError(f"{guarded}: {file.read() or 'another process'} is writing this; wait until it ends, or stop "
                        "it") from error
    except OSError as error:
        if error.errno == errno.EBADF:  # NFS locks only files that are open for writing
            raise _foreign_lock_error(file.name) from error
        if error.errno not in NO_LOCKS:
            raise
        print(f"warning: {guarded}: cannot be locked on this file system ({error.strerror}); make sure that no other "
              "process writes it", file=sys.stderr)
    return True


def _is_same(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
