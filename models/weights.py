"""Weights in files of MindSpore and PyTorch, and a network that takes them."""
import functools
import os
from collections import Counter
from dataclasses import dataclass, field, replace

import mindspore as ms
import mindspore.ops as ops
import numpy as np
import safetensors
import safetensors.numpy

from models import create_model
from models.torch_files import Placeholder, Tensor, read_pth, refusal, tensor, write_pth
from models.torch_names import COUNTER, mindspore_names, torch_name
from utils.errors import UserError
from utils.files import atomic_write
from utils.records.checkpoint import progress_of, read_checkpoint, write_checkpoint
from utils.records.trained import WEIGHT_SUFFIXES

# Where training programs put a `state_dict` among other things, and under what DataParallel and torch.compile have the
# whole network.
WRAPPERS = ("state_dict", "model_state_dict", "model_dict", "model", "net", "network", "algorithm")
SHELLS = {"module", "_orig_mod"}
# What checkpoints of a train step have beside weights, optimiser's copies of these, and single numbers; and what they
# are known by, the count of steps that every optimiser of MindSpore keeps.
STEP_PARTS = ("group_weights", "numbers")
STEPS_DONE = "global_step"
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
               "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
FLOATS = ("float64", "float32", "float16", "bfloat16")
DEPTH = 3  # of dicts in dicts so many are looked through for tensors
MAX_LISTED = 3  # of several names at fault so many are shown


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        path (str): its name.
        tensors (dict): PyTorch's names to `Tensor`.
        left_out (list of str): what else is in it, such as the state of an optimiser.
        prefix (str): what stands before every name there and is taken off here, 'module.' for instance.
        elsewhere (list of str): names of tensors there that do not begin with it, and are left out, too.
        keys (tuple of str): those that lead to the `state_dict` from the outermost dict of a file of PyTorch.
        epochs (int): of a checkpoint of this project, how many it was trained; else 0.
    """

    path: str
    tensors: dict
    left_out: list = field(default_factory=list)
    prefix: str = ""
    elsewhere: list = field(default_factory=list)
    keys: tuple = ()
    epochs: int = 0

    @property
    def about_prefix(self):
        """A line about the prefix."""
        if not self.elsewhere:
            return f"taken off, before every name: {self.prefix}"
        parts = _parts(self.elsewhere, self.prefix)
        return f"taken are the names that begin with {self.prefix}, without it; left out: {parts}"


@dataclass(frozen=True)
class Mismatch:
    """Where weights and a network differ. Names are PyTorch's.

    Attributes:
        missing (list of str): what the network has and the file has not.
        foreign (list of str): the other way round, counters of batches aside.
        unlike (dict): name to what the file has and what the network has, as text.
        classifier (list of str): those of the classifier, which differ in the number of classes alone.
    """

    missing: list
    foreign: list
    unlike: dict
    classifier: list

    def __str__(self):
        parts = [self.missing and f"has no {_some(self.missing)}",
                 self.foreign and f"has {_some(self.foreign)}, unknown there",
                 self.unlike and _some([f"{name} is {found}, there {wanted}"
                                       for name, (found, wanted) in self.unlike.items()])]
        return "; ".join(part for part in parts if part)


def _some(names):
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(list(names)[:MAX_LISTED]) + more


def _parts(names, *others):
    """How names begin, up to the first part in which they, or others, differ, and how many begin so."""
    shared = "".join(os.path.commonprefix([*names, *others]).rpartition(".")[:2])
    parts = Counter(shared + "".join(name.removeprefix(shared).partition(".")[:2]) for name in names)
    return ", ".join(f"{part} ({count})" for part, count in parts.items())


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
        found = _state_dict(path, read_pth(path), network)
    return _without_prefix(found, network)


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


def _state_dict(path, content, network):
    """The weights in what a file of PyTorch holds: a `state_dict`, or a dict that has one. What is no tensor is left
    out, unless it may be a weight: the network, or where there is none a dot in its name, tells.
    """
    if isinstance(content, Placeholder):
        raise refusal(path, content)
    outer, keys, tensors, wanted = [], (), {}, _names_of(network)

    def may_be_weight(name, value):
        if not tensors:
            return keys or value.is_module or "." in name or name in WRAPPERS
        if network is not None:
            return any(name == known or name.endswith(f".{known}") for known in wanted)
        return value.is_module or value.is_tensor or "." in name
    if isinstance(content, dict):
        keys = _place(content)
        for wrapper in keys:
            outer += [str(key) for key in content if key != wrapper]
            content = content[wrapper]
        tensors = _tensors(content)
        for name, value in content.items():
            if isinstance(value, Placeholder) and may_be_weight(str(name), value):
                raise refusal(path, value, (*keys, str(name)))
            if isinstance(name, Placeholder):
                raise refusal(path, name, (*keys, str(name)))
    if not tensors:
        raise UserError(f"{path}: holds no state_dict, neither itself nor as {', '.join(WRAPPERS)}; save one with "
                        "torch.save(module.state_dict(), ...)")
    return Weights(path, tensors, [*outer, *(str(name) for name in content if name not in tensors)], keys=keys)


def _place(content, depth=DEPTH):
    """Keys that lead to a dict with tensors, the nearest that `WRAPPERS` lead to."""
    inside = [key for key in WRAPPERS if isinstance(content.get(key), dict)]
    places = [(key,) for key in inside]
    if depth > 1 and not _tensors(content) and not any(_tensors(content[key]) for key in inside):
        places += [(key, *_place(content[key], depth - 1)) for key in inside]

    def has_tensors(keys):
        return bool(_tensors(functools.reduce(dict.__getitem__, keys, content)))
    return next(filter(has_tensors, places), places[0] if places else ())


def _tensors(content):
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _names_of(network):
    return set() if network is None else {torch_name(parameter.name) for parameter in network.get_parameters()}


def _fitting(names, wanted):
    """Count the wanted names that follow each prefix; a prefix ends in a dot, or is empty."""
    found = Counter()
    for name in names:
        parts = name.split(".")
        found.update("".join(f"{part}." for part in parts[:start]) for start in range(len(parts))
                     if ".".join(parts[start:]) in wanted)
    return found


def _without_prefix(weights, network):
    """`Weights` without a prefix that all names share, as names have of a module within another one. The prefix is the
    one without which most names are the network's. Where none are, or there is no network, only `SHELLS` are taken off.
    Where that does not give the whole network, and a prefix of some names alone does, these names are taken.
    """
    tensors = weights.tensors
    is_counter = {name: value.dtype not in FLOATS and value.array.size == 1 for name, value in tensors.items()}
    *parts, _ = os.path.commonprefix([name for name in tensors if not is_counter[name]]).split(".")
    wanted = _names_of(network)
    fitting = _fitting(tensors, wanted)

    def fit(prefix):
        return fitting[prefix], len(prefix) if SHELLS.issuperset(prefix.split(".")[:-1]) else 0
    prefix = max(("".join(f"{part}." for part in parts[:number]) for number in range(len(parts) + 1)), key=fit)
    whole = [known for known, number in fitting.items() if number == len(wanted)]
    is_shared = prefix in whole or len(whole) != 1
    if not is_shared:
        [prefix] = whole
    if not prefix:
        return weights
    rest = [name for name in tensors if not name.startswith(prefix)]  # if shared, counters, such as SWA's n_averaged
    kept = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return replace(weights, tensors=kept, prefix=prefix, left_out=[*weights.left_out, *(rest if is_shared else [])],
                   elsewhere=[] if is_shared else rest)


def keep_a_prefix(weights, network):
    """The way out where a file has more than one network, or a network and other parts: with which prefixes its names
    begin, and how to keep those of one. Empty where no prefix leads to names of the network.
    """
    wanted, path = _names_of(network), weights.path
    fitting = _fitting(weights.tensors, wanted)
    prefix = max(fitting, key=fitting.get, default="")
    if fitting[prefix] <= max(fitting[""], len(wanted) // 2):
        return ""
    parts = _parts([weights.prefix + name for name in weights.tensors])
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


def classifier_of(network):
    """Name of the last layer of a network, to which its last parameter belongs: 'fc'."""
    return network.trainable_params()[-1].name.rpartition(".")[0]


def find_mismatch(network, weights):
    """Where a network and `Weights` differ.

    Returns:
        Mismatch
    """
    wanted = {torch_name(parameter.name): tuple(parameter.shape) for parameter in network.get_parameters()}
    found = weights.tensors
    unlike = {}
    for name in filter(found.__contains__, wanted):
        shape, dtype = found[name].array.shape, found[name].dtype
        if shape != wanted[name]:
            unlike[name] = shape, wanted[name]
        elif dtype not in FLOATS:
            unlike[name] = dtype, "float32"
    last = [f"{classifier_of(network)}.{name}" for name in ("weight", "bias")]
    classifier = [name for name in last if name in unlike and unlike[name][0][1:] == wanted[name][1:]]
    return Mismatch([name for name in wanted if name not in found],
                    [name for name in found if name not in wanted and name.rpartition(".")[2] != COUNTER],
                    unlike, classifier)


def check_compatible(network, weights, what="this one", fresh_classifier=False):
    """Make sure that a network can take `Weights`.

    Args:
        network (nn.Cell): it.
        weights (Weights): they.
        what (str): the network's name, for the error.
        fresh_classifier (bool): a classifier of another number of classes may be left as it is.

    Returns:
        list of str: names of the parameters that are left as they are.

    Raises:
        UserError: they differ; the text says in what.
    """
    found = find_mismatch(network, weights)
    is_only_classifier = not (found.missing or found.foreign) and found.classifier == list(found.unlike)
    if str(found) and not (fresh_classifier and is_only_classifier):
        raise UserError(f"{weights.path}: is of another network than {what}: {found}; "
                        f"{keep_a_prefix(weights, network) or 'name weights of the same'}")
    return found.classifier


def load_weights(network, path, what="this one", fresh_classifier=False):
    """Give a network the weights in a file; all or none.

    Args:
        network (nn.Cell): with float32 parameters.
        path, what, fresh_classifier: as in `read_weights` and `check_compatible`.

    Returns:
        tuple: Weights; list of str, names of parameters that are left as they are.

    Raises:
        UserError: as `read_weights` and `check_compatible`.
        OSError: the file cannot be read.
    """
    weights = read_weights(path, network)
    fresh = check_compatible(network, weights, what, fresh_classifier)
    for name, value in weights.tensors.items():
        if value.dtype in FLOATS and not np.isfinite(value.array).all():
            raise UserError(f"{path}: {name} has values that are not finite; name weights of a training that went well")
    for parameter in network.get_parameters():
        name = torch_name(parameter.name)
        if name not in fresh:
            ops.assign(parameter, ms.Tensor(weights.tensors[name].array.astype(np.float32)))
    return weights, fresh


def load_network(model, classes, path):
    """A network with the weights in a file.

    Args:
        model (str): as in `models.find_model`.
        classes (int): logits.
        path (str): as in `read_weights`.

    Returns:
        tuple: nn.Cell; Weights.

    Raises:
        UserError: as `load_weights`.
    """
    network = create_model(model, classes)
    weights, _ = load_weights(network, path, f"{model} with {classes} classes")
    return network, weights


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
