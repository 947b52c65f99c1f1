"""Folders of class folders: their images, and the class of each image."""
import collections
import os
import stat
import sys

import numpy as np

from corruptions.images import image_suffixes, said_of
from corruptions.utils.errors import UserError
from dataset.image_files import FileImages

NOT_REGULAR = "not a regular file"  # such as a FIFO: reading it could wait for ever


def list_classes(folder):
    """Return the class folders of a folder in alphabetical order. The label of a class is its position in this list.

    Raises:
        UserError: there is no such folder, it has no class folder, or a link in it leads nowhere.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: no such folder; put images there as CLASS/FILE, or name the folder above it with "
                        "--data_dir") from error
    for entry in entries:
        _check_entry(entry)
    classes = sorted(entry.name for entry in entries if entry.is_dir())
    if not classes:
        raise UserError(f"{folder}: has no class folder; put the images there as CLASS/FILE")
    return classes


def _check_entry(entry):
    """Raise a `UserError` if an entry of a folder is a link that leads nowhere, or its name cannot be encoded."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        raise UserError(f"{entry.path}: a link that leads nowhere; repair or remove it")
    try:
        entry.name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{entry.path!a}: the name is not in UTF-8; rename it") from error


def list_files(folder, left_out=None):
    """Return the sorted names of the image files in a folder, which are known by their suffix.

    A folder inside it causes a warning.

    Args:
        folder (str): folder of the files.
        left_out (Counter or None): counter of the other files by their suffix. Files that are not regular files are
            counted as such.

    Raises:
        UserError: there are no images, one is empty, or a link leads nowhere.
    """
    suffixes, names, suffix_counts = image_suffixes(), [], collections.Counter()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            _check_entry(entry)
            status = entry.stat()
            if stat.S_ISDIR(status.st_mode):
                print(f"warning: {entry.path}: a folder within a class is not read", file=sys.stderr)
                continue
            suffix = os.path.splitext(entry.name)[1].lower() if stat.S_ISREG(status.st_mode) else NOT_REGULAR
            if suffix in suffixes:
                if status.st_size == 0:
                    raise UserError(f"{entry.path}: is empty; fetch it again, or remove it")
                names.append(entry.name)
            else:
                suffix_counts[suffix] += 1
    if not names:
        raise UserError(f"{folder}: has no image{said_of(suffix_counts)}; fill the folder or remove it")
    if left_out is not None:
        left_out.update(suffix_counts)
    return sorted(names)


def list_class_images(folder, classes, side, transform, inner="", left_out=None):
    """Return the images of a folder of class folders, class after class, sorted by name.

    Args:
        folder (str): folder that holds CLASS/FILE.
        classes (list of str): class names; the position of a class is its label.
        side, transform: as in `FileImages`.
        inner (str): folder within a class folder that holds the images, such as 'images'; it is no part of a name.
        left_out (Counter or None): as in `list_files`.

    Returns:
        tuple: `FileImages`; labels, int32 (N,).

    Raises:
        UserError: a class is missing in `classes` or has no images, or a file is empty.
    """
    paths, names, counts = [], [], np.zeros(len(classes), int)
    places = {name: place for place, name in enumerate(classes)}
    for name in list_classes(folder):
        if name not in places:
            raise UserError(f"{os.path.join(folder, name)}: no class of that name is in the training images; rename or "
                            "remove the folder")
        files = list_files(os.path.join(folder, name, inner) if inner else os.path.join(folder, name), left_out)
        paths += [f"{name}/{inner}/{file}" if inner else f"{name}/{file}" for file in files]
        names += [f"{name}/{file}" for file in files]
        counts[places[name]] = len(files)
    return FileImages(folder, paths, names, side, transform), np.repeat(np.arange(len(classes), dtype=np.int32), counts)


def require_all_classes(folder, classes, labels):
    """Check that each class has an image among the images with `labels`, which come from `folder`.

    Raises:
        UserError: a class has no image.
    """
    missing = np.setdiff1d(np.arange(len(classes)), labels)
    if len(missing):
        raise UserError(f"{os.path.join(folder, classes[missing[0]])}: not there, though other images have this class; "
                        "put its images there")
