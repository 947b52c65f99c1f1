"""Weights in files of MindSpore and PyTorch, and a network that takes them."""
import os
from dataclasses import dataclass, field

import mindspore as ms
import mindspore.ops as ops
import numpy as np
import safetensors
import safetensors.numpy

from models import create_model
from models.torch_files import Tensor, read_pth, tensor, write_pth
from models.torch_names import COUNTER, mindspore_names, torch_name
from utils.errors import UserError
from utils.files import replacing
from utils.records.checkpoint import progress_of, read_checkpoint, write_checkpoint
from utils.records.trained import WEIGHT_SUFFIXES

# Where training programs put a `state_dict` among other things, and what DataParallel puts before every name.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
DATA_PARALLEL = "module."
# What checkpoints of a train step have beside weights, optimiser's copies of these, and single numbers; and what they
# are known by, the count of steps that every optimiser of MindSpore keeps.
STEP_PARTS = ("group_weights", "numbers")
STEPS_DONE = "global_step"
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
               "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
FLOATS = ("float64", "float32", "float16", "bfloat16")
NAMED = 3  # of several names at fault so many are shown


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        path (str): its name.
        tensors (dict): PyTorch's names to `Tensor`.
        left_out (list of str): what else is in it, such as the state of an optimiser.
        epochs (int): of a checkpoint of this project, how many it was trained; else 0.
    """

    path: str
    tensors: dict
    left_out: list = field(default_factory=list)
    epochs: int = 0


@dataclass(frozen=True)
class Misfits:
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
        def some(names):
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            return ", ".join(list(names)[:NAMED]) + more
        parts = [self.missing and f"has no {some(self.missing)}",
                 self.foreign and f"has {some(self.foreign)}, unknown there",
                 self.unlike and some([f"{name} is {found}, there {wanted}"
                                       for name, (found, wanted) in self.unlike.items()])]
        return "; ".join(part for part in parts if part)


def _suffix(path):
    suffix = os.path.splitext(path)[1]
    if suffix not in WEIGHT_SUFFIXES:
        raise UserError(f"{path}: the name of a file with weights ends in {', '.join(WEIGHT_SUFFIXES)}, by which the "
                        "format is known; rename it")
    return suffix


def read_weights(path, network=None):
    """Read weights in any of the formats, by the suffix; nothing in the file is run.

    Args:
        path (str): MindSpore's .ckpt, .pth or .pt of PyTorch with a `state_dict`, .safetensors.
        network (nn.Cell or None): what has its names in a .ckpt is a weight in any case; of the rest names tell.

    Returns:
        Weights

    Raises:
        UserError: the file is damaged, of another format, or holds something else.
        OSError: it cannot be read.
    """
    suffix = _suffix(path)
    if suffix == ".ckpt":
        return _read_ckpt(path, network)
    if suffix == ".safetensors":
        return Weights(path, _without_prefix(_read_safetensors(path)))
    return _state_dict(path, read_pth(path))


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
    return Weights(path, tensors, [name for name in stored if not is_weight(name)], progress_of(stored).epochs)


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


def _state_dict(path, content):
    """The weights in what a file of PyTorch holds: a `state_dict`, or a dict that has one."""
    outer = {}
    if isinstance(content, dict):
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if wrapper is not None:
            outer, content = content, content[wrapper]
            outer = [str(key) for key in outer if key != wrapper]
        tensors = {name: value for name, value in content.items()
                   if isinstance(name, str) and isinstance(value, Tensor)}
    if not isinstance(content, dict) or not tensors:
        raise UserError(f"{path}: holds no state_dict, neither itself nor as {', '.join(WRAPPERS)}; save one with "
                        "torch.save(module.state_dict(), ...)")
    return Weights(path, _without_prefix(tensors), [*outer, *(str(name) for name in content if name not in tensors)])


def _without_prefix(tensors):
    is_parallel = tensors and all(name.startswith(DATA_PARALLEL) for name in tensors)
    return {name.removeprefix(DATA_PARALLEL) if is_parallel else name: value for name, value in tensors.items()}


def classifier_of(network):
    """Name of the last layer of a network, to which its last parameter belongs: 'fc'."""
    return network.trainable_params()[-1].name.rpartition(".")[0]


def misfits(network, weights):
    """Where a network and `Weights` differ.

    Returns:
        Misfits
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
    return Misfits([name for name in wanted if name not in found],
                   [name for name in found if name not in wanted and name.rpartition(".")[2] != COUNTER],
                   unlike, classifier)


def require_fit(network, weights, what="this one", fresh_classifier=False):
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
    found = misfits(network, weights)
    is_only_classifier = not (found.missing or found.foreign) and found.classifier == list(found.unlike)
    if str(found) and not (fresh_classifier and is_only_classifier):
        raise UserError(f"{weights.path}: is of another network than {what}: {found}; name weights of the same")
    return found.classifier


def load_weights(network, path, what="this one", fresh_classifier=False):
    """Give a network the weights in a file; all or none.

    Args:
        network (nn.Cell): with float32 parameters.
        path, what, fresh_classifier: as of `read_weights` and `require_fit`.

    Returns:
        tuple: Weights; list of str, names of parameters that are left as they are.

    Raises:
        UserError: as `read_weights` and `require_fit`.
        OSError: the file cannot be read.
    """
    weights = read_weights(path, network)
    fresh = require_fit(network, weights, what, fresh_classifier)
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
        model (str): as of `models.find_model`.
        classes (int): logits.
        path (str): as of `read_weights`.

    Returns:
        tuple: nn.Cell; int, number of epochs that a checkpoint of this project was trained, else 0.

    Raises:
        UserError: as `load_weights`.
    """
    network = create_model(model, classes)
    weights, _ = load_weights(network, path, f"{model} with {classes} classes")
    return network, weights.epochs


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
        with replacing(path) as temporary, open(temporary, "wb") as file:
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
