"""Files of PyTorch (1.6 and later), read and written without PyTorch and without running anything in a file.

A file is a zip archive without compression. FOLDER/data.pkl, a pickle, has the names and shapes; FOLDER/data/0 and so
on have the numbers. A pickle is a little program that may call any function by name, and Python's `pickle` would do so.
Here its instructions are carried out one by one. Only the functions that a `state_dict` needs are known, and only as
words. Anything else that a file names becomes a `Placeholder`, which is carried and never called. Settings or NumPy's
numbers beside the weights therefore do not keep the weights from being read.
"""
import math
import os
import pickle
import struct
import zipfile

import numpy as np

from corruptions.utils.errors import UserError
from corruptions.utils.files import atomic_write
from models.unpickle import ORDERED_DICT, REBUILD_TENSOR, STORAGES, GlobalName, Placeholder, Tensor, interpret

MOST_SHARED = 4  # most memory of all tensors, in sizes of the file; tied weights, which share their numbers, take less


class ExpandedTensor(Exception):
    """The error for tensors that would take more memory than their numbers. Its text says which, and the way out."""


def tensor(numbers, dtype, byte_order="<"):
    """Return a `Tensor` with the numbers in bytes.

    Args:
        numbers (bytes): bytes of the file.
        dtype (str): name of the type of the numbers.
        byte_order (str): '<' or '>'.

    Returns:
        Tensor: tensor with one axis.
    """
    if dtype == "bfloat16":
        upper = np.frombuffer(numbers, f"{byte_order}u2").astype(np.uint32)
        return Tensor((upper << 16).view(np.float32), dtype)
    native = np.dtype(dtype)
    return Tensor(np.frombuffer(numbers, native.newbyteorder(byte_order)).astype(native), dtype)


def read_pth(path):
    """Read the content of a file of `torch.save`: dicts, lists, tuples, numbers and texts, and `Tensor`s.

    Args:
        path (str): file name.

    Returns:
        object: most often a dict. An `OrderedDict` becomes a dict, and its attributes are left out. An object of
            another class, or one made by an unknown function, becomes a `Placeholder`.

    Raises:
        UserError: the file is damaged, or has another format or the old one.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(2)
    if start.startswith(b"\x80"):
        raise UserError(f"{path}: is a bare pickle, as PyTorch wrote before 1.6; have PyTorch write it anew, as a zip "
                        f"file: torch.save(torch.load({path!r}), 'new.pth')")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path):
                raise ValueError("compressed")  # PyTorch's are not; a small one could fill all memory
            [index] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            storages = _Storages(archive, index.removesuffix("data.pkl"), MOST_SHARED * os.path.getsize(path))
            return interpret(archive.read(index), storages)
    except ExpandedTensor as error:
        raise UserError(f"{path}: {error}") from error
    except OSError:
        raise
    except Exception as error:  # damaged bytes can lead to nearly any error
        raise UserError(f"{path}: damaged or not a file of PyTorch; make it anew or name another") from error


def refusal(path, placeholder, keys=()):
    """Return the error for a file that has a `Placeholder` where its weights are looked for. Its text has the way out.

    Args:
        path (str): the file.
        placeholder (Placeholder): the placeholder.
        keys (tuple): keys that lead to the placeholder from the outermost dict.

    Returns:
        UserError
    """
    new = f"{os.path.splitext(os.path.basename(path))[0]}_weights.pth"
    loaded = f"torch.load({path!r}, map_location='cpu', weights_only=False)"
    if placeholder.is_module:
        loaded += "".join(f"[{key!r}]" for key in keys)
        return UserError(f"{path}: holds a whole module ({placeholder.name}), which cannot be read without running "
                         "code; if you trust it, save its weights alone, with PyTorch and where the module's code is: "
                         f"import torch; module = {loaded}; torch.save(module.state_dict(), {new!r})")
    text = (f"{path}: asks for {placeholder.name}{f' as {keys[-1]}' if keys else ''}, which no weights need, and to "
            "read it could run code; nothing was run. Name a file with a state_dict alone, as torch.save("
            "module.state_dict(), ...) writes it")
    if keys:
        loaded += "".join(f"[{key!r}]" for key in keys[:-1])
        text += (f"; if you trust this one, PyTorch saves its tensors: import torch; found = {loaded}; torch.save("
                 "{name: torch.as_tensor(value).as_subclass(torch.Tensor) for name, value in found.items() "
                 f"if torch.is_tensor(value) or getattr(value, 'ndim', 0)}}, {new!r})")
    return UserError(text)


class _Storages:
    """The numbers in an archive, read when they are asked for.

    Tensors may share numbers. All tensors together have `room` bytes.
    """

    def __init__(self, archive, folder, room):
        self.archive, self.folder, self.read, self.room = archive, folder, {}, room
        order = f"{folder}byteorder"
        self.byte_order = ">" if order in archive.namelist() and archive.read(order) == b"big" else "<"

    def get(self, identity):
        """Return the storage that a pickle names ('storage', TYPE, KEY, DEVICE, NUMBERS), as a `Tensor` of one axis.

        If the type is unknown, return a `Placeholder`.
        """
        kind, name, key, _, count = identity
        if isinstance(name, Placeholder):
            return name
        if kind != "storage" or not isinstance(name, GlobalName):
            raise ValueError(kind)
        if (name, key) not in self.read:
            self.read[name, key] = tensor(self.archive.read(f"{self.folder}data/{key}"), STORAGES[name],
                                          self.byte_order)
        if len(self.read[name, key].array) != count:
            raise ValueError(count)
        return self.read[name, key]

    def rebuild(self, storage, offset, size, stride, *_):
        """Return the tensor that views a storage (`Tensor`) from an offset, with a size and a stride for every axis."""
        steps = [(n - 1) * step for n, step in zip(size, stride, strict=True)]
        if offset < 0 or any(n < 0 for n in size) or any(step < 0 for step in stride):
            raise ValueError(size)
        if 0 in size:
            return Tensor(np.empty(size, storage.array.dtype), storage.dtype)
        numbers = storage.array[offset:]
        if sum(steps) >= len(numbers):
            raise ValueError(size)
        if math.prod(size) > len(numbers):  # a file of a kilobyte could ask for all memory
            raise ExpandedTensor(f"holds a tensor of shape {size} that repeats fewer numbers, as expand() makes it, "
                                 "and would take far more memory than the file; save its .clone(), or leave it out")
        self.room -= math.prod(size) * numbers.itemsize
        if self.room < 0:
            raise ExpandedTensor(f"its tensors share numbers and would take more than {MOST_SHARED} times the memory "
                                 "of the file; leave out those that repeat others")
        view = np.lib.stride_tricks.as_strided(numbers, size, [step * numbers.itemsize for step in stride])
        return Tensor(np.array(view, order="C"), storage.dtype)


def write_pth(path, arrays):
    """Write a file that `torch.load(path, weights_only=True)` reads as a `state_dict`; tried with PyTorch 2.13.

    Args:
        path (str): file name; the file is replaced as a whole or left as it was.
        arrays (dict): names to numpy.ndarray, with a dtype in `STORAGES`.

    Raises:
        UserError: an array has another dtype.
        OSError: the file cannot be written.
    """
    records = {"data.pkl": _pickled(arrays), "byteorder": b"little", "version": b"3\n"}
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        def write(name, content):  # one date for all, so that the same weights make the same file
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0)), content)
        for name, content in records.items():
            write(name, content)
        for key, array in enumerate(arrays.values()):
            write(f"data/{key}", array.astype(array.dtype.newbyteorder("<")).tobytes())


def _pickled(arrays):
    """Return the pickle of a `state_dict`, in PyTorch's form, with the k-th array in data/k."""
    storages = {dtype: name for name, dtype in STORAGES.items()}

    def word(name):
        return pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n"

    def text(value):
        encoded = value.encode()
        return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded

    def whole(value):
        if value < 2 ** 31:
            return pickle.BININT + struct.pack("<i", value)
        encoded = pickle.encode_long(value)
        return pickle.LONG1 + bytes([len(encoded)]) + encoded

    def group(*items):
        return pickle.MARK + b"".join(items) + pickle.TUPLE

    ordered_dict = word(ORDERED_DICT) + pickle.EMPTY_TUPLE + pickle.REDUCE
    parts = [pickle.PROTO + b"\x02", ordered_dict, pickle.MARK]
    for key, (name, array) in enumerate(arrays.items()):
        if array.dtype.name not in storages:
            raise UserError(f"{name}: is of dtype {array.dtype}, which PyTorch's files do not hold; leave it out")
        storage = group(text("storage"), word(storages[array.dtype.name]), text(str(key)), text("cpu"),
                        whole(array.size)) + pickle.BINPERSID
        strides = [int(np.prod(array.shape[axis + 1:])) for axis in range(array.ndim)]  # in numbers, not bytes
        parts += [text(name), word(REBUILD_TENSOR),
                  group(storage, whole(0), group(*map(whole, array.shape)), group(*map(whole, strides)),
                        pickle.NEWFALSE, ordered_dict), pickle.REDUCE]
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])
