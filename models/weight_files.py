"""Weights in files: .ckpt, .safetensors and .pth, read without running anything in the files."""
import json
import os
import shlex

import mindspore as ms
import numpy as np
import safetensors
import safetensors.numpy

from corruptions.utils.errors import UserError
from corruptions.utils.files import write_bytes
from models.state_dict import Weights, find_state_dict, fitting_prefixes, part_names, weight_names, without_prefix
from models.torch_files import read_pth, tensor, write_pth
from models.torch_names import mindspore_names, torch_name
from models.unpickle import Tensor
from utils.records.checkpoint import EPOCHS, progress_of, read_checkpoint, write_checkpoint
from utils.records.trained import WEIGHT_SUFFIXES

# The entries of a train step's checkpoint beside weights, the optimiser's copies of weights, and single numbers. These
# checkpoints are known by the count of steps that every optimiser of MindSpore keeps.
STEP_PARTS = ("group_weights", "numbers")
STEPS_DONE = "global_step"
OPTIONS_ENTRY = "data_options"  # in the metadata of a .safetensors file
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
               "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


def _suffix(path):
    suffix = os.path.splitext(path)[1]
    if suffix not in WEIGHT_SUFFIXES:
        raise UserError(f"{path}: the name of a file with weights ends in {', '.join(WEIGHT_SUFFIXES)}, by which the "
                        "format is known; rename it")
    return suffix


def format_of(path):
    """Return the format of a file with weights, as its suffix: '.pth', '.safetensors' or '.ckpt'.

    The content shows the first two formats, whatever the file is called. The suffix shows the format of any other file,
    and of a missing file.

    Raises:
        UserError: the file has another suffix.
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
    """Read weights in any of the formats, as `format_of` finds it. Nothing in the file is run.

    Args:
        path (str): MindSpore's .ckpt, a file of PyTorch with a `state_dict`, or .safetensors.
        network (nn.Cell or None): network that the weights may be for. An entry of a .ckpt that has one of its names is
            a weight in any case; for other entries the name tells. The names of the network also tell whether a prefix
            that all names in the file share is taken off.

    Returns:
        Weights

    Raises:
        UserError: the file is damaged, has another format, or holds something else.
        OSError: the file cannot be read.
    """
    kind = format_of(path)
    if kind == ".ckpt":
        weights = _read_ckpt(path, network)
    elif kind == ".safetensors":
        weights = Weights(path, _read_safetensors(path))
    else:
        weights = find_state_dict(path, read_pth(path), network)
    return without_prefix(weights, network)


def _read_ckpt(path, network):
    stored = read_checkpoint(path)
    network_names = set() if network is None else {parameter.name for parameter in network.get_parameters()}

    def is_weight(name):
        value = stored[name]
        if name in network_names or not isinstance(value, ms.Tensor):  # a checkpoint may hold texts, too
            return name in network_names
        root, _, rest = name.partition(".")
        is_number = not rest and value.size == 1
        if STEPS_DONE not in stored:  # only weights; a program may have added the number of epochs
            return not is_number or value.is_floating_point()
        is_copy = rest in stored and stored[rest].shape == value.shape  # such as accum.fc.weight of an optimiser
        return not (is_copy or is_number or root in STEP_PARTS)
    tensors = {}
    for name in filter(is_weight, stored):
        value = stored[name]
        dtype = str(value.dtype).lower()
        if torch_name(name) in tensors:
            raise UserError(f"{path}: {name} and another are both called {torch_name(name)} in PyTorch; give -m, the "
                            "network")
        tensors[torch_name(name)] = Tensor((value.float() if dtype == "bfloat16" else value).asnumpy(), dtype)
    epochs = progress_of(stored).epochs if EPOCHS in stored else None
    return Weights(path, tensors, [name for name in stored if not is_weight(name)], epochs=epochs)


def _read_safetensors(path):
    with open(path, "rb") as file:
        content = file.read()
    try:  # `safetensors.numpy.load` does the same, but fails at bfloat16
        tensors = {name: (tensor(bytes(entry["data"]), SAFETENSORS[entry["dtype"]]), entry["shape"])
                   for name, entry in safetensors.deserialize(content)}
        return {name: Tensor(flat.array.reshape(shape), flat.dtype) for name, (flat, shape) in tensors.items()}
    except KeyError as error:
        raise UserError(f"{path}: holds numbers of type {error}, which no network here has; convert them") from error
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged or not a .safetensors file; make it anew or name another") from error


def keep_a_prefix(weights, network):
    """Return the way out for a file that has more than one network, or a network and other parts.

    The text says with which prefixes the names in the file begin, and how to keep the names of one prefix. It is empty
    if no prefix leads to names of the network.
    """
    network_names, path = weight_names(network), weights.path
    fitting = fitting_prefixes(weights.tensors, network_names)
    prefix = max(fitting, key=fitting.get, default="")
    if fitting[prefix] <= max(fitting[""], len(network_names) // 2):
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
    code = (f"import {modules}; found = {stored}; torch.save({{name.removeprefix({prefix!r}): value for name, value in "
            f"found.items() if name.startswith({prefix!r})}}, {new!r})")
    return f"{text}, with PyTorch: python -c {shlex.quote(code)}"


def read_options(path):
    """Return the options of a network's data, a dict, that `write_weights` has put into a .safetensors file.

    The dict is empty for other files, and for files of other programs.

    Raises:
        UserError: the entry of the file is damaged.
    """
    if format_of(path) != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(path, "np") as file:
            options = json.loads((file.metadata() or {}).get(OPTIONS_ENTRY, "{}"))
        if not isinstance(options, dict):
            raise ValueError("no dict")
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its entry {OPTIONS_ENTRY} is damaged; make the file anew") from error
    return options


def write_weights(path, weights, network=None, options=None):
    """Write `Weights` in any of the formats, by the suffix. The file is replaced as a whole or left as it was.

    A .ckpt gets float32 where the weights have 16 bits, which is exact. With a network it gets float32 throughout.
    Everything else stays as it is, including counters of batches.

    Args:
        path (str): file name.
        weights (Weights): the weights.
        network (nn.Cell or None): network that gives the names in a .ckpt; without a network a rule does
            (`mindspore_names`).
        options (dict or None): options of the data as plain values, which a .safetensors file keeps (`read_options`).

    Raises:
        UserError: the format does not have a dtype, the suffix is another, or a name would come back as another.
        OSError: the file cannot be written.
    """
    suffix, arrays = _suffix(path), {name: value.array for name, value in weights.tensors.items()}
    if suffix == ".safetensors":
        content = safetensors.numpy.save(arrays, {"format": "pt", **(
            {OPTIONS_ENTRY: json.dumps(options)} if options else {})})
        write_bytes(path, content)
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
