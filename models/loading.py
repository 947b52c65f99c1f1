"""Load weights from files of MindSpore and PyTorch into a network."""
from dataclasses import dataclass

import mindspore as ms
import mindspore.ops as ops
import numpy as np

from corruptions.utils.errors import UserError
from models import create_model
from models.state_dict import FLOATS
from models.torch_names import COUNTER, torch_name
from models.weight_files import keep_a_prefix, read_weights

MAX_LISTED = 3  # most names at fault that an error shows


@dataclass(frozen=True)
class Mismatch:
    """The differences between weights and a network. Names are PyTorch's.

    Attributes:
        missing (list of str): names that the network has and the file lacks.
        foreign (list of str): names that the file has and the network lacks, without counters of batches.
        unlike (dict): name to a pair of what the file has and what the network has: shapes, or names of dtypes.
        classifier (list of str): names of the classifier's parameters that differ only in the number of classes.
    """

    missing: list
    foreign: list
    unlike: dict
    classifier: list

    def __str__(self):
        parts = [self.missing and f"has no {_first_names(self.missing)}",
                 self.foreign and f"has {_first_names(self.foreign)}, unknown there",
                 self.unlike and _first_names([f"{name} is {stored}, there {expected}"
                                               for name, (stored, expected) in self.unlike.items()])]
        return "; ".join(part for part in parts if part)


def _first_names(names):
    ending = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(list(names)[:MAX_LISTED]) + ending


def classifier_of(network):
    """Return the name of the last layer of a network, such as 'fc'. The network's last parameter belongs to it."""
    return network.trainable_params()[-1].name.rpartition(".")[0]


def find_mismatch(network, weights):
    """Return the differences between a network and `Weights`.

    Returns:
        Mismatch
    """
    expected_shapes = {torch_name(parameter.name): tuple(parameter.shape) for parameter in network.get_parameters()}
    tensors = weights.tensors
    unlike = {}
    for name in filter(tensors.__contains__, expected_shapes):
        shape, dtype = tensors[name].array.shape, tensors[name].dtype
        if shape != expected_shapes[name]:
            unlike[name] = shape, expected_shapes[name]
        elif dtype not in FLOATS:
            unlike[name] = dtype, "float32"
    last = [f"{classifier_of(network)}.{name}" for name in ("weight", "bias")]
    classifier = [name for name in last if name in unlike and unlike[name][0][1:] == expected_shapes[name][1:]]
    return Mismatch([name for name in expected_shapes if name not in tensors],
                    [name for name in tensors if name not in expected_shapes and name.rpartition(".")[2] != COUNTER],
                    unlike, classifier)


def check_compatible(network, weights, title="this one", fresh_classifier=False):
    """Check that a network can take `Weights`.

    Args:
        network (nn.Cell): the network.
        weights (Weights): the weights.
        title (str): name of the network, for the error.
        fresh_classifier (bool): whether a classifier with another number of classes may be left as it is.

    Returns:
        list of str: names of the parameters that are left as they are.

    Raises:
        UserError: the network and the weights differ; the text says in what.
    """
    mismatch = find_mismatch(network, weights)
    is_only_classifier = not (mismatch.missing or mismatch.foreign) and mismatch.classifier == list(mismatch.unlike)
    if str(mismatch) and not (fresh_classifier and is_only_classifier):
        raise UserError(f"{weights.path}: belongs to another network than {title}: {mismatch}; "
                        f"{keep_a_prefix(weights, network) or 'name weights of the same'}")
    return mismatch.classifier


def load_weights(network, path, title="this one", fresh_classifier=False):
    """Load the weights in a file into a network, all or none.

    Args:
        network (nn.Cell): network with float32 parameters.
        path, title, fresh_classifier: as in `read_weights` and `check_compatible`.

    Returns:
        tuple: Weights; list of str, names of the parameters that are left as they are.

    Raises:
        UserError: as in `read_weights` and `check_compatible`, or a value is not finite.
        OSError: the file cannot be read.
    """
    weights = read_weights(path, network)
    fresh = check_compatible(network, weights, title, fresh_classifier)
    for name, value in weights.tensors.items():
        if value.dtype in FLOATS and not np.isfinite(value.array).all():
            raise UserError(f"{path}: {name} has values that are not finite; name weights of a training that went well")
    for parameter in network.get_parameters():
        name = torch_name(parameter.name)
        if name not in fresh:
            ops.assign(parameter, ms.Tensor(weights.tensors[name].array.astype(np.float32)))
    return weights, fresh


def load_network(model, classes, path):
    """Return a network with the weights in a file.

    Args:
        model (str): as in `models.find_model`.
        classes (int): number of logits.
        path (str): as in `read_weights`.

    Returns:
        tuple: nn.Cell; Weights.

    Raises:
        UserError: as in `load_weights`.
    """
    network = create_model(model, classes)
    weights, _ = load_weights(network, path, f"{model} with {classes} classes")
    return network, weights


