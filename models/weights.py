"""Weights in files of MindSpore and PyTorch, and a network that takes them."""
from dataclasses import dataclass

import mindspore as ms
import mindspore.ops as ops
import numpy as np

from models import create_model
from models.state_dict import FLOATS
from models.torch_names import COUNTER, torch_name
from models.weight_files import keep_a_prefix, read_weights
from utils.errors import UserError

MAX_LISTED = 3  # of several names at fault so many are shown


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


