"""Photon-limited corruption: each training image gets one severity, drawn from a Poisson law with mean 1."""
import csv
import math
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.files import write_csv

VALIDATION, UNUSED = "validation", "unused"


@dataclass(frozen=True)
class Split:
    """Which images of a training set are trained on, and at which severity.

    Attributes:
        train (list of numpy.ndarray): for each severity s = 0, 1, ... the int64 indices of its training images.
        validation (numpy.ndarray): int64 indices of the validation images, rising: what is left over, or some of it.
    """

    train: list[np.ndarray]
    validation: np.ndarray

    @property
    def indices(self):
        """All training images, severity after severity; int64 (n,)."""
        return np.concatenate(self.train)

    @property
    def severities(self):
        """Severity of each of `indices`, int32 (n,)."""
        return np.repeat(np.arange(len(self.train), dtype=np.int32), self.counts)

    @property
    def counts(self):
        """Training images of each severity."""
        return [len(indices) for indices in self.train]

    @property
    def empty(self):
        """The severities that no training image has."""
        return [s for s, count in enumerate(self.counts) if count == 0]


def poisson_counts(num_per_class, num_severity):
    """Images of one class for each severity: floor(K Poisson(s; 1)), s = 0..num_severity-1.

    Args:
        num_per_class (int): K, training images of a class.
        num_severity (int): number of severities, the clean one (0) included.

    Returns:
        list of int: for K = 4000 and 6 severities 1471, 1471, 735, 245, 61, 12.
    """
    return [math.floor(num_per_class * math.exp(-1) / math.factorial(s)) for s in range(num_severity)]


def default_num_per_class(labels):
    """4/5 of the smallest class: 4000 for CIFAR-10 and 400 for CIFAR-100, as the release sets it."""
    return int(np.bincount(labels).min() * 4 // 5)


def poisson_split(labels, num_per_class, num_severity, seed, val_per_class=None):
    """Draw K images of every class and share them out over the severities; the rest is for validation.

    The draws are those that the release makes after `numpy.random.seed(seed)`.

    Args:
        labels (numpy.ndarray): int (N,), classes 0..C-1, each present.
        num_per_class (int): K.
        num_severity (int): number of severities, the clean one included.
        seed (int): seed of the draw.
        val_per_class (int or None): validation images of a class, drawn from the rest; None takes the rest.

    Returns:
        Split

    Raises:
        UserError: K is larger than the smallest class, or not enough is left over.
    """
    smallest = int(np.bincount(labels).min())
    if num_per_class > smallest:
        raise UserError(f"-n {num_per_class}: the smallest class has {smallest} training images; "
                        "give at most that many")
    rng = np.random.RandomState(seed)
    bounds = np.cumsum(poisson_counts(num_per_class, num_severity))
    train = [[] for _ in bounds]
    for label in range(labels.max() + 1):
        chosen = rng.choice(np.flatnonzero(labels == label), num_per_class, replace=False)
        for indices, part in zip(train, np.split(chosen, bounds), strict=False):  # the last part is the rest
            indices.append(part)
    train = [np.concatenate(indices) for indices in train]
    left = np.ones(len(labels), bool)
    left[np.concatenate(train)] = False
    validation = np.flatnonzero(left)
    if val_per_class is not None:
        fewest = int(np.bincount(labels[validation], minlength=labels.max() + 1).min())
        if val_per_class > fewest:
            raise UserError(f"--val_per_class {val_per_class}: only {fewest} images of a class are left for that; "
                            "give at most that many, or a smaller -n")
        validation = np.sort(np.concatenate([rng.choice(validation[labels[validation] == label], val_per_class,
                                                        replace=False) for label in range(labels.max() + 1)]))
    return Split(train, validation)


def write_split(path, split, labels):
    """Write a split as CSV: one line per image with its index, its label, and its severity or the word validation, or
    unused."""
    severities = np.full(len(labels), UNUSED, dtype=object)
    severities[split.validation] = VALIDATION
    severities[split.indices] = split.severities
    order = np.concatenate([split.indices, split.validation, np.flatnonzero(severities == UNUSED)])
    write_csv(path, {"index": order, "label": labels[order], "severity": severities[order]})


def read_split(path, labels, num_severity):
    """Read what `write_split` wrote.

    Args:
        path (str): CSV file.
        labels (numpy.ndarray): labels of the data set that the split is for.
        num_severity (int): number of severities that the split must have, the clean one included.

    Returns:
        Split

    Raises:
        UserError: the file is missing, damaged, or made for other data.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        indices = np.array([int(row["index"]) for row in rows], np.int64)
        stored = np.array([int(row["label"]) for row in rows])
        severities = np.array([{VALIDATION: -1, UNUSED: -2}.get(row["severity"]) or int(row["severity"])
                               for row in rows])
    except OSError as error:
        raise UserError(f"--split {path}: {error.strerror}; make one with dataset/prepare_dataset.py") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--split {path}: not a table of index, label, severity; "
                        "make one with dataset/prepare_dataset.py") from error
    if not np.array_equal(np.sort(indices), np.arange(len(labels))) or not np.array_equal(stored, labels[indices]):
        raise UserError(f"--split {path}: made for other data; its indices and labels are not those of this data set")
    if severities.max() + 1 > num_severity:
        raise UserError(f"--split {path}: has severities up to {severities.max()}; "
                        f"use --num_severity {severities.max() + 1}")
    return Split([indices[severities == s] for s in range(num_severity)], indices[severities == -1])


def choose_split(labels, num_severity, seed, num_per_class=None, path=None, val_per_class=None):
    """The split that a command line asks for: read from a table, or drawn.

    Args:
        labels (numpy.ndarray): int32 (N,), of the training set.
        num_severity (int): number of severities, the clean one included.
        seed (int): seed of the draw.
        num_per_class (int or None): training images of a class; None takes `default_num_per_class`.
        path (str or None): the table to read instead of drawing.
        val_per_class (int or None): as of `poisson_split`.

    Returns:
        Split

    Raises:
        UserError: the table does not fit, or a class has too few images.
    """
    if path is not None:
        return read_split(path, labels, num_severity)
    return poisson_split(labels, num_per_class or default_num_per_class(labels), num_severity, seed, val_per_class)


def counts_table(split):
    """The number of training images of each severity as text, one line each."""
    lines = ["severity  training images"]
    lines += [f"{s:8d}  {count:15d}" for s, count in enumerate(split.counts)]
    lines.append(f"validation: {len(split.validation)} images")
    return "\n".join(lines)
