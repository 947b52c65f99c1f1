"""Corrupted versions of a data set, on disk or made when they are read.

On disk they have the layout that the SharpDRO authors' code writes and reads. Arrays lie in
DATA/CIFAR-10-C/{train,test}/{1..5}/{corruption}.npy, with labels.npy beside them. Files lie in
DATA/ImageNet-30-64-C/{train,test}/{corruption}/{1..5}/CLASS/FILE.
"""
import errno
import os
import shlex
from functools import partial

import numpy as np

from corruptions import CORRUPTIONS, Options
from corruptions.generate import SEED, corrupt_images
from corruptions.jobs.arrays import write_arrays
from corruptions.jobs.folders import corrupt_folder
from corruptions.jobs.parallel import RESUME_HINT
from corruptions.jobs.provenance import read_made, recipe, write_record
from corruptions.jobs.settings import SETTINGS_FILE
from corruptions.jobs.shards import SINGLE_SHARD
from corruptions.jobs.sources import check_stored
from corruptions.severities import SEVERITIES
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_array
from corruptions.utils.signals import sigterm_interrupts
from dataset.image_files import FileImages, LazyCorruptedFiles, exact, files_recipe, read_transformed
from dataset.stored import (
    corrupted_folder,
    corrupted_path,
    files_of_classes,
    is_stored,
    missing_file,
    open_stored,
    require_same_labels,
    severity_folder,
    stored_names,
)

# Sources of corrupted images, with their texts for the help.
STORAGE_MODES = {
    "auto": "stored arrays, which a training makes if they are missing; stored files, or made while they are read",
    "disk": "stored images, which a training makes if they are missing",
    "memory": "made while they are read",
}


def generate(data_dir, source, part, name, workers, show_progress, shard=SINGLE_SHARD):
    """Write a corruption of one part of a data set at all five severities. Images that are there already stay.

    A shard, which only a data set in files can have, is every N-th image.

    Returns:
        int: number of images in files, or of arrays, that were not there before.

    Raises:
        UserError: another process is writing the same images, or those on disk were made from other images.
    """
    if source.is_file_backed:
        images, folder = source.images[part], corrupted_folder(data_dir, source, part)
        paths = {severity: severity_folder(folder, name, severity) for severity in SEVERITIES}
        known = [severity for severity in SEVERITIES if is_known(paths[severity], images)]
        made, *_ = corrupt_folder(images.folder, folder, [name], list(SEVERITIES), SEED, Options(), workers, "jpeg",
                                  False, show_progress, images.path_of,
                                  partial(read_transformed, transform=images.transform), images.transform_name, shard)
        for severity in known:
            stored, made_as = existing_images(paths[severity], images), files_recipe(images, name, severity)
            is_recorded = read_made(paths[severity], stored.pixels) == made_as  # if so, the folder may be read-only
            if not is_recorded and is_made_of(folder, images, stored.names):
                write_record(paths[severity], made_as, stored.pixels)
        return made
    for severity in SEVERITIES:
        labels_path = corrupted_path(data_dir, source, part, severity, "labels")
        if os.path.exists(labels_path):
            require_same_labels(labels_path, source.labels[part])
        else:
            write_array(labels_path, source.labels[part].astype(np.uint8 if source.classes <= 256 else np.int32))
    paths = {severity: corrupted_path(data_dir, source, part, severity, name) for severity in SEVERITIES}
    return write_arrays(source.images[part], paths, name, SEED, Options(), workers, show_progress,
                        f"{source.name} {part} {name}")


def existing_images(folder, clean):
    """Return the corrupted versions of images in files that a folder has. The folder may lack some.

    Arguments are as in `stored_files`.
    """
    stored, names = stored_names(clean), files_of_classes(folder)
    places = [k for k, path in enumerate(stored) if path in names]
    return FileImages(folder, [stored[k] for k in places], [clean.names[k] for k in places], clean.side,
                      partial(exact, side=clean.side))


def is_known(folder, clean):
    """Whether a record says how all corrupted images in a folder were made, or the folder has no images.

    Only in this case is a record written after more images have been made. Without a record the images may be anything:
    an interrupted command, or somebody else, may have left them.
    """
    images = existing_images(folder, clean)
    return not len(images) or read_made(folder, images.pixels) is not None


def is_made_of(folder, images, names):
    """Whether the corrupted images with these names in a folder were made from the clean images as they are now.

    A shard checks only its own images. Some of the other images may have changed since they were used.
    """
    paths = images.path_of
    try:
        check_stored(folder, images.folder, {name: paths[name] for name in names}, images.transform_name)
    except UserError:
        return False
    return True


@sigterm_interrupts(RESUME_HINT)
def load_corrupted(data_dir, source, name, num_severity, workers=1, show_progress=False, where="auto",
                   parts=("train", "test")):
    """Load the images of a data set at every severity.

    Args:
        data_dir (str): folder of the data sets.
        source (ImageDataset): the clean images.
        name (str): corruption.
        num_severity (int): number of severities, including the clean one.
        workers (int or Cluster): number of processes for the generator, or a cluster.
        show_progress (bool): whether to show the generator's progress bar even if the output is not a terminal.
        where (str): a key of `STORAGE_MODES`. 'auto' means 'disk' for arrays. For files it means the images on disk, or
            if there are none, 'memory'.
        parts (tuple of str): parts that are needed.

    Returns:
        dict: for each part a list over severities 0, 1, ... of uint8 (N, H, W, 3), memory-mapped or made when they are
            read, or of files.

    Raises:
        UserError: the images on disk are damaged or belong to other data.
        Interrupted: SIGTERM has come while images were being made.
    """
    if where == "auto" and not source.is_file_backed:
        where = "disk"
    images = {}
    for part in parts:
        if where == "disk" and needs_generation(data_dir, source, part, name):
            try:
                generate(data_dir, source, part, name, workers, show_progress)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                raise UserError(f"{error.filename}: {error.strerror}; make it writable, or pass --corrupted_from "
                                "memory to main.py, which stores no corrupted image") from error
        images[part] = [source.images[part],
                        *open_corrupted(data_dir, source, part, name, where, range(1, num_severity))]
    return images


def needs_generation(data_dir, source, part, name):
    """Whether a corruption of a part has to be made.

    This holds if the corruption is not on disk. It also holds if the corruption is in files that this program has
    stored, and some files are missing. They may belong to images that were added later.
    """
    if not is_stored(data_dir, source, part, name):
        return True
    folder = corrupted_folder(data_dir, source, part)
    if not source.is_file_backed or read_json(os.path.join(folder, SETTINGS_FILE)) is None:
        return False
    names, paths = stored_names(source.images[part]), [severity_folder(folder, name, s) for s in SEVERITIES]
    return any(missing_file(path, names) for path in paths)


class LazyCorruptedArray:
    """A corruption of an array. The images are made when they are read, with the pixels that `generate` stores.

    Indexed with int (n,), it gives uint8 (n, H, W, 3).

    Args:
        source (ImageDataset): data set in arrays.
        part (str): 'train' or 'test'.
        name (str): a key of `corruptions.CORRUPTIONS`.
        severity (int): 1 to 5.
    """

    def __init__(self, source, part, name, severity):
        self.source, self.part, self.name, self.severity = source, part, name, severity

    @property
    def shape(self):
        """The shape (N, H, W, 3)."""
        return self.source.images[self.part].shape

    @property
    def identity(self):
        """The pair of None and the recipe: unread images have no pixels (`utils.fingerprint.Fingerprint`)."""
        return None, recipe(self.source.fingerprint(self.part).pixels, self.name, self.severity, SEED)

    def __getitem__(self, indices):
        clean = self.source.images[self.part][indices]
        return corrupt_images(clean, CORRUPTIONS[self.name], self.severity, SEED, indices)


def _store_command(data_dir, source, part, name):
    """Return the command that stores a corruption of one part of a data set."""
    words = ["python", "-m", "corruptions", "dataset", source.name, "-c", name, "--part", part, "--data_dir", data_dir]
    images = source.images[part]
    if source.name == "folder":
        words += ["--image_size", str(images.side)]
    if source.is_file_backed and "interpolation" in images.transform.keywords:
        words += ["--interpolation", images.transform.keywords["interpolation"]]
    return shlex.join(words)


def open_corrupted(data_dir, source, part, name, where="auto", severities=SEVERITIES):
    """Open a corruption of a part of a data set. Nothing is written.

    Args:
        data_dir, source, name: as in `load_corrupted`.
        part (str): 'train' or 'test'.
        where (str): 'auto' takes the images from disk if they are there, and otherwise makes them when they are read.
            'disk' and 'memory' allow only one of these.
        severities (sequence of int): severities that are needed, 1 to 5; others need not be on disk.

    Returns:
        list: for each severity a numpy.memmap or `LazyCorruptedArray`, or for files a `FileImages` or
            `LazyCorruptedFiles`.

    Raises:
        UserError: an array or a file on disk is missing, damaged or belongs to other data.
    """
    stored = where != "memory" and is_stored(data_dir, source, part, name)
    if where == "disk" and not stored:
        raise UserError(f"--corrupted_from disk: {corrupted_folder(data_dir, source, part)} has no {name}, or not all; "
                        f"make it with {_store_command(data_dir, source, part, name)}, or leave the option out")
    if stored:
        if source.is_file_backed:
            images = source.images[part]
            check_stored(corrupted_folder(data_dir, source, part), images.folder, images.path_of, images.transform_name)
        return [open_stored(data_dir, source, part, severity, name) for severity in severities]
    if source.is_file_backed:
        return [LazyCorruptedFiles(source.images[part], name, severity) for severity in severities]
    return [LazyCorruptedArray(source, part, name, severity) for severity in severities]
