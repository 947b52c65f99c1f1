"""Corrupted versions of a data set on disk: their paths, and checks that they are complete and of these images."""
import os
import sys
from functools import partial

import numpy as np

from corruptions.generate import SEED
from corruptions.jobs.arrays import is_partial
from corruptions.jobs.folders import corrupted_name
from corruptions.jobs.provenance import read_made, recipe, record_path, recorded_pixels
from corruptions.jobs.shards import is_unfinished
from corruptions.severities import SEVERITIES
from corruptions.utils.checksums import array_digest
from corruptions.utils.errors import UserError
from corruptions.utils.files import load_array
from dataset.image_files import FileImages, exact, files_recipe


def corrupted_folder(data_dir, source, part):
    """Return the folder of the corrupted versions of a part, 'train' or 'test'."""
    return os.path.join(data_dir, source.corrupted_folder, part)


def corrupted_path(data_dir, source, part, severity, name):
    """Return the path of an array. `part` is 'train' or 'test', `name` a corruption or 'labels'."""
    return os.path.join(corrupted_folder(data_dir, source, part), str(severity), f"{name}.npy")


def severity_folder(folder, name, severity):
    """Return the folder of a corruption at a severity, below the folder of a part of a data set in files."""
    return os.path.join(folder, name, str(severity))


def open_array(path, shape):
    """Open an array of uint8 without reading it into memory.

    Raises:
        UserError: the file is missing, truncated or no array, or the array has another shape or dtype.
    """
    try:
        array = load_array(path, "r")
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there, though other severities are; put it back, or delete the others so that "
                        "all are made again") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or not a numpy array; delete it so that it is made again") from error
    if array.shape != shape or array.dtype != np.uint8:
        raise UserError(f"{path}: {array.dtype} of shape {array.shape}, but this data set needs uint8 of {shape}; "
                        "delete it so that it is made again, or name another --data_dir")
    return array


def require_same_labels(path, labels):
    """Check that a file holds `labels`, in this order.

    Raises:
        UserError: the file does not hold them, or cannot be read.
    """
    try:
        stored = load_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: missing or not a numpy array; delete the folder {os.path.dirname(path)} "
                        "so that it is made again") from error
    if not np.array_equal(stored, labels):
        raise UserError(f"{path}: not the labels of this data set, so the images beside it are others; "
                        "name another --data_dir, or delete the file's folder")


def is_stored(data_dir, source, part, name):
    """Whether a corruption of a part is on disk. A corruption that was begun and not finished is not.

    If only some severities are there, the corruption counts as stored, and the other severities are then missing. The
    severities that are there may be somebody else's images, and must not be mixed with ours.
    """
    if source.is_file_backed:
        folder = corrupted_folder(data_dir, source, part)
        return os.path.isdir(os.path.join(folder, name)) and not is_unfinished(folder, name)
    paths = [corrupted_path(data_dir, source, part, severity, name) for severity in SEVERITIES]
    return any(os.path.exists(path) for path in paths) and not any(is_partial(path) for path in paths)


def open_stored(data_dir, source, part, severity, name):
    """Open one severity of a corruption, memory-mapped, uint8 (N, H, W, 3), or as files.

    Raises:
        UserError: the array or a file is missing, damaged or belongs to other data.
    """
    if source.is_file_backed:
        path = severity_folder(corrupted_folder(data_dir, source, part), name, severity)
        images = stored_files(path, source.images[part])
        warn_if_changed(path, images.pixels)
        _, made = images.identity
        check_made(path, made, files_recipe(source.images[part], name, severity))
        return images
    require_same_labels(corrupted_path(data_dir, source, part, severity, "labels"), source.labels[part])
    path = corrupted_path(data_dir, source, part, severity, name)
    array = open_array(path, source.images[part].shape)
    pixels = array_digest(array)
    warn_if_changed(path, pixels)
    check_made(path, read_made(path, pixels), recipe(source.fingerprint(part).pixels, name, severity, SEED))
    return array


def warn_if_changed(path, pixels):
    """Warn if the record beside a stored set is of other content.

    Args:
        path (str): the array or folder.
        pixels (str): hash of its content.
    """
    record = record_path(path)
    if recorded_pixels(path) not in (None, pixels):
        print(f"warning: {path}: is not what {record} says, so it was damaged or replaced; delete both so that it is "
              f"made again, or {os.path.basename(record)} alone if it is meant", file=sys.stderr)


def check_made(path, made, expected):
    """Check that a stored set is the expected one, if its record says how it was made.

    Args:
        path (str): the array or folder.
        made (dict or None): content of the record; None if there is no record.
        expected (dict): content that the record must have.

    Raises:
        UserError: the stored set is another one.
    """
    changed = [key for key in expected if made is not None and made.get(key) != expected[key]]
    if changed:
        differences = ", ".join(f"{key.replace('_', ' ')} {made.get(key)}" for key in changed if key != "clean_images")
        reason = f"with {differences}" if differences else "from other images than there are now"
        raise UserError(f"{path}: was made {reason}; delete it so that it is made again, name another --data_dir, or "
                        "pass --corrupted_from memory to main.py")


def stored_files(folder, clean):
    """Return the corrupted versions of images in files.

    Args:
        folder (str): folder that holds CLASS/FILE, named like the clean images. Names without a JPEG suffix get the
            suffix .jpg.
        clean (FileImages): the clean images.

    Returns:
        FileImages

    Raises:
        UserError: a file is missing.
    """
    paths = stored_names(clean)
    missing = missing_file(folder, paths)
    if missing is not None:
        raise UserError(f"{os.path.join(folder, missing)}: not there, though other images of this corruption are; put "
                        "it back, or pass --corrupted_from memory to main.py, which reads no corrupted image from disk")
    return FileImages(folder, paths, clean.names, clean.side, partial(exact, side=clean.side))


def stored_names(clean):
    """Return the names of the corrupted versions of images in files, a list of 'class/file'."""
    return [corrupted_name(name, "jpeg") for name in clean.names]


def missing_file(folder, paths):
    """Return the first of some files, 'class/file', that is not in a folder, or None."""
    names = files_of_classes(folder)
    return next((path for path in paths if path not in names), None)


def files_of_classes(folder):
    """Return the files in the class folders of a folder, a set of 'class/file'; empty if there is no such folder."""
    return {f"{entry.name}/{file}" for entry in os.scandir(folder) if entry.is_dir()
            for file in os.listdir(entry.path)} if os.path.isdir(folder) else set()
