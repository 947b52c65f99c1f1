"""Checkpoints: MindSpore's own format, parameters only."""
import glob
import os
import stat

import mindspore as ms
import mindspore.ops as ops

from utils.errors import UserError
from utils.files import replacing

EPOCHS = "epochs"  # name of the number of epochs done, beside the parameters


def save_checkpoint(step, path, epochs):
    """Write a train step's parameters: weights, running statistics, group weights, the optimiser's state.

    The network's weights have the names they have in the network, so `mindspore.load_param_into_net(network,
    mindspore.load_checkpoint(path))` reads them without this project.

    Args:
        step (nn.Cell): a train step (`losses/step.py`).
        path (str): file name that ends in .ckpt; replaced whole or left as it was.
        epochs (int): number of epochs done.
    """
    parameters = [{"name": p.name, "data": p} for p in _lasting(step)]
    with replacing(path) as temporary:
        ms.save_checkpoint(parameters, temporary, append_dict={EPOCHS: epochs})
        os.chmod(temporary, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


def load_checkpoint(cell, path):
    """Give the parameters of a network or a train step the values in a checkpoint.

    Args:
        cell (nn.Cell): network or train step; the checkpoint may hold more than it has.
        path (str): file name.

    Returns:
        int: number of epochs done, 0 where the checkpoint does not say.

    Raises:
        UserError: the file is missing or damaged, or is of another network or method.
    """
    stored = _read(path)
    for parameter in _lasting(cell):
        if parameter.name not in stored or stored[parameter.name].shape != parameter.shape:
            raise UserError(f"{path}: has no {parameter.name} of shape {parameter.shape}; it is of another network or "
                            "method, name one of this")
    for parameter in _lasting(cell):
        ops.assign(parameter, stored[parameter.name])
    return _epochs(stored)


def newest_checkpoint(folder):
    """The checkpoint in a run's folder with the most epochs done, or None."""
    paths = glob.glob(os.path.join(glob.escape(folder), "*_model.ckpt"))
    return max(paths, key=lambda path: _epochs(_read(path)), default=None)


def _lasting(cell):
    """The parameters of a cell but for those that only serve within a step."""
    return [parameter for parameter in cell.get_parameters() if not parameter.name.startswith("saved.")]


def _read(path):
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such checkpoint")
    try:
        return ms.load_checkpoint(path)
    except Exception as error:  # MindSpore has no type of its own for a damaged file
        raise UserError(f"{path}: damaged or not a checkpoint; delete it or name another") from error


def _epochs(stored):
    return int(stored[EPOCHS].asnumpy()) if EPOCHS in stored else 0
