"""Checkpoints: MindSpore's own format, parameters only."""
import contextlib
import glob
import logging
import os
import re
import shutil
import stat
import sys
from dataclasses import dataclass, field

import mindspore as ms
import mindspore.ops as ops
import numpy as np

from utils.errors import UserError
from utils.files import atomic_write

# Names of what is there beside the parameters: the numbers of a `Progress`, the last two only within an epoch.
EPOCHS, BATCHES, LOSS = "epochs", "epoch_batches", "epoch_loss"
LAST = "last_model.ckpt"
NUMBERED = re.compile(r"(\d+)(?:_(\d+))?_model\.ckpt")


@dataclass(frozen=True, order=True)
class Progress:
    """How far a training has come.

    Attributes:
        epochs (int): whole epochs done, with their evaluation.
        batches (int): batches done of the next one.
        loss (float): sum of their mean losses.
    """

    epochs: int = 0
    batches: int = 0
    loss: float = field(default=0.0, compare=False)

    def __str__(self):
        return f"batch {self.batches - 1} of epoch {self.epochs}" if self.batches else f"epoch {self.epochs - 1}"

    @property
    def name(self):
        """Name of the checkpoint at this point: that of the epoch, counted from 0, and of the batches of a part."""
        return f"{self.epochs}_{self.batches}_model.ckpt" if self.batches else f"{self.epochs - 1}_model.ckpt"

    @classmethod
    def named(cls, path):
        """The `Progress` that the name of a checkpoint tells, or None."""
        match = NUMBERED.fullmatch(os.path.basename(path))
        if match is None:
            return None
        return cls(int(match[1]), int(match[2])) if match[2] else cls(int(match[1]) + 1)


def save_checkpoint(step, path, progress):
    """Write a train step's parameters: weights, running statistics, group weights, the optimiser's state.

    The network's weights have the names they have in the network, so `mindspore.load_param_into_net(network,
    mindspore.load_checkpoint(path))` reads them without this project.

    Args:
        step (nn.Cell): a train step (`losses/step/`).
        path (str): file name that ends in .ckpt; replaced whole or left as it was.
        progress (Progress): of the training.
    """
    values, numbers = {p.name: p for p in lasting_parameters(step)}, {EPOCHS: progress.epochs}
    if progress.batches:
        numbers[BATCHES] = progress.batches
        values[LOSS] = ms.Tensor(np.float64(progress.loss))  # as a number it would be rounded to float32
    write_checkpoint(path, values, numbers)


def write_checkpoint(path, values, numbers=None):
    """Write a checkpoint that `load_checkpoint` reads, with a checksum.

    Args:
        path (str): file name that ends in .ckpt; replaced whole or left as it was.
        values (dict): names to Tensor or Parameter.
        numbers (dict or None): further names to int.
    """
    parameters = [{"name": name, "data": value} for name, value in values.items()]
    with atomic_write(path) as temporary, _silent():
        try:
            ms.save_checkpoint(parameters, temporary, append_dict=numbers, crc_check=True)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{os.path.splitext(temporary)[0]}.tmp")  # where MindSpore writes before it renames, too
            raise
        os.chmod(temporary, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


class Checkpoints:
    """The checkpoints of a run: `{epoch}_model.ckpt` after every epoch, or `{epoch}_{batches}_model.ckpt` within it, of
    which the newest are kept. Others are copies of these, so that a run that is killed in between can make them when it
    goes on.

    Args:
        folder (str): the run's folder.
        keep (int): how many of the newest stay.
        save_step (int): those after epoch 0 and every `save_step`-th after it stay, too.
        keep_epochs (list of int): and those after these.
        save_last (bool): have a copy of the one after the last epoch done, `last_model.ckpt`.
    """

    def __init__(self, folder, keep, save_step, keep_epochs=(), save_last=False):
        self.folder, self.keep, self.save_step = folder, keep, save_step
        self.keep_epochs, self.save_last = keep_epochs, save_last

    def save(self, step, progress, is_best=False):
        """Write what is due at a point of the training of a step; `is_best` adds `best_model.ckpt`. Returns its path.
        """
        path = os.path.join(self.folder, progress.name)
        save_checkpoint(step, path, progress)
        self.complete(path, progress, is_best)
        return path

    def complete(self, path, progress, is_best=False):
        """Make what is due from a checkpoint `path`, and remove what is no longer kept; other arguments as in `save`.
        """
        names = {LAST: self.save_last and not progress.batches, "best_model.ckpt": is_best, progress.name: True}
        for name, wanted in names.items():
            copy = os.path.join(self.folder, name)
            if wanted and copy != path:
                with atomic_write(copy) as temporary:
                    shutil.copy(path, temporary)
        before = {other: found for other in _checkpoints(self.folder)
                  if (found := Progress.named(other)) and found < progress}
        # An epoch that has ended takes the place of its parts.
        newest = [other for other in before if progress.batches or not before[other].batches]
        newest = sorted(newest, key=before.get, reverse=True)[:self.keep - 1]
        for other, found in before.items():
            if other not in newest and not self._stays(found):
                os.remove(other)

    def _stays(self, progress):
        epoch = progress.epochs - 1
        return not progress.batches and (epoch % self.save_step == 0 or epoch in self.keep_epochs)


def load_checkpoint(cell, path):
    """Give the parameters of a network or a train step the values in a checkpoint.

    Args:
        cell (nn.Cell): network or train step; the checkpoint may hold more than it has.
        path (str): file name.

    Returns:
        Progress: at its start where the checkpoint does not say.

    Raises:
        UserError: the file is missing or damaged, or is of another network or method.
    """
    stored = read_checkpoint(path)
    for parameter in lasting_parameters(cell):
        if parameter.name not in stored or stored[parameter.name].shape != parameter.shape:
            raise UserError(f"{path}: has no {parameter.name} of shape {parameter.shape}; it is of another network or "
                            "method, name one of this")
    for parameter in lasting_parameters(cell):
        ops.assign(parameter, stored[parameter.name])
    return progress_of(stored)


def newest_checkpoint(folder):
    """The checkpoint in a run's folder that has come furthest, or None; damaged ones are passed over with a warning.
    No more are read than that takes, which are large and may be many.
    """
    paths = _checkpoints(folder)
    numbered = sorted(filter(Progress.named, paths), key=Progress.named, reverse=True)
    others = [path for path in paths if path not in numbered]
    last = [path for path in others if os.path.basename(path) == LAST]
    newest = furthest = None
    for path in dict.fromkeys([*last, *numbered, *others]):
        named = Progress.named(path)
        if None not in (named, furthest) and named <= furthest:
            continue
        progress = _progress(path)
        if progress is not None and (furthest is None or progress > furthest):
            newest, furthest = path, progress
    return newest


def find_checkpoints(folder):
    """The checkpoints after epochs in a run's folder, path to number of epochs done; damaged ones are passed over with
    a warning.
    """
    found = {path: _progress(path) for path in _checkpoints(folder)}
    return {path: progress.epochs for path, progress in found.items() if progress is not None and not progress.batches}


def _checkpoints(folder):
    return sorted(glob.glob(os.path.join(glob.escape(folder), "*_model.ckpt")))


def _progress(path):
    """The `Progress` of a checkpoint; None, and a warning, where it is damaged."""
    try:
        return progress_of(read_checkpoint(path))
    except UserError:
        print(f"warning: {path}: damaged; it is passed over", file=sys.stderr)
        return None


def lasting_parameters(cell):
    """The parameters of a cell that a checkpoint has: all but those that only serve within a step; list."""
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


def progress_of(stored):
    """`Progress` of what a checkpoint holds; its start where it does not say."""
    kinds = {EPOCHS: int, BATCHES: int, LOSS: float}
    return Progress(*(kind(stored[name].asnumpy()) if name in stored else kind(0) for name, kind in kinds.items()))
