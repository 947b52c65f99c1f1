"""Checkpoints in MindSpore's own format, with parameters only."""
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

from corruptions.utils.errors import UserError
from corruptions.utils.files import atomic_write

# Names of the entries beside the parameters: the numbers of a `Progress`. The last two are only there within an epoch.
EPOCHS, BATCHES, LOSS = "epochs", "epoch_batches", "epoch_loss"
LAST = "last_model.ckpt"
NUMBERED = re.compile(r"(\d+)(?:_(\d+))?_model\.ckpt")


@dataclass(frozen=True, order=True)
class Progress:
    """The progress of a training.

    Attributes:
        epochs (int): number of finished epochs, including their evaluation.
        batches (int): number of finished batches of the next epoch.
        loss (float): sum of the mean losses of these batches.
    """

    epochs: int = 0
    batches: int = 0
    loss: float = field(default=0.0, compare=False)

    def __str__(self):
        return f"batch {self.batches - 1} of epoch {self.epochs}" if self.batches else f"epoch {self.epochs - 1}"

    @property
    def name(self):
        """Name of the checkpoint at this point.

        It has the number of the epoch, from 0, and within an epoch the number of finished batches.
        """
        return f"{self.epochs}_{self.batches}_model.ckpt" if self.batches else f"{self.epochs - 1}_model.ckpt"

    @classmethod
    def from_path(cls, path):
        """Return the `Progress` in the name of a checkpoint, or None if the name has none."""
        match = NUMBERED.fullmatch(os.path.basename(path))
        if match is None:
            return None
        return cls(int(match[1]), int(match[2])) if match[2] else cls(int(match[1]) + 1)


def save_checkpoint(step, path, progress):
    """Write the parameters of a train step: weights, running statistics, group weights, optimizer state.

    The network's weights have the same names as in the network. `mindspore.load_param_into_net(network,
    mindspore.load_checkpoint(path))` therefore reads them without this project.

    Args:
        step (nn.Cell): a train step (`losses/step/`).
        path (str): file name that ends in .ckpt; replaced atomically.
        progress (Progress): progress of the training.
    """
    values, numbers = {p.name: p for p in lasting_parameters(step)}, {EPOCHS: progress.epochs}
    if progress.batches:
        numbers[BATCHES] = progress.batches
        values[LOSS] = ms.Tensor(np.float64(progress.loss))  # in `append_dict` it would be rounded to float32
    write_checkpoint(path, values, numbers)


def write_checkpoint(path, values, numbers=None):
    """Write a checkpoint that `load_checkpoint` reads, with a checksum.

    Args:
        path (str): file name that ends in .ckpt; replaced atomically.
        values (dict): names to Tensor or Parameter.
        numbers (dict or None): further names to int.
    """
    parameters = [{"name": name, "data": value} for name, value in values.items()]
    with atomic_write(path) as temporary, _silent():
        try:
            ms.save_checkpoint(parameters, temporary, append_dict=numbers, crc_check=True)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{os.path.splitext(temporary)[0]}.tmp")  # MindSpore itself writes this file and renames it
            raise
        os.chmod(temporary, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


class Checkpoints:
    """The checkpoints of a run: `{epoch}_model.ckpt` after an epoch, `{epoch}_{batches}_model.ckpt` within an epoch.

    The newest of these are kept. All other checkpoints are copies of these. If the run is killed before a copy is made,
    it makes the copy when it resumes.

    Args:
        folder (str): the run's folder.
        keep_last (int): number of newest checkpoints that are kept.
        save_step (int): checkpoints after epoch 0 and after every `save_step`-th epoch from there are kept, too.
        keep_epochs (list of int): epochs after which the checkpoints are kept, too.
        save_last (bool): whether to keep `last_model.ckpt`, a copy of the checkpoint after the last finished epoch.
    """

    def __init__(self, folder, keep_last, save_step, keep_epochs=(), save_last=False):
        self.folder, self.keep_last, self.save_step = folder, keep_last, save_step
        self.keep_epochs, self.save_last = keep_epochs, save_last

    def save(self, step, progress, is_best=False):
        """Write the checkpoints that are due at this progress of a step, and return the path of the numbered one.

        `is_best` adds `best_model.ckpt`.
        """
        path = os.path.join(self.folder, progress.name)
        save_checkpoint(step, path, progress)
        self.finish_and_prune(path, progress, is_best)
        return path

    def finish_and_prune(self, path, progress, is_best=False):
        """Make the copies that are due from a checkpoint `path`, and remove checkpoints that are no longer kept.

        Other arguments are as in `save`.
        """
        names = {LAST: self.save_last and not progress.batches, "best_model.ckpt": is_best, progress.name: True}
        for name, is_due in names.items():
            copy = os.path.join(self.folder, name)
            if is_due and copy != path:
                with atomic_write(copy) as temporary:
                    shutil.copy(path, temporary)
        before = {old_path: old_progress for old_path in _checkpoints(self.folder)
                  if (old_progress := Progress.from_path(old_path)) and old_progress < progress}
        # The checkpoint after an epoch replaces the checkpoints within the epoch, which take no place of others.
        after, within = ([old_path for old_path in before if bool(before[old_path].batches) == is_within]
                         for is_within in (False, True))
        newest = [old_path for group in (after, within if progress.batches else [])
                  for old_path in sorted(group, key=before.get, reverse=True)[:self.keep_last - 1]]
        for old_path, old_progress in before.items():
            if old_path not in newest and not self._is_protected(old_progress):
                os.remove(old_path)

    def _is_protected(self, progress):
        epoch = progress.epochs - 1
        return not progress.batches and (epoch % self.save_step == 0 or epoch in self.keep_epochs)


def load_checkpoint(cell, path):
    """Load a checkpoint into the parameters of a network or a train step.

    Args:
        cell (nn.Cell): network or train step; the checkpoint may hold more parameters than the cell has.
        path (str): file name.

    Returns:
        Progress: progress in the checkpoint; zero if the checkpoint has none.

    Raises:
        UserError: the file is missing or damaged, or belongs to another network or method.
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
    """Return the checkpoint in a run's folder with the most progress, or None if there is none.

    Damaged checkpoints are skipped with a warning. Checkpoints are large and may be many, so only the necessary ones
    are read.
    """
    paths = _checkpoints(folder)
    numbered = sorted(filter(Progress.from_path, paths), key=Progress.from_path, reverse=True)
    unnumbered = [path for path in paths if path not in numbered]
    last = [path for path in unnumbered if os.path.basename(path) == LAST]
    newest = furthest = None
    for path in dict.fromkeys([*last, *numbered, *unnumbered]):
        named = Progress.from_path(path)
        if None not in (named, furthest) and named <= furthest:
            continue
        progress = _progress(path)
        if progress is not None and (furthest is None or progress > furthest):
            newest, furthest = path, progress
    return newest


def checkpoint_to_resume(folder):
    """Return `newest_checkpoint` of a run that is to go on.

    Raises:
        UserError: all checkpoints are damaged.
    """
    newest = newest_checkpoint(folder)
    if newest is None and _checkpoints(folder):
        raise UserError(f"{folder}: all its checkpoints are damaged; put one back, or remove them to begin anew")
    return newest


def find_checkpoints(folder):
    """Return the checkpoints after epochs in a run's folder: a dict of path to number of finished epochs.

    Damaged checkpoints are skipped with a warning.
    """
    progress_by_path = {path: _progress(path) for path in _checkpoints(folder)}
    return {path: progress.epochs for path, progress in progress_by_path.items()
            if progress is not None and not progress.batches}


def _checkpoints(folder):
    return sorted(glob.glob(os.path.join(glob.escape(folder), "*_model.ckpt")))


def _progress(path):
    """Return the `Progress` of a checkpoint. If it is damaged, print a warning and return None."""
    try:
        return progress_of(read_checkpoint(path))
    except UserError:
        print(f"warning: {path}: damaged; it is passed over", file=sys.stderr)
        return None


def lasting_parameters(cell):
    """Return a list of the parameters of a cell that a checkpoint holds: all except parameters local to a step."""
    return [parameter for parameter in cell.get_parameters() if not parameter.name.startswith("saved.")]


@contextlib.contextmanager
def _silent():
    """Keep MindSpore from logging the text that its exception also has."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def read_checkpoint(path):
    """Return the content of a checkpoint, a dict of names to Parameter.

    Raises:
        UserError: the file is missing or damaged.
        OSError, MemoryError: the file cannot be read now.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such checkpoint")
    try:
        with _silent():
            return ms.load_checkpoint(path, crc_check=True)
    except Exception as error:  # MindSpore has no exception type of its own for a damaged file
        for cause in (error, error.__cause__, error.__context__):
            if isinstance(cause, (OSError, MemoryError)):  # the file may be whole
                raise cause from None
        raise UserError(f"{path}: damaged or not a checkpoint; delete it or name another") from error


def progress_of(stored):
    """Return the `Progress` in the content of a checkpoint; zero if the content has none."""
    kinds = {EPOCHS: int, BATCHES: int, LOSS: float}
    return Progress(*(kind(stored[name].asnumpy()) if name in stored else kind(0) for name, kind in kinds.items()))
