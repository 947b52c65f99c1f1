"""Arrays of images in .npy and .npz files: reading the arrays, and the layout of the corrupted arrays."""
import collections
import glob
import os
import sys

import numpy as np

from corruptions.registry import check_images
from corruptions.utils.errors import UserError
from corruptions.utils.files import load_array, write_array

LABELS_FILE = "labels.npy"
LAYOUTS = {
    "folders": "TARGET/SEVERITY/CORRUPTION.npy",
    "stacked": "TARGET/CORRUPTION.npy with severities 1 to 5 one after the other, as CIFAR-10-C is distributed",
}


def array_paths(target, names, severities, layout):
    """Return the paths of the corrupted arrays.

    Args:
        target (str): target folder.
        names (list of str): names of the corruptions.
        severities (list): severities, int or float, each 1 to 5.
        layout (str): a key of `LAYOUTS`.

    Returns:
        dict: corruption to a dict from severity to the path of a .npy file; stacked severities have the same path.

    Raises:
        UserError: the severities cannot be stacked, because not all five are given; the array would not show which ones
            it has.
    """
    if layout == "folders":
        return {name: {severity: os.path.join(target, str(severity), f"{name}.npy") for severity in severities}
                for name in names}
    if set(severities) != {1, 2, 3, 4, 5}:
        raise UserError(f"--severity {' '.join(map(str, severities))}: --layout stacked has all five severities; leave "
                        "--severity out, or give --layout folders")
    return {name: dict.fromkeys((1, 2, 3, 4, 5), os.path.join(target, f"{name}.npy")) for name in names}


# Names of the images and of the labels in .npz files. MedMNIST has the first ones, Keras the second.
IMAGE_NAMES = ("{part}_images", "x_{part}", "images", "x", "data")
LABEL_NAMES = ("{part}_labels", "y_{part}", "labels", "y", "targets")
PARTS = ("train", "val", "test")


def read_images(path, part=None):
    """Read the images in a .npy or .npz file, and the labels that an .npz file has beside them.

    Args:
        path (str): the file.
        part (str or None): one of `PARTS`, for an .npz file that has several; None takes 'test' there.

    Returns:
        tuple: the images, uint8 (N, H, W) or (N, H, W, C), memory-mapped from a .npy file; the labels, an array with a
            row for each image, or None.

    Raises:
        UserError: the file is missing, or has no images that can be corrupted.
    """
    labels = None
    if path.lower().endswith(".npz"):
        images, labels = _read_npz(path, part)
    elif part is not None:
        raise UserError(f"--part {part}: only an .npz file has parts; leave it out")
    else:
        try:
            images = load_array(path, "r")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: {_problem(error)}; name a .npy or .npz file of images") from error
    if images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3)):
        raise UserError(f"{path}: has shape {images.shape}, as one image x, and must have (N, H, W, C) or (N, H, W); "
                        f"store x[None], of shape {(1, *images.shape)}")
    try:
        check_images(images)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if len(images) == 0:
        raise UserError(f"{path}: has no images, its shape is {images.shape}; name an array of one or more")
    return images, labels


def _problem(error, otherwise="truncated or not a numpy array"):
    """Return why a file cannot be loaded: the message of the operating system, or `otherwise`."""
    return getattr(error, "strerror", None) or otherwise


def _read_npz(path, part):
    wanted = [name.format(part=part or "test") for name in IMAGE_NAMES if part is None or "{" in name]
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe could wait for ever
            raise ValueError("no file")
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("one array")
        with file:
            there = file.files
            [images, labels] = [next((file[name] for name in names if name in there), None) for names in (
                wanted, [name.format(part=part or "test") for name in LABEL_NAMES])]
    except Exception as error:  # a damaged file raises many kinds of errors
        raise UserError(f"{path}: {_problem(error, 'damaged or not an .npz file of arrays')}; name an .npz file of "
                        "arrays") from error
    if images is None:
        raise UserError(f"{path}: has {', '.join(there) or 'nothing'}, and none of {', '.join(wanted)}; store the "
                        "images under such a name, or name another part with --part")
    if not isinstance(images, np.ndarray) or not isinstance(labels, (np.ndarray, type(None))):
        raise UserError(f"{path}: holds more than arrays; name an .npz file of arrays")
    return images, labels


def read_labels(path, number):
    """Return the labels in a .npy file, integers (number,); the file may have them in a column, (number, 1).

    Raises:
        UserError: the file is missing, or has values of another shape or type.
    """
    try:
        labels = load_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"--labels {path}: {_problem(error)}; name a .npy file of integers") from error
    return check_labels(labels, number, f"--labels {path}")


def check_labels(labels, number, place):
    """Return labels as integers (number,), from this shape or a column.

    Raises:
        UserError: the labels have another shape or type; the error names `place`.
    """
    if labels.shape == (number, 1):
        labels = labels[:, 0]
    if labels.shape != (number,) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{place}: {labels.dtype} of shape {labels.shape}, but {number} images need integers of shape "
                        f"{(number,)}; store one for each image")
    return labels


def stored_labels(labels, number, place):
    """Return the labels of an .npz file as `check_labels` does; several for each image are left out with a warning."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        print(f"warning: {place}: has {labels.shape[1]} labels for each image, and labels.npy has one; they are left "
              "out", file=sys.stderr)
        return None
    return check_labels(labels, number, place)


def check_stored_labels(labels, target, place):
    """Check that the arrays in a folder, of all severities, have no other labels; a folder has one labelling.

    Args:
        labels (numpy.ndarray): integers (N,).
        target (str): target folder, as in `array_paths`; it may be missing.
        place (str): where the labels come from, for the error.

    Raises:
        UserError: the folder has other labels, or its labels cannot be read.
    """
    for inner in ("", "[1-5]*"):
        for path in sorted(glob.glob(os.path.join(glob.escape(target), inner, LABELS_FILE))):
            stored = _read(path)
            if not np.array_equal(stored, np.tile(labels, max(1, stored.size // len(labels)))):
                raise UserError(f"{path}: has other labels than {place}; give those, or name a new folder")


def store_labels(labels, paths):
    """Write labels beside corrupted arrays, repeated for each severity in an array; existing files stay.

    Args:
        labels (numpy.ndarray): integers (N,).
        paths (dict): severity to the path of its array, as for one corruption in `array_paths`.

    Returns:
        int: number of files that were not there before.
    """
    made = 0
    for folder, times in collections.Counter(map(os.path.dirname, paths.values())).items():
        path = os.path.join(folder, LABELS_FILE)
        if not os.path.exists(path):
            write_array(path, np.tile(labels, times))
            made += 1
    return made


def _read(path):
    try:
        return load_array(path)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or not a numpy array; remove it, and give the same command "
                        "again") from error
