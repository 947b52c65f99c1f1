"""Files that are whole or not there: written under a temporary name, then renamed; and locks on what is being written.
"""
import contextlib
import csv
import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import socket
import sys
import time
import warnings

import numpy as np

from utils.errors import UserError

TMP_MARK = ".partial"  # in the name of every file that is not whole yet
LONGEST_NAME = 255  # bytes, of most file systems
# What `flock` says where a file system knows no locks, such as Lustre or NFS, depending on how they are mounted.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def file_hash(path, algorithm="sha256"):
    """Hash of a file, in hexadecimal digits, by the name of a function of `hashlib`."""
    content = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


@contextlib.contextmanager
def with_filename(path):
    """Give an error of the file system that names no file, such as a full disk, the name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def atomic_write(path):
    """Give the body a temporary path beside `path`; rename it to `path` if the body succeeds, remove it if not.

    The temporary name keeps the suffix, because libraries choose a format by it. The content is on disk before the name
    is, so that even after a power cut a file with its final name is whole. An error of the file system is given the
    name `path` where it has none, or the temporary one.
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{secrets.token_hex(4)}{shortened(name)}")  # no two machines have the same
    try:
        with with_filename(path):
            yield temporary
            fsync(temporary)
            os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename = os.fspath(path)
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def shortened(name):
    """The end of the temporary names of a file: all of its name that fits, from the end, so that the suffix is kept."""
    while len(os.fsencode(name)) > LONGEST_NAME - len(f".{'0' * 8}{TMP_MARK}."):
        name = name[1:]
    return f"{TMP_MARK}.{name}"


def remove_temporary(path):
    """Remove what killed processes have left of an `atomic_write` of this path. Nobody may be writing it."""
    folder, name = os.path.split(path)
    for leftover in glob.glob(os.path.join(glob.escape(folder), f".{'[0-9a-f]' * 8}{glob.escape(shortened(name))}")):
        os.remove(leftover)


def is_writable(folder):
    """Whether files can be made in a folder, as far as the system says it beforehand."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def fsync(path):
    """Wait until the content of a file is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path, guarded, seconds=0):
    """Hold the lock file `path` while the body runs, so that no other process writes the same things.

    The file names its owner, and is removed in the end; one that a killed process has left is no hindrance, also where
    it belongs to another user and can be read. Where the file system knows no locks there is a warning, and no lock.

    Args:
        path (str): the lock file, in a folder that is there.
        guarded (str): the file or folder that is written, for the error.
        seconds (float): how long to wait for another process that holds the lock.

    Raises:
        UserError: another process holds the lock, or the file belongs to another user and cannot be read.
    """
    deadline = time.monotonic() + seconds
    while True:
        file = _open_lock(path)  # closed below, on every way out
        try:
            is_free = _lock(file, guarded, wait=time.monotonic() < deadline)
            # Whoever held the lock until now has removed the file; if that is the one that was opened, open anew.
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
        with contextlib.suppress(FileNotFoundError, PermissionError):  # that of another user stays in a sticky folder
            os.remove(path)
        file.close()


def _open_lock(path):
    try:
        return open(path, "a+", encoding="utf-8")
    except PermissionError:
        if not os.path.exists(path):
            raise
    try:
        return open(path, encoding="utf-8")  # which `flock` needs no more than
    except FileNotFoundError:
        return _open_lock(path)
    except PermissionError as error:
        raise _others_lock(path) from error


def _others_lock(path):
    return UserError(f"{path}: cannot be locked, because the file is another user's; remove it if that user's command "
                     "has ended")


def _lock(file, guarded, wait):
    """Lock a file; return whether that went well. Where another process holds it, that is an error, unless `wait`."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if wait:
            return False
        file.seek(0)
        raise UserError(f"{guarded}: {file.read() or 'another process'} is writing this; wait until it ends, or stop "
                        "it") from error
    except OSError as error:
        if error.errno == errno.EBADF:  # NFS locks only what is open for writing
            raise _others_lock(file.name) from error
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


def safe_filename(text):
    """`text` without the signs that do not belong into a file's name."""
    return "".join(c if c.isalnum() or c in "._=+-" else "-" for c in text)


def load_array(path, mmap_mode=None):
    """The array in a .npy file, see `numpy.load`.

    Raises:
        ValueError or EOFError: the file is truncated, or anything else.
        OSError: it cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would keep its reader waiting for ever
        raise ValueError("no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of other kinds than numpy writes now
            array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise
    except Exception as error:  # a header is read as Python's source, and its shape may need all memory
        raise ValueError("damaged") from error
    if not isinstance(array, np.ndarray):  # of an .npz file, whatever its name is
        array.close()
        raise ValueError("several arrays")
    return array


def read_json(path):
    """What a JSON file holds, or None where it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path, value):
    """Write `value` as indented JSON, whole or not at all."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def write_csv(path, columns):
    """Write a table as CSV, whole or not at all.

    Args:
        path (str): file name.
        columns (dict): name to a sequence of values, all of one length.
    """
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
