"""Weights that a run starts from, in files that it has not written itself."""
import os

from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash, read_json
from dataset.sources.base import per_channel
from models import create_model
from models.loading import load_network, load_weights
from models.weight_files import read_options
from models.zoo import PREFIX, find_zoo, weight_path
from utils.records.settings import is_run_config


def load_initial_weights(network, path, title, sha256=None):
    """Give a network the weights in a file, but for a classifier of another number of classes.

    Args:
        network (nn.Cell): as it is initialised.
        path (str): the file, as in `models.weight_files.read_weights`, or 'zoo:NAME'.
        title (str): the network's name, for errors.
        sha256 (str or None): the hash that the file must have; None for any.

    Returns:
        str: a line that says what was read.

    Raises:
        UserError: the file is missing, damaged, has changed, or holds the weights of another network.
    """
    file = weight_path(path, "--init_checkpoint")
    check_sha256("--init_checkpoint", file, sha256)
    weights, fresh = load_weights(network, file, title, fresh_classifier=True)
    line = f"starts from the weights in {path}"
    if weights.elsewhere:
        line += f"; {weights.prefix_description}"
    elif weights.prefix:
        line += f", without the {weights.prefix} before every name"
    if weights.others:
        line += f"; {weights.others_description}"
    if fresh:
        shapes = {parameter.name: parameter.shape for parameter in network.get_parameters()}
        line += (f"; its classifier has {len(weights.tensors[fresh[0]].array)} classes and here are "
                 f"{shapes[fresh[0]][0]}: {', '.join(fresh)} start afresh")
    return line


def normalisation_note(path, mean, std):
    """Return a note that weights were trained with another normalisation than images of a run have.

    Args:
        path (str): the file of the weights, or 'zoo:NAME'.
        mean, std (sequence of float): the normalisation of the run, as in `ImageDataset`.

    Returns:
        str: '' if the two are the same, or the file does not say with which values the weights were trained.
    """
    file = weight_path(path)
    config = read_json(os.path.join(os.path.dirname(file), "config.json"))
    trained = read_options(file) or (config if is_run_config(config) else {})
    values = {option: trained.get(option) for option in ("mean", "std")}
    is_known = all(isinstance(value, (list, tuple)) for value in values.values())
    if not is_known or all(per_channel(option, values[option]) == per_channel(option, own)
                           for option, own in (("mean", mean), ("std", std))):
        return ""
    words = " ".join(f"--{option} {' '.join(map(str, value))}" for option, value in values.items())
    return f"note: {path} was trained with {words}, and this run has other values"


def check_sha256(flag, path, sha256):
    """Check that a file is there and has a hash; None stands for any hash.

    Raises:
        UserError: the file is missing or has another hash; the error names `flag`.
    """
    if not os.path.isfile(path):
        raise UserError(f"{flag} {path}: no such file; put it back")
    if sha256 not in (None, file_hash(path)):
        raise UserError(f"{flag} {path}: has changed since this run began; put the old file back, or begin "
                        "another run")


def check_weights(model, classes, init_checkpoint=None, stage_one=None):
    """Check that the files from which a run takes weights hold weights of its network.

    Args:
        model (str): name of the network, as in `models.find_model`.
        classes (int): number of classes.
        init_checkpoint, stage_one (str or None): the files; the first may be 'zoo:NAME'.

    Raises:
        UserError: a file is missing, damaged, or of another network.
    """
    if init_checkpoint is not None:
        if init_checkpoint.startswith(PREFIX):
            trained_model = find_zoo("--init_checkpoint", init_checkpoint)[1]["config"]["model"]
            if trained_model != model:
                raise UserError(f"--init_checkpoint {init_checkpoint}: has weights of {trained_model}, not of {model}; "
                                f"give -m {trained_model}")
        load_initial_weights(create_model(model, classes), init_checkpoint, f"{model} with {classes} classes")
    if stage_one is not None:
        load_network(model, classes, stage_one)
