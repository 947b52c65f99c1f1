"""Files of PyTorch (1.6 and later), read and written without PyTorch and without running anything that a file says.

Such a file is a zip archive without compression: FOLDER/data.pkl, a pickle, has the names and shapes, FOLDER/data/0 and
so on the numbers. A pickle is a little program, which may call any function by name, and Python's `pickle` would do so.
Here its instructions are carried out one by one, and of all functions only those that a `state_dict` needs are known,
as words. Whatever else a file names becomes a `Placeholder`, which is carried and never called: settings or NumPy's
numbers beside the weights do not keep these from being read.
"""
import math
import os
import pickle
import pickletools
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.files import atomic_write

ORDERED_DICT, REBUILD_TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
# Names of PyTorch's storages, to the numbers in them; numpy has no bfloat16, which is the upper half of a float32.
STORAGES = {"torch FloatStorage": "float32", "torch DoubleStorage": "float64", "torch HalfStorage": "float16",
            "torch BFloat16Storage": "bfloat16", "torch LongStorage": "int64", "torch IntStorage": "int32",
            "torch ShortStorage": "int16", "torch CharStorage": "int8", "torch ByteStorage": "uint8",
            "torch BoolStorage": "bool"}
MOST_SHARED = 4  # times a file's size all its tensors may take; tied weights, which share their numbers, take less
KNOWN = {ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, *STORAGES}
# Instructions of a pickle that make or arrange data and call nothing.
LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE",
            "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
            "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8"}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set, "NONE": lambda: None,
         "NEWTRUE": lambda: True, "NEWFALSE": lambda: False}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
SINCE_MARK = {"TUPLE": tuple, "LIST": list, "FROZENSET": frozenset,
              "DICT": lambda items: dict(zip(items[::2], items[1::2], strict=True))}


@dataclass(frozen=True, eq=False)  # as in PyTorch, a key of a dict by what it is
class Tensor:
    """Numbers in a file.

    Attributes:
        array (numpy.ndarray): in C order and of the file's dtype, but for bfloat16, which is float32 here, exactly.
        dtype (str): the file's, 'float32' or 'bfloat16' for instance.
    """

    array: np.ndarray
    dtype: str


class GlobalName(str):
    """The name of a function or class, 'MODULE NAME', in a pickle; it stands for nothing that could be called."""


@dataclass(eq=False)
class Placeholder:
    """Something that a `state_dict` has no need of, or what a call of it would make. What it holds is left out.

    Attributes:
        name (str): of the class or function, such as 'argparse.Namespace'.
        is_module (bool): whether it would be a module of PyTorch.
    """

    name: str
    is_module: bool = False

    @property
    def is_tensor(self):
        """Whether it would be a tensor of PyTorch, of another kind than the usual."""
        return self.name.startswith("torch.") and ("._rebuild_" in self.name or self.name.endswith("Storage"))

    def __str__(self):
        return self.name


class ExpandedTensor(Exception):
    """Tensors would take more room than the numbers they are made of; the text says which, and the way out."""


def tensor(numbers, dtype, byte_order="<"):
    """Numbers from bytes.

    Args:
        numbers (bytes): of the file.
        dtype (str): name of their type.
        byte_order (str): '<' or '>'.

    Returns:
        Tensor: of one axis.
    """
    if dtype == "bfloat16":
        upper = np.frombuffer(numbers, f"{byte_order}u2").astype(np.uint32)
        return Tensor((upper << 16).view(np.float32), dtype)
    native = np.dtype(dtype)
    return Tensor(np.frombuffer(numbers, native.newbyteorder(byte_order)).astype(native), dtype)


def read_pth(path):
    """What a file of `torch.save` holds: dicts, lists, tuples, numbers and texts, and `Tensor`s.

    Args:
        path (str): file name.

    Returns:
        object: most often a dict; an `OrderedDict` is a dict, its attributes are left out. What is of another class, or
            made by a function that is not known here, is a `Placeholder`.

    Raises:
        UserError: the file is damaged, of another or of the old format.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(2)
    if start.startswith(b"\x80"):
        raise UserError(f"{path}: is a bare pickle, as PyTorch wrote before 1.6; have PyTorch write it anew, as a zip "
                        f"file: torch.save(torch.load({path!r}), 'new.pth')")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(one.file_size for one in archive.infolist()) > os.path.getsize(path):
                raise ValueError("compressed")  # PyTorch's are not; a small one could unpack to all memory
            [index] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            storages = _Storages(archive, index.removesuffix("data.pkl"), MOST_SHARED * os.path.getsize(path))
            return _interpret(archive.read(index), storages)
    except ExpandedTensor as error:
        raise UserError(f"{path}: {error}") from error
    except OSError:
        raise
    except Exception as error:  # whatever the bytes of a damaged file lead to
        raise UserError(f"{path}: damaged or not a file of PyTorch; make it anew or name another") from error


def refusal(path, placeholder, keys=()):
    """Why a file is refused that has a `Placeholder` where its weights are looked for, and the way out.

    Args:
        path (str): the file.
        placeholder (Placeholder): it.
        keys (tuple): those that lead to it from the outermost dict.

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
    """The numbers in an archive, read when they are asked for; tensors may share them, and all have `room` bytes."""

    def __init__(self, archive, folder, room):
        self.archive, self.folder, self.read, self.room = archive, folder, {}, room
        order = f"{folder}byteorder"
        self.byte_order = ">" if order in archive.namelist() and archive.read(order) == b"big" else "<"

    def get(self, identity):
        """The storage that a pickle names ('storage', TYPE, KEY, DEVICE, NUMBERS), as a `Tensor` of one axis; of a type
        that is not known, a `Placeholder`."""
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
        """The tensor that looks at a storage (`Tensor`) from a number on, with a size and a stride for every axis."""
        steps = [(n - 1) * step for n, step in zip(size, stride, strict=True)]
        if offset < 0 or any(n < 0 for n in size) or any(step < 0 for step in stride):
            raise ValueError(size)
        if 0 in size:
            return Tensor(np.empty(size, storage.array.dtype), storage.dtype)
        numbers = storage.array[offset:]
        if sum(steps) >= len(numbers):
            raise ValueError(size)
        if math.prod(size) > len(numbers):  # a file of a kilobyte could ask for all memory
            raise ExpandedTensor(f"holds a tensor of shape {size} that repeats fewer numbers, as of expand(), and "
                                 "would take far more memory than the file; save its .clone(), or leave it out")
        self.room -= math.prod(size) * numbers.itemsize
        if self.room < 0:
            raise ExpandedTensor(f"its tensors share numbers and would take more than {MOST_SHARED} times the memory "
                                 "of the file; leave out those that repeat others")
        view = np.lib.stride_tricks.as_strided(numbers, size, [step * numbers.itemsize for step in stride])
        return Tensor(np.array(view, order="C"), storage.dtype)


def _called(function, arguments, storages):
    """The result of one of the known functions; a call of or with a `Placeholder` makes another `Placeholder`.
    """
    unknown = next((part for part in (function, *arguments) if isinstance(part, Placeholder)), None)
    if unknown is not None:
        return Placeholder(unknown.name)
    if not isinstance(function, GlobalName):
        raise ValueError(function)
    if function == ORDERED_DICT:
        return dict(*arguments)
    if function == REBUILD_TENSOR and isinstance(arguments[0], Tensor):
        return storages.rebuild(*arguments)
    if function == REBUILD_PARAMETER and isinstance(arguments[0], Tensor):
        return arguments[0]
    raise ValueError(function)


def _named(name):
    return GlobalName(name) if name in KNOWN else Placeholder(name.replace(" ", "."))


def _interpret(pickled, storages):
    """Carry out the instructions of a pickle that a `state_dict` consists of.

    Raises:
        ExpandedTensor: it has a tensor that takes more memory than its numbers.
        Exception: it is damaged, or has other instructions.
    """
    stack, marks, memo = [], [], {}

    def since_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def set_items(pairs):
        target = stack[-1]
        if isinstance(target, Placeholder):
            return
        if type(target) is not dict or len(pairs) % 2:
            raise ValueError(target)
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def extend(kind, items):
        if isinstance(stack[-1], Placeholder):
            return
        if type(stack[-1]) is not kind:
            raise ValueError(stack[-1])
        (stack[-1].extend if kind is list else stack[-1].update)(items)

    for instruction, argument, _ in pickletools.genops(pickled):
        name = instruction.name
        if name in LITERALS:
            stack.append(argument)
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack[-TUPLES[name]:] = [tuple(stack[-TUPLES[name]:])]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP" and not (marks and marks[-1] == len(stack)):
            stack.pop()
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("POP", "POP_MARK"):
            since_mark()
        elif name in SINCE_MARK:
            stack.append(SINCE_MARK[name](since_mark()))
        elif name == "GLOBAL":
            stack.append(_named(argument))
        elif name == "STACK_GLOBAL":
            word = stack.pop()
            stack.append(_named(f"{stack.pop()} {word}"))
        elif name == "BINPERSID":
            stack.append(storages.get(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments, storages))
        elif name == "NEWOBJ_EX":
            options, arguments = stack.pop(), stack.pop()
            if not isinstance(stack[-1], Placeholder) or type(options) is not dict:
                raise ValueError(stack[-1])
            stack.append(_called(stack.pop(), arguments, storages))
        elif name == "BUILD":
            attributes = stack.pop()  # of an OrderedDict they are PyTorch's notes on versions
            if isinstance(stack[-1], Placeholder):
                stack[-1].is_module = isinstance(attributes, dict) and "_modules" in attributes
            elif type(stack[-1]) is not dict:
                raise ValueError(stack[-1])
        elif name == "SETITEM":
            value = stack.pop()
            key = stack.pop()
            set_items([key, value])
        elif name == "SETITEMS":
            set_items(since_mark())
        elif name == "APPEND":
            extend(list, [stack.pop()])
        elif name == "APPENDS":
            extend(list, since_mark())
        elif name == "ADDITEMS":
            extend(set, since_mark())
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(name)
    [value] = stack
    return value


def write_pth(path, arrays):
    """Write a file that `torch.load(path, weights_only=True)` reads as a `state_dict`; tried with PyTorch 2.13.

    Args:
        path (str): file name; replaced whole or left as it was.
        arrays (dict): names to numpy.ndarray, of a dtype in `STORAGES`.

    Raises:
        UserError: another dtype.
        OSError: the file cannot be written.
    """
    records = {"data.pkl": _pickled(arrays), "byteorder": b"little", "version": b"3\n"}
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        def write(name, content):  # with one date for all, so that the same weights make the same file
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0)), content)
        for name, content in records.items():
            write(name, content)
        for key, array in enumerate(arrays.values()):
            write(f"data/{key}", array.astype(array.dtype.newbyteorder("<")).tobytes())


def _pickled(arrays):
    """The pickle of a `state_dict` whose k-th array lies in data/k, in the form that PyTorch writes."""
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
