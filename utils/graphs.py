"""Compiled graphs that are kept in a folder (`--compile_cache`), so that the next process with the same settings and
code starts sooner.

MindSpore keeps them, but knows them by their number within the process alone, and stays with the first folder that it
was given. So here each has a folder of its own, which is named by all that goes into the graph, and only the first
graph that a process asks for is kept.
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

import mindspore as ms

from utils.device import MINDSPORE_VERSION, device
from utils import workers
from utils.errors import UserError
from utils.files import PARTIAL, file_hash, read_json, write_json

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOMS = ("losses", "models", "utils")  # whose code is in graphs
SUMS = "sha256.json"  # of a graph's files
asked = False  # whether this process has had its graph


@functools.cache
def code():
    """Hash of all code that graphs are compiled from."""
    found = hashlib.sha256()
    paths = (path for room in ROOMS for path in glob.glob(os.path.join(ROOT, room, "**", "*.py"), recursive=True))
    for path in sorted(paths):
        found.update(f"{os.path.relpath(path, ROOT)} {file_hash(path)}\n".encode())
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found.update(importlib.metadata.version("mindcv").encode())
    return found.hexdigest()


def compile_kept(cell, inputs, folder, key):
    """Compile a cell, or take what another process has compiled of it.

    A graph that was damaged, or left half-written, is compiled anew.

    Args:
        cell (nn.Cell): in the mode in which it will be called.
        inputs (tuple of Tensor): of the shapes and types with which it will be called.
        folder (str): of all graphs; made if it is missing.
        key (object): all that goes into the graph besides the code and the machine; its `repr` counts.

    Raises:
        UserError: the folder cannot be written.
    """
    global asked
    if asked:
        return
    asked = True
    about = (key, [(tensor.shape, str(tensor.dtype)) for tensor in inputs], code(), MINDSPORE_VERSION,
             platform.python_version(), device(), workers.share())
    path = os.path.join(folder, hashlib.sha256(repr(about).encode()).hexdigest()[:32])
    if _is_whole(path):
        return _compile(cell, inputs, path)
    try:
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f".{secrets.token_hex(4)}{PARTIAL}.{os.path.basename(path)}")
        os.mkdir(temporary)
    except OSError as error:
        raise UserError(f"--compile_cache {folder}: {error.strerror}; name a folder that can be written") from error
    try:
        _compile(cell, inputs, temporary)
        write_json(os.path.join(temporary, SUMS), _sums(temporary))
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _compile(cell, inputs, path):
    ms.set_context(enable_compile_cache=True, compile_cache_path=path)
    try:
        cell.compile(*inputs)
    finally:
        ms.set_context(enable_compile_cache=False)


def _sums(path):
    """Hashes of the files that MindSpore has written to a folder."""
    return {os.path.relpath(file, path): file_hash(file)
            for file in sorted(glob.glob(os.path.join(path, "rank_*", "**"), recursive=True)) if os.path.isfile(file)}


def _is_whole(path):
    sums = read_json(os.path.join(path, SUMS))
    return bool(sums) and sums == _sums(path)
