"""Checksums of the content of files, cached between runs, so that a large tree is read once.

The cache is in the user's cache folder. It stores each checksum with the size, the times and the inode of the file. A
file is read again when one of these has changed.
"""
import concurrent.futures
import contextlib
import functools
import hashlib
import mmap
import os
import sqlite3
import sys
import time
import zlib

import numpy as np
from tqdm import tqdm

from corruptions.utils.files import file_state
from corruptions.utils.signals import raise_if_interrupted

BLOCK_BYTES = 1 << 24
THREADS = 8  # reading and computing checksums release the GIL
FRESH_SECONDS = 2  # a file that has just changed may change again without a new time stamp
KEYS_AT_ONCE = 500  # SQLite's oldest limit on the parameters of a query is 999
FILES_AT_ONCE = 256  # number of checksums that are stored before a signal can stop the work
# Starts of SQLite's error messages that do not mean a damaged file.
LOCKED = ("database is locked", "unable to open", "attempt to write a readonly")

_computed = {}  # key to state and checksum, computed by this process


def cache_path():
    """Return the path of the cache file, below `$XDG_CACHE_HOME` or `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(root, "sharpdro-mindspore", "checksums.sqlite")


def new_hash(content=b""):
    """Return a hash object that has been updated with `content` (bytes). Its `hexdigest` has 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16)


def array_digest(images):
    """Return the hash of an array's shape and of its bytes in C order, 32 hexadecimal digits.

    An array that is memory-mapped for reading is read in parts, and its hash is cached between runs. The memory of
    other arrays may differ from the file.

    Args:
        images (numpy.ndarray): an array of any shape and dtype.
    """
    if not is_read_only_memmap(images):
        return _digest(images)
    start = images.ctypes.data - np.frombuffer(images._mmap, np.uint8).ctypes.data
    path = os.path.realpath(images.filename)
    key = f"{path} {start} {images.shape} {images.strides}"
    [digest] = _kept([path], [key], lambda _: _digest(images))
    return digest


def is_read_only_memmap(images):
    """Whether an array is mapped from a file for reading alone, so that its memory is the content of the file."""
    return isinstance(images, np.memmap) and isinstance(images._mmap, mmap.mmap) and images.mode == "r" and bool(
        images.filename)


def _digest(images):
    digest = new_hash(repr(images.shape).encode())
    rows = max(1, BLOCK_BYTES // max(1, images[:1].nbytes))
    for first in range(0, len(images), rows):
        digest.update(np.ascontiguousarray(images[first:first + rows]))
    if is_read_only_memmap(images):  # the pages stay in the system's file cache
        images._mmap.madvise(mmap.MADV_DONTNEED)
    return digest.hexdigest()


def file_checksums(paths):
    """Return a list with the CRC-32 and the size (int, int) of each file, in the order of `paths`.

    Raises:
        OSError: a file cannot be read.
    """
    paths = [os.path.abspath(path) for path in paths]
    texts = _kept(paths, paths, lambda k: "{} {}".format(*file_checksum(paths[k])))
    return [tuple(map(int, text.split())) for text in texts]


def file_checksum(path):
    """Read a file and return the CRC-32 and the size of its content, a pair of int.

    Raises:
        OSError: the file cannot be read.
    """
    checksum = size = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return checksum, size


def _kept(paths, keys, compute):
    """Return a list of checksums (str), from this process, from the cache, or else from `compute`.

    `compute` maps the number of a path to a str.

    Raises:
        Interrupted: a signal was received; the checksums computed until then are kept.
    """
    states = [file_state(path) for path in paths]
    checksums = {key: _computed[key][1] for key, (state, _) in zip(keys, states, strict=True)
                 if key in _computed and _computed[key][0] == state}
    with _open_cache() as cache:
        known = _read(cache, [key for key in keys if key not in checksums])
        checksums.update({key: known[key][1] for key, (state, _) in zip(keys, states, strict=True)
                          if key in known and known[key][0] == state})
        missing = [k for k, key in enumerate(keys) if key not in checksums]
        with tqdm(total=len(missing), desc="checksums", delay=2, unit=" files", leave=False, disable=None) as bar, \
                concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
            for first in range(0, len(missing), FILES_AT_ONCE):
                batch = missing[first:first + FILES_AT_ONCE]
                begun = time.time()
                rows = [(keys[k], states[k][0], checksum)
                        for k, checksum in zip(batch, threads.map(compute, batch), strict=True)]
                checksums.update({key: checksum for key, _, checksum in rows})
                settled = [row for row, k in zip(rows, batch, strict=True) if states[k][1] < begun - FRESH_SECONDS
                           and file_state(paths[k]) == states[k]]
                _computed.update({key: (state, checksum) for key, state, checksum in settled})
                _write(cache, settled)
                bar.update(len(batch))
                raise_if_interrupted()
    return [checksums[key] for key in keys]


@contextlib.contextmanager
def _open_cache():
    """Yield a connection to the cache, or None if the cache cannot be opened.

    Without a cache, files are read in every run, and one warning says so. A damaged cache is deleted and made again.
    """
    connection = None
    for _ in range(2):
        try:
            os.makedirs(os.path.dirname(cache_path()), exist_ok=True)
            connection = sqlite3.connect(cache_path(), timeout=10)
            connection.execute("CREATE TABLE IF NOT EXISTS checksums (file TEXT PRIMARY KEY, state TEXT, "
                               "checksum TEXT)")
            connection.execute("SELECT file, state, checksum FROM checksums LIMIT 1")
            break
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            connection = None
            is_damaged = isinstance(error, sqlite3.DatabaseError) and not str(error).startswith(LOCKED)
            if is_damaged and os.path.isfile(cache_path()):
                with contextlib.suppress(OSError):
                    os.remove(cache_path())
            else:
                _warn(str(error))
                break
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


@functools.cache
def _warn(reason):
    print(f"warning: {cache_path()}: cannot be used ({reason}); checksums of files are made anew in every run",
          file=sys.stderr)


def _read(cache, keys):
    """Return the rows of the cache for some keys: a dict of key to state and checksum."""
    rows = {}
    with contextlib.suppress(sqlite3.Error, UnicodeEncodeError):
        for first in range(0, len(keys) if cache is not None else 0, KEYS_AT_ONCE):
            batch = keys[first:first + KEYS_AT_ONCE]
            query = f"SELECT file, state, checksum FROM checksums WHERE file IN ({', '.join('?' * len(batch))})"
            rows.update({key: (state, checksum) for key, state, checksum in cache.execute(query, batch)})
    return rows


def _write(cache, rows):
    with contextlib.suppress(sqlite3.Error, UnicodeEncodeError):
        if cache is not None and rows:
            with cache:
                cache.executemany("INSERT OR REPLACE INTO checksums VALUES (?, ?, ?)", rows)
