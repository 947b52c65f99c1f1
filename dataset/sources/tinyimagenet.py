"""TinyImageNet, in the layout of the distributed tiny-imagenet-200.zip. Its validation images are the test set."""
import os
from functools import partial

import numpy as np

from corruptions.utils.errors import UserError
from dataset.image_files import FileImages, exact, require_sizes
from dataset.sources.base import ImageDataset
from dataset.sources.class_folders import list_class_images, list_classes, list_files

FOLDER = "tiny-imagenet-200"
SIDE = 64
# Statistics of the DAMP authors, who give them for values in 0..255.
MEAN, STD = (tuple(value / 255 for value in values) for values in ((122.48, 114.28, 101.40), (70.49, 68.57, 71.81)))


def read_annotations(path, folder, classes):
    """Return the images that val_annotations.txt names, class after class, sorted by name.

    Args:
        path (str): table with lines of file, class and box, separated by tabs.
        folder (str): folder that holds the files.
        classes (list of str): class names; the position of a class is its label.

    Returns:
        tuple: list of files; list of 'class/file'; labels, int32 (N,).

    Raises:
        UserError: the table is missing or damaged, names a class or a file that is not there, names a file twice, or
            lacks a class or a file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            rows = [line.split("\t")[:2] for line in file if line.strip()]
        pairs = sorted((name, image) for image, name in rows)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing, or not a table of file and class; unpack {FOLDER}.zip again") from error
    places, there = {name: place for place, name in enumerate(classes)}, set(list_files(folder))
    for name, image in pairs:
        if name not in places:
            raise UserError(f"{path}: {image} is of class {name}, which the training images lack; unpack {FOLDER}.zip "
                            "again")
        if image not in there:
            raise UserError(f"{os.path.join(folder, image)}: missing; unpack {FOLDER}.zip again")
    images, tested = [image for _, image in pairs], {name for name, _ in pairs}
    untested = next((name for name in classes if name not in tested), None)
    if untested is not None:
        raise UserError(f"{path}: names no image of class {untested}; unpack {FOLDER}.zip again")
    if len(set(images)) < len(images):
        raise UserError(f"{path}: names an image twice; unpack {FOLDER}.zip again")
    unnamed = there - set(images)
    if unnamed:
        raise UserError(f"{path}: does not name {min(unnamed)}, which is in {folder}; unpack {FOLDER}.zip again")
    labels = np.array([places[name] for name, _ in pairs], np.int32)
    return images, [f"{name}/{image}" for name, image in pairs], labels


def load_tinyimagenet(data_dir):
    """List the files of TinyImageNet.

    Args:
        data_dir (str): folder that holds
            tiny-imagenet-200/{train/CLASS/images/*.JPEG,val/images/*.JPEG,val/val_annotations.txt}.

    Returns:
        ImageDataset: data set in files, 64x64; the labels are the positions of the class folders in alphabetical order.

    Raises:
        UserError: something is missing.
    """
    root = os.path.join(data_dir, FOLDER)
    train, val = os.path.join(root, "train"), os.path.join(root, "val", "images")
    classes = list_classes(train)
    if not os.path.isdir(val):
        raise UserError(f"{val}: no such folder; unpack {FOLDER}.zip again")
    test_paths, test_names, test_labels = read_annotations(os.path.join(root, "val", "val_annotations.txt"), val,
                                                           classes)
    transform = partial(exact, side=SIDE)
    images, labels = list_class_images(train, classes, SIDE, transform, inner="images")
    test = FileImages(val, test_paths, test_names, SIDE, transform)
    for part in (images, test):
        require_sizes(part)
    return ImageDataset("tinyimagenet", f"{FOLDER}-C", len(classes), {"train": images, "test": test},
                        {"train": labels, "test": test_labels}, MEAN, STD, class_names=tuple(classes))
