"""Checkpoints: MindSpore's own format, parameters only."""
import contextlib
import glob
import logging
import os
import shutil
import stat
import sys

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
    write_checkpoint(path, {p.name: p for p in _lasting(step)}, {EPOCHS: epochs})


def write_checkpoint(path, values, numbers=None):
    """Write a checkpoint that `load_checkpoint` reads, with a checksum.

    Args:
        path (str): file name that ends in .ckpt; replaced whole or left as it was.
        values (dict): names to Tensor or Parameter.
        numbers (dict or None): further names to int.
    """
    parameters = [{"name": name, "data": value} for name, value in values.items()]
    with replacing(path) as temporary, _silent():
        ms.save_checkpoint(parameters, temporary, append_dict=numbers, crc_check=True)
        os.chmod(temporary, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


class Checkpoints:
    """The checkpoints of a run. Of those that are due after an epoch the first is written and the others are copies of
    it, so that a run that is killed in between can make the others when it goes on.

    Args:
        folder (str): the run's folder.
        save_step (int): keep `{epoch}_model.ckpt` after epoch 0 and every `save_step`-th after it.
        save_last (bool): renew `last_model.ckpt` after every epoch.
        keep_epochs (list of int): keep `{epoch}_model.ckpt` after these, too.
    """

    def __init__(self, folder, save_step, save_last, keep_epochs=()):
        self.folder, self.save_step, self.save_last, self.keep_epochs = folder, save_step, save_last, keep_epochs

    def due(self, epoch, is_best):
        """Paths of the checkpoints that epoch `epoch` (from 0) leaves; `is_best` adds `best_model.ckpt`."""
        names = {"last_model.ckpt": self.save_last, "best_model.ckpt": is_best,
                 f"{epoch}_model.ckpt": epoch % self.save_step == 0 or epoch in self.keep_epochs}
        return [os.path.join(self.folder, name) for name, wanted in names.items() if wanted]

    def save(self, step, epoch, is_best):
        """Write what is due after an epoch; arguments as of `due`, and the train step."""
        paths = self.due(epoch, is_best)
        save_checkpoint(step, paths[0], epoch + 1)
        self.complete(paths[0], epoch, is_best)

    def complete(self, path, epoch, is_best):
        """Make what is due after an epoch from its checkpoint `path`; other arguments as of `due`."""
        for other in self.due(epoch, is_best):
            if other != path:
                with replacing(other) as temporary:
                    shutil.copy(path, temporary)


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
    stored = read_checkpoint(path)
    for parameter in _lasting(cell):
        if parameter.name not in stored or stored[parameter.name].shape != parameter.shape:
            raise UserError(f"{path}: has no {parameter.name} of shape {parameter.shape}; it is of another network or "
                            "method, name one of this")
    for parameter in _lasting(cell):
        ops.assign(parameter, stored[parameter.name])
    return epochs_done(stored)


def newest_checkpoint(folder):
    """The checkpoint in a run's folder with the most epochs done, or None."""
    epochs = find_checkpoints(folder)
    return max(epochs, key=epochs.get, default=None)


def find_checkpoints(folder):
    """The checkpoints in a run's folder, path to number of epochs done; damaged ones are passed over with a warning."""
    epochs = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*_model.ckpt"))):
        try:
            epochs[path] = epochs_done(read_checkpoint(path))
        except UserError:
            print(f"warning: {path}: damaged; it is passed over", file=sys.stderr)
    return epochs


def _lasting(cell):
    """The parameters of a cell but for those that only serve within a step."""
    return [parameter for parameter in cell.get_parameters() if not parameter.name.startswith("saved.")]


@contextlib.contextmanager
def _silent():
    """Keep MindSpore from logging what its error says, too."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def read_checkpoint(path):
    """What a checkpoint holds, names to Parameter.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such checkpoint")
    try:
        with _silent():
            return ms.load_checkpoint(path, crc_check=True)
    except Exception as error:  # MindSpore has no type of its own for a damaged file
        raise UserError(f"{path}: damaged or not a checkpoint; delete it or name another") from error


def epochs_done(stored):
    """Number of epochs done, of what a checkpoint holds; 0 where it does not say."""
    return int(stored[EPOCHS].asnumpy()) if EPOCHS in stored else 0
