"""`folder`: a user's own images, in class folders."""
import hashlib
import os
import sys
from functools import partial

import numpy as np

from corruptions.images import check_header
from dataset.class_folders import list_classes, list_images, require_all_classes
from dataset.image_files import centre_crop
from dataset.imagenet import MEAN, STD
from dataset.source import Source
from utils.errors import UserError

IMAGE_SIZE = 64
VALIDATION = ("val", "valid", "validation")  # what people call a folder that is not read here
TEST_SHARE = 0.2  # of each class, where there are no test images; whatever the seed of a run


def hold_out(names, labels):
    """Choose test images: about a share of each class, at least one, by a hash of their names, so that images that are
    added later leave those that were trained on where they are.

    Args:
        names (list of str): 'class/file' of the images.
        labels (numpy.ndarray): int32 (N,).

    Returns:
        tuple: int64 numbers of the training images, and of the test images.

    Raises:
        UserError: a class has one image only.
    """
    draws = np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2 ** 32 for name in names])
    test = draws < TEST_SHARE
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(f"{names[members[0]]}: is the only image of its class, which needs another to test with; "
                            "add images or remove the class")
        order = members[np.argsort(draws[members])]
        test[order[0]], test[order[-1]] = True, False  # the one and the other has an image of each class
    return np.flatnonzero(~test), np.flatnonzero(test)


def load_folder(data_dir, image_size=IMAGE_SIZE):
    """List the images of a folder.

    Args:
        data_dir (str): holds train/CLASS/* and test/CLASS/*, or CLASS/*, of which about a fifth of each class is held
            out to test with.
        image_size (int): side of the images, to which the shorter side of a file is scaled; the middle is cut out.

    Returns:
        Source: of files; the labels are the places of the class folders in alphabetical order.

    Raises:
        UserError: something is missing, or a file is no image, as far as its beginning tells.
    """
    fit = partial(centre_crop, side=image_size, shorter=image_size)
    train, test = (os.path.join(data_dir, part) for part in ("train", "test"))
    if os.path.isdir(train) != os.path.isdir(test):
        there, missing = (train, test) if os.path.isdir(train) else (test, train)
        raise UserError(f"{missing}: no such folder, though there is {there}; add it, or put the class folders into "
                        f"{data_dir} itself, where no class can be called train or test")
    if os.path.isdir(train):
        unread = [name for name in VALIDATION if os.path.isdir(os.path.join(data_dir, name))]
        if unread:
            print(f"warning: {os.path.join(data_dir, unread[0])}: is not read; validation images are taken from "
                  f"{train}", file=sys.stderr)
        classes = list_classes(train)
        images, labels = {}, {}
        for part, folder in (("train", train), ("test", test)):
            images[part], labels[part] = list_images(folder, classes, image_size, fit)
            require_all_classes(folder, classes, labels[part])
    else:
        classes = list_classes(data_dir)
        whole, every = list_images(data_dir, classes, image_size, fit)
        chosen = dict(zip(("train", "test"), hold_out(whole.names, every), strict=True))
        images = {part: whole.subset(indices) for part, indices in chosen.items()}
        labels = {part: every[indices] for part, indices in chosen.items()}
    if len(classes) < 2:
        raise UserError(f"{data_dir}: has one class only, {classes[0]}; a classifier needs two or more class folders")
    for some in images.values():  # people's own folders have all kinds of files
        for path in some.paths:
            check_header(os.path.join(some.folder, path))
    return Source("folder", f"{os.path.abspath(data_dir)}-C", len(classes), images, labels, MEAN, STD,
                  class_names=tuple(classes))
