"""Atomic writes, and the file formats that the programs share.

A file is written under a temporary name and then renamed, so a file with its final name is always complete.
"""
import contextlib
import csv
import glob
import hashlib
import json
import os
import secrets
import warnings

import numpy as np

from corruptions.utils.errors import UserError

TMP_MARK = ".partial"  # in the name of every incomplete file
LONGEST_NAME = 255  # bytes, on most file systems


def file_hash(path, algorithm="sha256"):
    """Return the hexadecimal hash of a file. `algorithm` is a name that `hashlib.new` takes."""
    content = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


def file_state(path):
    """Return the size, times and inode of a file as text, and the time of its last change.

    The text changes when the file does.
    """
    status = os.stat(path)
    return (f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}",
            max(status.st_mtime, status.st_ctime))


@contextlib.contextmanager
def with_filename(path):
    """Set the file name of an `OSError` to `path` if it has none. The error of a full disk has none.

    The errors of PIL have no number. They keep their text, which a file name would hide.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def atomic_write(path):
    """Yield a temporary path beside `path`. Rename that file to `path` if the body succeeds, and remove it if not.

    The temporary name keeps the suffix, because libraries choose a format by it. The file is synced before it is
    renamed, so it is complete even after a power cut. An `OSError` without a file name, or with the temporary one,
    gets the name `path`.
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{secrets.token_hex(4)}{shortened(name)}")  # also differs between machines
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
    """Return the end of a file's temporary names. A name that is too long loses its first letters, never its suffix."""
    while len(os.fsencode(name)) > LONGEST_NAME - len(f".{'0' * 8}{TMP_MARK}."):
        name = name[1:]
    return f"{TMP_MARK}.{name}"


def remove_temporary(path):
    """Remove temporary files that killed processes have left beside `path`. Nobody may be writing `path`."""
    folder, name = os.path.split(path)
    for leftover in glob.glob(os.path.join(glob.escape(folder), f".{'[0-9a-f]' * 8}{glob.escape(shortened(name))}")):
        os.remove(leftover)


def is_writable(folder):
    """Whether files can be made in a folder, judged by its permissions."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def fsync(path):
    """Wait until the content of the file `path` is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def safe_filename(text):
    """Return `text` with a hyphen for every character that is not safe in a file name."""
    return "".join(c if c.isalnum() or c in "._=+-" else "-" for c in text)


def load_array(path, mmap_mode=None):
    """Return the array in a .npy file, as `numpy.load` does. Pickled objects are never loaded.

    Raises:
        ValueError or EOFError: the file is truncated or holds no array.
        OSError: the file cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe could wait for ever
        raise ValueError("no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about headers that other versions of NumPy wrote
            array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise
    except Exception as error:  # the header is Python source, and its shape may not fit in memory
        raise ValueError("damaged") from error
    if not isinstance(array, np.ndarray):  # an .npz file under another name
        array.close()
        raise ValueError("several arrays")
    return array


def write_array(path, array):
    """Write a .npy file atomically. Its folder is made if it is missing."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with atomic_write(path) as temporary:
        np.save(temporary, array)


def write_bytes(path, content):
    """Write a file atomically."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def write_text(path, text):
    """Write a text file atomically, in UTF-8."""
    write_bytes(path, text.encode())


def read_json(path):
    """Return the content of a JSON file, or None if it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path, value):
    """Write `value` atomically as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path, columns):
    """Write a table atomically as CSV.

    Args:
        path (str): file name.
        columns (dict): name to a sequence of values; all sequences have the same length.
    """
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


@contextlib.contextmanager
def make_folder(path):
    """Make the folder `path` if it is missing. If the body raises, remove the folders that this made and left empty."""
    made, parent = [], os.path.abspath(path)
    while not os.path.isdir(parent):
        made.append(parent)
        parent = os.path.dirname(parent)
    os.makedirs(path, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty
            for folder in made:
                os.rmdir(folder)
        raise


def require_writable_file(flag, path):
    """Make the folder of the file `path` if it is missing, and check that the folder can be written.

    Raises:
        UserError: `path` is a folder, or its folder cannot be written. The error names `flag`.
    """
    if not os.path.basename(path) or os.path.isdir(path):
        raise UserError(f"{flag} {path}: is not a file name; give one")
    require_writable_folder(flag, os.path.dirname(os.path.abspath(path)))


def require_writable_folder(flag, path):
    """Make the folder `path` if it is missing, and check that it can be written.

    Raises:
        UserError: the folder cannot be written. The error names `flag`.
    """
    try:
        os.makedirs(path, exist_ok=True)
        probe = os.path.join(path, f".write-test-{os.getpid()}")
        with open(probe, "wb"):
            pass
        os.remove(probe)
    except OSError as error:
        raise UserError(f"{flag}: cannot write to {path} ({error.strerror}); name another folder") from error
