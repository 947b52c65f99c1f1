"""The data set `folder`: a user's own images, in class folders."""
import collections
import csv
import errno
import hashlib
import os
import sys

import numpy as np

from corruptions.images import check_header, said_of
from corruptions.jobs.sources import read_sources, sources_lists
from corruptions.utils.errors import UserError, one_line
from corruptions.utils.files import write_csv
from corruptions.utils.locks import file_lock
from dataset.image_files import create_centre_crop
from dataset.sources.base import ImageDataset
from dataset.sources.class_folders import list_class_images, list_classes, require_all_classes
from dataset.sources.imagenet import MEAN, STD

IMAGE_SIZE = 64
VALIDATION_FOLDERS = ("val", "valid", "validation")  # usual names of a folder that is not read here
TEST_SHARE = 0.2  # fraction of each class, if there are no test images; the same for every seed of a run
HELD_OUT = "held_out.csv"  # table of exceptions from the hash, in the folder of the images
LOCK_SECONDS = 60  # runs that start at the same time wait up to this long for each other to write that file
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def draw(name):
    """Return the hash of an image's name, 'class/file', from 0 to below 1.

    Below `TEST_SHARE` the image is for testing.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2 ** 32


def split_test(names, labels, exceptions):
    """Choose test images: about a fixed fraction of each class, by a hash of their names.

    Images that are added later therefore leave all others where they are. The hash may leave a class without a test
    image or without a training image. Then one image of the class becomes that, as an exception. It stays an exception
    even if images that are added later make it needless.

    Args:
        names (list of str): 'class/file' of the images.
        labels (numpy.ndarray): int32 (N,).
        exceptions (dict): name to part, 'train' or 'test', of the images that became exceptions earlier.

    Returns:
        tuple: int64 numbers of the training images; int64 numbers of the test images; `exceptions` with the new ones.

    Raises:
        UserError: a class has only one image.
    """
    draws = np.array(list(map(draw, names)))
    parts = np.where(draws < TEST_SHARE, "test", "train")
    exceptions = dict(exceptions)
    for i, name in enumerate(names):
        parts[i] = exceptions.get(name, parts[i])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(f"{names[members[0]]}: is the only image of its class, which needs another to test with; "
                            "add images or remove the class")
        order = members[np.argsort(draws[members])]
        free = [i for i in order if names[i] not in exceptions] or order
        for part, i in (("test", free[0]), ("train", free[-1])):
            if part not in parts[members]:
                parts[i] = exceptions[names[i]] = part
    return np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test"), exceptions


def read_exceptions(path):
    """Read the exceptions of `split_test`, name to part, from their table. Without a table there are none.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        exceptions = dict(rows[1:])
    except FileNotFoundError:
        return {}
    except (ValueError, csv.Error):
        rows = []
    if rows[:1] != [["image", "part"]] or not {"train", "test"}.issuperset(exceptions.values()):
        raise UserError(f"{path}: not a table of image and part; put the old file back, or remove it to have test "
                        "images chosen anew")
    return exceptions


def stored_exceptions(folder):
    """Return the exceptions of an earlier version, name to part.

    The earlier version wrote no table. The corrupted images that it stored for an exception lie in another part than
    the hash says.

    Raises:
        UserError: a list of the stored images is damaged.
    """
    exceptions = {}
    for part in ("train", "test"):
        stored = os.path.join(f"{os.path.abspath(folder)}-C", part)
        if sources_lists(stored):
            exceptions |= {name: part for name in read_sources(stored) if (draw(name) < TEST_SHARE) != (part == "test")}
    return exceptions


def split_test_for_good(folder, names, labels):
    """Choose test images as `split_test` does, and write the exceptions into the folder, where later calls find them.

    Args:
        folder (str): folder of the images; if it is not writable, there is a warning.
        names, labels: as in `split_test`.

    Returns:
        tuple: int64 numbers of the training images; int64 numbers of the test images.

    Raises:
        UserError: a class has only one image, the table is damaged, or another process does not finish writing it.
    """
    path = os.path.join(folder, HELD_OUT)
    table = read_exceptions(path)
    earlier = table or stored_exceptions(folder)
    train, test, exceptions = split_test(names, labels, earlier)
    if exceptions != table:
        try:
            with file_lock(os.path.join(folder, f".{HELD_OUT}.lock"), path, LOCK_SECONDS):
                # Another process may have written the table meanwhile.
                earlier = read_exceptions(path) or earlier
                train, test, exceptions = split_test(names, labels, earlier)
                write_csv(path, {"image": list(exceptions), "part": list(exceptions.values())})
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
            print(f"warning: {path}: cannot be written ({error.strerror}), so that images that are added later may "
                  "turn test images into training images; let it be written, or make folders train and test",
                  file=sys.stderr)
        warn_of_replaced(path, names, earlier, exceptions)
    return train, test


def warn_of_replaced(path, names, earlier, exceptions):
    """Warn of images that became exceptions because earlier ones, of the same class and part, are gone."""
    there = set(names)
    gone = {(os.path.dirname(name), part): name for name, part in earlier.items() if name not in there}
    for name, part in exceptions.items():
        lost = gone.get((os.path.dirname(name), part))
        if lost is not None and name not in earlier:
            word, before = ("test", "trained on it") if part == "test" else ("training", "tested with it")
            print(f"warning: {path}: {lost} is gone, so {name} becomes a {word} image; runs before {before}, unless it "
                  f"is new; put {lost} back and remove the line of {name} there, or train anew", file=sys.stderr)


def load_folder(data_dir, image_size=IMAGE_SIZE, interpolation="bilinear"):
    """List the images of a folder.

    Args:
        data_dir (str): folder that holds train/CLASS/* and test/CLASS/*, or CLASS/*. From CLASS/*,
            `split_test_for_good` holds out about a fifth of each class for testing.
        image_size (int): side of the images. The shorter side of a file is scaled to it, and the middle is cut out.
        interpolation (str): how images are scaled, a key of `INTERPOLATIONS`.

    Returns:
        ImageDataset: data set in files; the labels are the positions of the class folders in alphabetical order.

    Raises:
        UserError: something is missing, or a file does not begin like an image.
    """
    transform, left_out = create_centre_crop(image_size, image_size, interpolation), collections.Counter()
    train, test = (os.path.join(data_dir, part) for part in ("train", "test"))
    if os.path.isdir(train) != os.path.isdir(test):
        there, missing = (train, test) if os.path.isdir(train) else (test, train)
        raise UserError(f"{missing}: no such folder, though there is {there}; add it, or put the class folders into "
                        f"{data_dir} itself, where no class can be called train or test")
    if os.path.isdir(train):
        unread = [name for name in VALIDATION_FOLDERS if os.path.isdir(os.path.join(data_dir, name))]
        if unread:
            print(f"warning: {os.path.join(data_dir, unread[0])}: is not read; validation images are taken from "
                  f"{train}", file=sys.stderr)
        classes = list_classes(train)
        images, labels = {}, {}
        for part, folder in (("train", train), ("test", test)):
            images[part], labels[part] = list_class_images(folder, classes, image_size, transform, left_out=left_out)
            require_all_classes(folder, classes, labels[part])
    else:
        classes = list_classes(data_dir)
        whole, every = list_class_images(data_dir, classes, image_size, transform, left_out=left_out)
        images = {"whole": whole}
    if left_out:
        print(f"warning: {data_dir}: {one_line(said_of(left_out)).removeprefix('; ')}", file=sys.stderr)
    if len(classes) < 2:
        raise UserError(f"{data_dir}: has one class only, {classes[0]}; a classifier needs two or more class folders")
    for subset in images.values():  # a user's own folder may have files of any kind
        for path in subset.paths:
            check_header(os.path.join(subset.folder, path))
    if "whole" in images:
        chosen = dict(zip(("train", "test"), split_test_for_good(data_dir, whole.names, every), strict=True))
        images = {part: whole.subset(indices) for part, indices in chosen.items()}
        labels = {part: every[indices] for part, indices in chosen.items()}
    return ImageDataset("folder", f"{os.path.abspath(data_dir)}-C", len(classes), images, labels, MEAN, STD,
                        class_names=tuple(classes))
