"""The split of any data set: the training images of each severity, and the validation images."""
import csv
import os

import numpy as np

from corruptions.utils.errors import UserError
from corruptions.utils.files import write_csv
from dataset.poisson import UNUSED, VALIDATION, Split, clean_split, most_validation, poisson_split
from dataset.sources.imagenet30 import listed_split


def make_split_for(source, num_severity, seed, num_per_class=None, path=None, num_val=None, train_on="poisson",
                   val_fraction=None):
    """Return the split that a command line asks for.

    The data set's own lists define the split if it has lists, images at all severities are trained on, and no table is
    given. Otherwise the split is the result of `make_split`.

    Args:
        source (ImageDataset): the data set.
        Others as in `make_split`.

    Returns:
        Split

    Raises:
        UserError: something does not fit.
    """
    if source.filelist_dir is not None and path is None and train_on == "poisson":
        check_split_options(num_per_class, path, num_val, train_on, val_fraction)
        return listed_split(source, num_severity, seed, num_per_class, num_val)
    return make_split(source.labels["train"], num_severity, seed, num_per_class, path, num_val, train_on, val_fraction)


def write_split(path, split, labels):
    """Write a split as CSV, with one line per image.

    A line has the index of the image, its label, and its severity or the word validation, or unused.
    """
    severities = np.full(len(labels), UNUSED, dtype=object)
    severities[split.validation] = VALIDATION
    severities[split.indices] = split.severities
    order = np.concatenate([split.indices, split.validation, np.flatnonzero(severities == UNUSED)])
    write_csv(path, {"index": order, "label": labels[order], "severity": severities[order]})


def read_split(path, labels, num_severity):
    """Read a split that `write_split` wrote.

    Args:
        path (str): CSV file.
        labels (numpy.ndarray): labels of the data set that the split is for.
        num_severity (int): number of severities that the split must have, including the clean one.

    Returns:
        Split

    Raises:
        UserError: the file is missing, damaged, or made for other data.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe could wait for ever
        raise UserError(f"--split {path}: is not a file; make one with dataset/prepare_dataset.py")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        indices = np.array([int(row["index"]) for row in rows], np.int64)
        stored = np.array([int(row["label"]) for row in rows])
        severities = np.array([{VALIDATION: -1, UNUSED: -2}.get(row["severity"]) or _severity(row["severity"])
                               for row in rows])
    except OSError as error:
        raise UserError(f"--split {path}: {error.strerror}; make one with dataset/prepare_dataset.py") from error
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise UserError(f"--split {path}: not a table of index, label, severity; "
                        "make one with dataset/prepare_dataset.py") from error
    if not np.array_equal(np.sort(indices), np.arange(len(labels))) or not np.array_equal(stored, labels[indices]):
        raise UserError(f"--split {path}: made for other data; its indices and labels are not those of this data set")
    if severities.max() + 1 > num_severity:
        raise UserError(f"--split {path}: has severities up to {severities.max()}; "
                        f"use --num_severity {severities.max() + 1}")
    return Split([indices[severities == s] for s in range(num_severity)], indices[severities == -1])


def _severity(text):
    if int(text) < 0:
        raise ValueError(text)
    return int(text)


def check_split_options(num_per_class=None, path=None, num_val=None, train_on="poisson", val_fraction=None):
    """Check that numbers of images do not exclude each other. Arguments are as in `make_split`.

    Raises:
        UserError: two numbers exclude each other, or one has no effect.
    """
    numbers = {"-n": num_per_class, "--num_val": num_val, "--val_fraction": val_fraction}
    for flag, number in numbers.items():
        if path is not None and number is not None:
            raise UserError(f"{flag} {number}: the table {path} says how many images there are; leave out {flag}, or "
                            "--split")
        if val_fraction is not None and flag != "--val_fraction" and number is not None:
            raise UserError(f"--val_fraction {val_fraction}: {flag} {number} says how many images there are; leave out "
                            "one of them")
    if val_fraction is not None and train_on != "clean":
        raise UserError(f"--val_fraction {val_fraction}: needs --train_on clean; with {train_on}, -n and --num_val say "
                        "how many images there are")


def make_split(labels, num_severity, seed, num_per_class=None, path=None, num_val=None, train_on="poisson",
               val_fraction=None):
    """Return the split that a command line asks for, read from a table or drawn.

    Args:
        labels (numpy.ndarray): int32 (N,), labels of the training set.
        num_severity (int): number of severities, including the clean one.
        seed (int): seed of the draw.
        num_per_class (int or None): number of training images per class. None takes 4/5 of each class, or of clean
            images, all but those for validation.
        path (str or None): table to read instead of drawing.
        num_val (int or None): as in `poisson_split` or `clean_split`.
        train_on (str): a key of `TRAIN_ON`; a table has its own severities.
        val_fraction (float or None): as in `clean_split`.

    Returns:
        Split

    Raises:
        UserError: the table does not fit, a class has too few images, or a number has no effect.
    """
    check_split_options(num_per_class, path, num_val, train_on, val_fraction)
    if path is not None:
        return read_split(path, labels, num_severity)
    if train_on == "clean":
        return clean_split(labels, num_severity, seed, num_per_class, num_val, val_fraction)
    return poisson_split(labels, num_per_class, num_severity, seed, num_val, most_validation(num_per_class))


def counts_table(split, labels):
    """Return the number of training images of each severity as text, one line each.

    If the classes have different numbers of training images, another line has their range.

    Args:
        split (Split): the split.
        labels (numpy.ndarray): int (N,), labels of the training set.
    """
    lines = ["severity  training images"]
    lines += [f"{s:8d}  {count:15d}" for s, count in enumerate(split.counts)]
    lines.append(f"validation: {len(split.validation)} images{f', {split.note}' if split.note else ''}")
    of_class = np.bincount(labels[split.indices], minlength=labels.max() + 1)
    if of_class.min() < of_class.max():
        lines.append(f"training images of a class: {of_class.min()} to {of_class.max()}")
    return "\n".join(lines)
