"""Weights in files: .ckpt, .safetensors, .pth and .npz, read without running anything that they hold."""
import os

import mindspore as ms
import numpy as np
import safetensors
import safetensors.numpy

from models.state_dict import Weights, find_state_dict, fitting_prefixes, part_names, weight_names, without_prefix
from models.torch_files import read_pth, tensor, write_pth
from models.torch_names import mindspore_names, torch_name
from models.unpickle import Tensor
from utils.errors import UserError
from utils.files import atomic_write
from utils.records.checkpoint import progress_of, read_checkpoint, write_checkpoint
from utils.records.trained import WEIGHT_SUFFIXES

# What checkpoints of a train step have beside weights, optimiser's copies of these, and single numbers; and what they
# are known by, the count of steps that every optimiser of MindSpore keeps.
STEP_PARTS = ("group_weights", "numbers")
STEPS_DONE = "global_step"
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
               "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


def _suffix(path):
    suffix = os.path.splitext(path)[1]
    if suffix not in WEIGHT_SUFFIXES:
        raise UserError(f"{path}: the name of a file with weights ends in {', '.join(WEIGHT_SUFFIXES)}, by which the "
                        "format is known; rename it")
    return suffix


def format_of(path):
    """The format of a file with weights, as the suffix that goes with it: '.pth', '.safetensors' or '.ckpt'. Content
    tells the first two, whatever the file is called; the suffix tells of any other file, and of one that is missing.

    Raises:
        UserError: another suffix.
        OSError: the file cannot be read.
    """
    suffix, start = _suffix(path), b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            start = file.read(9)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= os.path.getsize(path) - 8:
        return ".safetensors"
    if start.startswith((b"PK\x03\x04", b"\x80")):  # a zip file, or a bare pickle of PyTorch before 1.6
        return ".pth"
    return ".pth" if suffix == ".pt" else suffix


def read_weights(path, network=None):
    """Read weights in any of the formats, as `format_of` finds it; nothing in the file is run.

    Args:
        path (str): MindSpore's .ckpt, a file of PyTorch with a `state_dict`, .safetensors.
        network (nn.Cell or None): what has its names in a .ckpt is a weight in any case; of the rest names tell. Its
            names tell, too, whether a prefix that all names in the file share is taken off.

    Returns:
        Weights

    Raises:
        UserError: the file is damaged, of another format, or holds something else.
        OSError: it cannot be read.
    """
    kind = format_of(path)
    if kind == ".ckpt":
        found = _read_ckpt(path, network)
    elif kind == ".safetensors":
        found = Weights(path, _read_safetensors(path))
    else:
        found = find_state_dict(path, read_pth(path), network)
    return without_prefix(found, network)


def _read_ckpt(path, network):
    stored = read_checkpoint(path)
    own = set() if network is None else {one.name for one in network.get_parameters()}

    def is_weight(name):
        value = stored[name]
        if name in own or not isinstance(value, ms.Tensor):  # it may hold texts, too
            return name in own
        root, _, rest = name.partition(".")
        is_number = not rest and value.size == 1
        if STEPS_DONE not in stored:  # weights alone, to which a program may have added the number of epochs
            return not is_number or value.is_floating_point()
        is_copy = rest in stored and stored[rest].shape == value.shape  # accum.fc.weight, of an optimiser
        return not (is_copy or is_number or root in STEP_PARTS)
    tensors = {}
    for name in filter(is_weight, stored):
        value = stored[name]
        dtype = str(value.dtype).lower()
        if torch_name(name) in tensors:
            raise UserError(f"{path}: {name} and another are both called {torch_name(name)} in PyTorch; give -m, the "
                            "network")
        tensors[torch_name(name)] = Tensor((value.float() if dtype == "bfloat16" else value).asnumpy(), dtype)
    return Weights(path, tensors, [name for name in stored if not is_weight(name)], epochs=progress_of(stored).epochs)


def _read_safetensors(path):
    with open(path, "rb") as file:
        content = file.read()
    try:  # `safetensors.numpy.load` does no more, and stops at bfloat16
        tensors = {name: (tensor(bytes(entry["data"]), SAFETENSORS[entry["dtype"]]), entry["shape"])
                   for name, entry in safetensors.deserialize(content)}
        return {name: Tensor(flat.array.reshape(shape), flat.dtype) for name, (flat, shape) in tensors.items()}
    except KeyError as error:
        raise UserError(f"{path}: holds numbers of type {error}, which no network here has; convert them") from error
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged or not a .safetensors file; make it anew or name another") from error


def keep_a_prefix(weights, network):
    """The way out where a file has more than one network, or a network and other parts: with which prefixes its names
    begin, and how to keep those of one. Empty where no prefix leads to names of the network.
    """
    wanted, path = weight_names(network), weights.path
    fitting = fitting_prefixes(weights.tensors, wanted)
    prefix = max(fitting, key=fitting.get, default="")
    if fitting[prefix] <= max(fitting[""], len(wanted) // 2):
        return ""
    parts = part_names([weights.prefix + name for name in weights.tensors])
    text = f"its names begin with {parts}; keep those of one prefix"
    kind = format_of(path)
    if kind == ".ckpt":
        return text
    prefix, new = weights.prefix + prefix, f"{os.path.splitext(os.path.basename(path))[0]}_weights.pth"
    modules, stored = "torch", f"torch.load({path!r}, map_location='cpu', weights_only=True)"
    if kind == ".safetensors":
        modules, stored = "torch, safetensors.torch", f"safetensors.torch.load_file({path!r})"
    stored += "".join(f"[{key!r}]" for key in weights.keys)
    return (f'{text}, with PyTorch: python -c "import {modules}; found = {stored}; torch.save({{'
            f"name.removeprefix({prefix!r}): value for name, value in found.items() if name.startswith({prefix!r})}}, "
            f'{new!r})"')


def write_weights(path, weights, network=None):
    """Write `Weights` in any of the formats, by the suffix; the file is replaced whole or left as it was.

    A .ckpt gets float32 where the weights have 16 bits, which is exact; with a network it gets float32 throughout. All
    else stays as it is, counters of batches, too.

    Args:
        path (str): file name.
        weights (Weights): they.
        network (nn.Cell or None): tells names in a .ckpt; without one a rule does (`mindspore_names`).

    Raises:
        UserError: a dtype that the format does not have, another suffix, or a name that would come back as another.
        OSError: the file cannot be written.
    """
    suffix, arrays = _suffix(path), {name: value.array for name, value in weights.tensors.items()}
    if suffix == ".safetensors":
        content = safetensors.numpy.save(arrays, {"format": "pt"})
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            file.write(content)
    elif suffix != ".ckpt":
        write_pth(path, arrays)
    else:
        names = mindspore_names({name: array.shape for name, array in arrays.items()})
        if network is not None:
            names.update({torch_name(parameter.name): parameter.name for parameter in network.get_parameters()})
        for name in names:
            if torch_name(names[name]) != name:
                raise UserError(f"{weights.path}: {name} would come back as {torch_name(names[name])}, because "
                                "MindSpore's normalisations call theirs so; rename it in the state_dict")
        narrow = ("float16", "float64") if network is not None else ("float16",)
        write_checkpoint(path, {names[name]: ms.Tensor(array.astype(np.float32) if array.dtype in narrow else array)
                                for name, array in arrays.items()})
