"""A restricted unpickler that builds dictionaries of tensors and calls nothing that a file names."""
import pickletools
from dataclasses import dataclass

import numpy as np

ORDERED_DICT, REBUILD_TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
# Names of PyTorch's storages to the dtypes in them. NumPy has no bfloat16, which is the upper half of a float32.
STORAGES = {"torch FloatStorage": "float32", "torch DoubleStorage": "float64", "torch HalfStorage": "float16",
            "torch BFloat16Storage": "bfloat16", "torch LongStorage": "int64", "torch IntStorage": "int32",
            "torch ShortStorage": "int16", "torch CharStorage": "int8", "torch ByteStorage": "uint8",
            "torch BoolStorage": "bool"}
KNOWN = {ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, *STORAGES}
# Instructions of a pickle that make or arrange data and call nothing.
LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE",
            "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
            "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8"}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set, "NONE": lambda: None,
         "NEWTRUE": lambda: True, "NEWFALSE": lambda: False}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
SINCE_MARK = {"TUPLE": tuple, "LIST": list, "FROZENSET": lambda items: frozenset(check_keys(items)),
              "DICT": lambda items: dict(zip(check_keys(items[::2]), items[1::2], strict=True))}


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, as in PyTorch
class Tensor:
    """Numbers in a file.

    Attributes:
        array (numpy.ndarray): array in C order, with the file's dtype; bfloat16 is float32 here, exactly.
        dtype (str): the file's dtype, such as 'float32' or 'bfloat16'.
    """

    array: np.ndarray
    dtype: str


class GlobalName(str):
    """The name of a function or class, 'MODULE NAME', in a pickle. It stands for nothing that could be called."""


@dataclass(eq=False)
class Placeholder:
    """An object that a `state_dict` does not need, or the result of a call of one. Its content is left out.

    Attributes:
        name (str): name of the class or function, such as 'argparse.Namespace'.
        is_module (bool): whether the object would be a module of PyTorch.
    """

    name: str
    is_module: bool = False

    @property
    def is_tensor(self):
        """Whether the object would be a tensor of PyTorch, of an unusual kind."""
        return self.name.startswith("torch.") and ("._rebuild_" in self.name or self.name.endswith("Storage"))

    def __str__(self):
        return self.name


PLAIN_KEYS = (str, bytes, int, float, type(None), Placeholder, Tensor)


def check_keys(keys):
    """Return keys of a dict, after a check that they are plain or tuples of plain ones.

    Tuples in tuples could take any time to be hashed, or crash.
    """
    for key in keys:
        if not all(isinstance(part, PLAIN_KEYS) for part in (key if isinstance(key, tuple) else (key,))):
            raise ValueError("the key of a dict is not a plain value")
    return keys


def _called(function, arguments, storages):
    """Return the result of a known function. A call of or with a `Placeholder` gives another `Placeholder`."""
    unknown = next((part for part in (function, *arguments) if isinstance(part, Placeholder)), None)
    if unknown is not None:
        return Placeholder(unknown.name)
    if not isinstance(function, GlobalName):
        raise ValueError(function)
    if function == ORDERED_DICT:
        pairs = list(*arguments)
        check_keys([key for key, _ in pairs])
        return dict(pairs)
    if function == REBUILD_TENSOR and isinstance(arguments[0], Tensor):
        return storages.rebuild(*arguments)
    if function == REBUILD_PARAMETER and isinstance(arguments[0], Tensor):
        return arguments[0]
    raise ValueError(function)


def _named(name):
    return GlobalName(name) if name in KNOWN else Placeholder(name.replace(" ", "."))


def interpret(pickled, storages):
    """Carry out the instructions of a pickle that make up a `state_dict`.

    Raises:
        ExpandedTensor: a tensor takes more memory than its numbers.
        Exception: the pickle is damaged, or has other instructions.
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
        target.update(zip(check_keys(pairs[::2]), pairs[1::2], strict=True))

    def extend(kind, items):
        if isinstance(stack[-1], Placeholder):
            return
        if type(stack[-1]) is not kind:
            raise ValueError(stack[-1])
        if kind is list:
            stack[-1].extend(items)
        else:
            stack[-1].update(check_keys(items))

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
            attributes = stack.pop()  # for an OrderedDict, PyTorch's notes on versions
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
