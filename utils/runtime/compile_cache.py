"""A cache of compiled graphs in a folder (`--compile_cache`).

The next process with the same settings and code starts sooner. MindSpore can store compiled graphs, but it identifies
them only by their number within the process, and it keeps using the first folder that it was given. Each graph
therefore has a folder of its own here, named by a hash of everything that goes into the graph. Only the first graph
that a process asks for is stored. If the folder cannot be read or written, the step is compiled without it. The folder
is only a cache and may be removed at any time.
"""
import contextlib
import functools
import glob
import hashlib
import importlib.metadata
import os
import platform
import secrets
import shutil
import time

import mindspore as ms

from utils.runtime.device import MINDSPORE_VERSION, hardware
from corruptions.utils.files import TMP_MARK, file_hash, read_json, write_json
from utils.runtime import distributed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# All code that `main.py` imports, because MindSpore also compiles again when any of it has changed.
CODE_FOLDERS = ("corruptions", "dataset", "losses", "models", "utils")
CODE = ("main.py", *(os.path.join(room, "**", "*.py") for room in CODE_FOLDERS))
CHECKSUMS = "sha256.json"  # file with the hashes of a graph's files
HOUR = 3600  # seconds; no compilation takes so long
# The beginnings of names in the environment that change how MindSpore compiles.
VARIABLES = ("MS_ASCEND", "MS_DEV", "MS_DISABLE", "MS_ENABLE")
is_used = False  # whether this process has already asked for its graph


@functools.cache
def code():
    """Return the hash of all code that graphs are compiled from."""
    digest = hashlib.sha256()
    for path in sorted(path for name in CODE for path in glob.glob(name, root_dir=ROOT, recursive=True)):
        digest.update(f"{path} {file_hash(os.path.join(ROOT, path))}\n".encode())
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        digest.update(importlib.metadata.version("mindcv").encode())
    return digest.hexdigest()


def compile_cached(cell, inputs, folder, key, log):
    """Compile a cell, or load the graph that another process has compiled.

    A stored graph that is damaged or incomplete is compiled again.

    Args:
        cell (nn.Cell): the cell, in the mode in which it will be called.
        inputs (tuple of Tensor): tensors with the shapes and dtypes of the later calls.
        folder (str): the folder of all graphs; made if it is missing.
        key (object): everything that goes into the graph besides the code and the machine; compared by its `repr`.
        log (callable): a function that takes a warning if the folder cannot be read or written.
    """
    global is_used
    if is_used:
        return
    is_used = True
    identity = (key, [(tensor.shape, str(tensor.dtype)) for tensor in inputs], code(), MINDSPORE_VERSION,
                platform.python_version(), platform.machine(), hardware(), distributed.rank_and_world_size(),
                sorted(item for item in os.environ.items() if item[0].startswith(VARIABLES)))
    path = os.path.join(folder, hashlib.sha256(repr(identity).encode()).hexdigest()[:32])
    try:
        _remove_leftovers(path)
        if _is_whole(path):
            _compile(cell, inputs, path)
        else:
            _compile_and_keep(cell, inputs, path)
    except OSError as error:
        log(f"warning: --compile_cache {folder}: {error.strerror}; the compiled step is not kept")


def _compile_and_keep(cell, inputs, path):
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{secrets.token_hex(4)}{TMP_MARK}.{name}")
    os.makedirs(temporary)
    try:
        _compile(cell, inputs, temporary)
        write_json(os.path.join(temporary, CHECKSUMS), _sums(temporary))
        if not _is_whole(path):  # another process may have stored the same graph in the meantime
            shutil.rmtree(path, ignore_errors=True)
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _compile(cell, inputs, path):
    ms.set_context(enable_compile_cache=True, compile_cache_path=path)
    try:
        cell.compile(*inputs)
    finally:
        ms.set_context(enable_compile_cache=False)


def _remove_leftovers(path):
    """Remove incomplete copies of the same graph that killed processes have left."""
    folder, name = os.path.split(path)
    for leftover in glob.glob(os.path.join(glob.escape(folder), f".*{TMP_MARK}.{name}")):
        with contextlib.suppress(FileNotFoundError):  # another process may have removed the folder
            if time.time() - os.stat(leftover).st_mtime > HOUR:
                shutil.rmtree(leftover, ignore_errors=True)


def _sums(path):
    """Return the hashes of the files that MindSpore has written to a folder: relative path to hash."""
    paths = (os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files if file != CHECKSUMS)
    return {os.path.relpath(file, path): file_hash(file) for file in sorted(paths)}


def _is_whole(path):
    sums = read_json(os.path.join(path, CHECKSUMS))
    return bool(sums) and sums == _sums(path)
