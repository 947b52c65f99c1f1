"""Compiled graphs that are kept in a folder (`--compile_cache`), so that the next process with the same settings and
code starts sooner.

MindSpore keeps them, but knows them by their number within the process alone, and stays with the first folder that it
was given. So here each has a folder of its own, which is named by all that goes into the graph, and only the first
graph that a process asks for is kept. Where the folder gives trouble the step is compiled without it: it is but a
cache, which may be removed at any time.
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

from utils.runtime.device import MINDSPORE_VERSION, device
from utils.files import TMP_MARK, file_hash, read_json, write_json
from utils.runtime import distributed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# All code that `main.py` imports, because MindSpore, too, compiles anew where any of that has changed.
CODE_FOLDERS = ("corruptions", "dataset", "losses", "models", "utils")
CODE = ("main.py", *(os.path.join(room, "**", "*.py") for room in CODE_FOLDERS))
CHECKSUMS = "sha256.json"  # of a graph's files
HOUR = 3600  # of seconds; no compilation takes so long
is_used = False  # whether this process has had its graph


@functools.cache
def code():
    """Hash of all code that graphs are compiled from."""
    found = hashlib.sha256()
    for path in sorted(path for name in CODE for path in glob.glob(name, root_dir=ROOT, recursive=True)):
        found.update(f"{path} {file_hash(os.path.join(ROOT, path))}\n".encode())
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found.update(importlib.metadata.version("mindcv").encode())
    return found.hexdigest()


def compile_cached(cell, inputs, folder, key, log):
    """Compile a cell, or take what another process has compiled of it.

    A graph that was damaged, or left half-written, is compiled anew.

    Args:
        cell (nn.Cell): in the mode in which it will be called.
        inputs (tuple of Tensor): of the shapes and types with which it will be called.
        folder (str): of all graphs; made if it is missing.
        key (object): all that goes into the graph besides the code and the machine; its `repr` counts.
        log (callable): is told where the folder cannot be read or written.
    """
    global is_used
    if is_used:
        return
    is_used = True
    about = (key, [(tensor.shape, str(tensor.dtype)) for tensor in inputs], code(), MINDSPORE_VERSION,
             platform.python_version(), platform.machine(), device(), distributed.rank_and_world_size())
    path = os.path.join(folder, hashlib.sha256(repr(about).encode()).hexdigest()[:32])
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
        if not _is_whole(path):  # which it is where another process was faster
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
    """Remove what killed processes have left of the same graph."""
    folder, name = os.path.split(path)
    for leftover in glob.glob(os.path.join(glob.escape(folder), f".*{TMP_MARK}.{name}")):
        with contextlib.suppress(FileNotFoundError):  # another process may have removed it
            if time.time() - os.stat(leftover).st_mtime > HOUR:
                shutil.rmtree(leftover, ignore_errors=True)


def _sums(path):
    """Hashes of the files that MindSpore has written to a folder, by their paths within it."""
    found = (os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files if file != CHECKSUMS)
    return {os.path.relpath(file, path): file_hash(file) for file in sorted(found)}


def _is_whole(path):
    sums = read_json(os.path.join(path, CHECKSUMS))
    return bool(sums) and sums == _sums(path)
