"""Corrupted versions of a data set on disk: DATA/CIFAR-10-C/{train,test}/{1..5}/{corruption}.npy with labels.npy beside
them, the layout that the SharpDRO release writes and reads.
"""
import os

import numpy as np

from corruptions import Options
from corruptions.files import is_being_made, write_arrays
from corruptions.generate import corrupt_range
from utils.errors import UserError
from utils.files import replacing

SEVERITIES = range(1, 6)
SEED = 0  # of the images on disk; the seed of a run does not change them


def corrupted_path(data_dir, source, part, severity, name):
    """Where an array lies: `part` is 'train' or 'test', `name` a corruption or 'labels'."""
    return os.path.join(data_dir, source.corrupted_folder, part, str(severity), f"{name}.npy")


def open_array(path, shape):
    """Open an array of uint8 without reading it into memory.

    Raises:
        UserError: the file is truncated, no array, or of another shape or type.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there, though other severities are; put it back, or delete the others so that "
                        "all are made again") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or not a numpy array; delete it so that it is made again") from error
    if array.shape != shape or array.dtype != np.uint8:
        raise UserError(f"{path}: {array.dtype} of shape {array.shape}, but this data set needs uint8 of {shape}; "
                        "delete it so that it is made again, or name another --data_dir")
    return array


def check_labels(path, labels):
    """Make sure that a file holds `labels`, in this order.

    Raises:
        UserError: it does not, or cannot be read.
    """
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: missing or not a numpy array; delete the folder {os.path.dirname(path)} "
                        "so that it is made again") from error
    if not np.array_equal(stored, labels):
        raise UserError(f"{path}: not the labels of this data set, so the images beside it are others; "
                        "name another --data_dir, or delete the file's folder")


def generate(data_dir, source, part, name, workers, show_progress):
    """Write a corruption of one part of a data set at all five severities."""
    for severity in SEVERITIES:
        labels_path = corrupted_path(data_dir, source, part, severity, "labels")
        if os.path.exists(labels_path):
            check_labels(labels_path, source.labels[part])
        else:
            os.makedirs(os.path.dirname(labels_path), exist_ok=True)
            with replacing(labels_path) as temporary:
                np.save(temporary, source.labels[part].astype(np.uint8))
    paths = {severity: corrupted_path(data_dir, source, part, severity, name) for severity in SEVERITIES}
    write_arrays(source.images[part], paths, name, SEED, Options(), workers, show_progress,
                 f"{source.name} {part} {name}")


def load_corrupted(data_dir, source, name, num_severity, workers=1, show_progress=False):
    """Open a data set's corrupted versions, made first where they are not on disk.

    Args:
        data_dir (str): folder of the data sets.
        source (Source): the clean images.
        name (str): corruption.
        num_severity (int): number of severities, the clean one included.
        workers (int): processes for the generator.
        show_progress (bool): show its progress bar even if the output is no terminal.

    Returns:
        dict: for 'train' and 'test' a list over severities 0, 1, ... of uint8 (N, H, W, 3); severity 0 is the clean
        array, the others are memory-mapped.

    Raises:
        UserError: an array on disk is damaged or belongs to other data.
    """
    images = {}
    for part in ("train", "test"):
        if not is_stored(data_dir, source, part, name):
            generate(data_dir, source, part, name, workers, show_progress)
        stored = [open_stored(data_dir, source, part, severity, name) for severity in range(1, num_severity)]
        images[part] = [source.images[part], *stored]
    return images


def is_stored(data_dir, source, part, name):
    """Whether a corruption of a part is on disk; where its making was begun and not ended, it is not.

    Where only some severities are there it counts as stored, so that the others are missed: they may be images of
    somebody else's, which ours must not be mixed with.
    """
    paths = [corrupted_path(data_dir, source, part, severity, name) for severity in SEVERITIES]
    return any(os.path.exists(path) for path in paths) and not any(is_being_made(path) for path in paths)


def open_stored(data_dir, source, part, severity, name):
    """Open one severity of a corruption, memory-mapped, uint8 (N, H, W, 3).

    Raises:
        UserError: the array is missing, damaged or of other data.
    """
    check_labels(corrupted_path(data_dir, source, part, severity, "labels"), source.labels[part])
    return open_array(corrupted_path(data_dir, source, part, severity, name), source.images[part].shape)


class MadeImages:
    """A corruption of an array whose images are made when they are read, with the pixels that `generate` stores.

    Indexed with int (n,), it gives uint8 (n, H, W, 3).

    Args:
        clean (numpy.ndarray): uint8 (N, H, W, 3).
        name (str): a key of `corruptions.CORRUPTIONS`.
        severity (int): 1 to 5.
    """

    def __init__(self, clean, name, severity):
        self.clean, self.name, self.severity = clean, name, severity

    def __getitem__(self, indices):
        rows = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)  # each of neighbours
        return np.concatenate([corrupt_range(self.clean[row], self.name, self.severity, SEED, int(row[0]))
                               for row in rows])


def corrupted_images(data_dir, source, part, name):
    """A corruption of a part of a data set at severities 1 to 5: opened where it is on disk, else made when it is read,
    and not stored.

    Args:
        data_dir, source, name: as of `load_corrupted`.
        part (str): 'train' or 'test'.

    Returns:
        list: of numpy.memmap or `MadeImages`.

    Raises:
        UserError: an array on disk is missing, damaged or of other data.
    """
    if is_stored(data_dir, source, part, name):
        return [open_stored(data_dir, source, part, severity, name) for severity in SEVERITIES]
    return [MadeImages(source.images[part], name, severity) for severity in SEVERITIES]
