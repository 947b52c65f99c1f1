"""Who is trained on at which severity. Photon-limited corruption: each training image gets one severity, drawn from a
Poisson law with mean 1. Or all are clean.
"""
import math
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError

VALIDATION, UNUSED = "validation", "unused"
MAX_VALIDATION = 1000  # validation images of a class, where no number is asked for
FEW_VALIDATION = 50  # with -n they are a quarter of the training images, but not fewer than this
VAL_SHARE = 0.1  # of each class, of the clean images

# What training images can be (`--train_on`).
TRAIN_ON = {
    "poisson": "images at severities that follow a Poisson law",
    "clean": "clean images alone, all but --val_share, the protocol of the DAMP paper",
}


@dataclass(frozen=True)
class Split:
    """Which images of a training set are trained on, and at which severity.

    Attributes:
        train (list of numpy.ndarray): for each severity s = 0, 1, ... the int64 indices of its training images.
        validation (numpy.ndarray): int64 indices of the validation images, rising: what is left over, or some of it.
        lists (str or None): folder of file lists that the first run with it writes (`dataset/sources/imagenet30.py`).
        note (str or None): why there are not more validation images, for `counts_table`.
    """

    train: list[np.ndarray]
    validation: np.ndarray
    lists: str | None = None
    note: str | None = None

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
    def present(self):
        """The severities that some training image has."""
        return [s for s, count in enumerate(self.counts) if count]

    @property
    def is_clean(self):
        """Whether no training image is corrupted."""
        return self.present == [0]

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


def most_validation(num_per_class):
    """Validation images of a class at most, where no number is asked for, so that a run on few training images does not
    evaluate on many more.

    Args:
        num_per_class (int or None): training images of a class that were asked for; the default, None, has four of them
            for each validation image, and so has a larger number.
    """
    return MAX_VALIDATION if num_per_class is None else min(MAX_VALIDATION, max(FEW_VALIDATION, num_per_class // 4))


def poisson_split(labels, num_per_class, num_severity, seed, num_val=None, most=MAX_VALIDATION):
    """Draw K images of a class and share them out over the severities; of the rest some are for validation.

    The draws are those that the release makes after `numpy.random.seed(seed)`.

    Args:
        labels (numpy.ndarray): int (N,), classes 0..C-1, each present.
        num_per_class (int or None): K of every class; None takes 4/5 of its own images for each, as the release has
            4000 for CIFAR-10 and 400 for CIFAR-100, and at least one clean one.
        num_severity (int): number of severities, the clean one included.
        seed (int): seed of the draw.
        num_val (int or None): validation images of a class, drawn from the rest; None takes the rest, at most `most`.
        most (int): validation images of a class at most, where no number is asked for.

    Returns:
        Split

    Raises:
        UserError: K is larger than the smallest class, or not enough is left over.
    """
    if num_per_class is None:
        numbers, fewest = np.maximum(np.bincount(labels) * 4 // 5, 1), 1
    else:
        _require_images(labels, num_per_class)
        numbers, fewest = np.full(labels.max() + 1, num_per_class), 0
    rng = np.random.RandomState(seed)
    train = [[] for _ in range(num_severity)]
    for label, number in enumerate(numbers):
        counts = poisson_counts(number, num_severity)
        counts[0] = max(counts[0], fewest)
        chosen = rng.choice(np.flatnonzero(labels == label), number, replace=False)
        for indices, part in zip(train, np.split(chosen, np.cumsum(counts)), strict=False):  # the last part is the rest
            indices.append(part)
    train = [np.concatenate(indices) for indices in train]
    validation, note = _draw_validation(labels, np.concatenate(train), rng, num_val, most, num_per_class)
    return Split(train, validation, note=note)


def clean_split(labels, num_severity, seed, num_per_class=None, num_val=None, val_share=None):
    """Train on clean images, all but those for validation.

    Args:
        labels, num_severity, seed: as in `poisson_split`.
        num_per_class (int or None): training images of a class, drawn at random; None takes all that are not for
            validation.
        num_val (int or None): validation images of a class; None takes, beside `num_per_class`, what is left
            over, at most `most_validation`, and else a share of each class.
        val_share (float or None): that share, 0 to below 1, rounded; one image at least is left to train on. None
            takes `VAL_SHARE`.

    Returns:
        Split: only severity 0 has training images, in rising order.

    Raises:
        UserError: a class has not so many images.
    """
    rng = np.random.RandomState(seed)
    counts, everything, note = np.bincount(labels), np.ones(len(labels), bool), None
    if num_per_class is not None:
        _require_images(labels, num_per_class)
        train = _draw_by_class(labels, everything, np.full(len(counts), num_per_class), rng)
        validation, note = _draw_validation(labels, train, rng, num_val, most_validation(num_per_class), num_per_class)
    else:
        if num_val is None:
            share = VAL_SHARE if val_share is None else val_share
            numbers = np.minimum(np.rint(share * counts).astype(int), counts - 1)
        elif num_val < counts.min():
            numbers = np.full(len(counts), num_val)
        else:
            raise UserError(f"--num_val {num_val}: the smallest class has {counts.min()} training images, and some "
                            "have to be left to train on; give a smaller number")
        validation = _draw_by_class(labels, everything, numbers, rng)
        train = np.setdiff1d(np.arange(len(labels)), validation)
    return Split([train] + [np.arange(0)] * (num_severity - 1), validation, note=note)


def _require_images(labels, num_per_class):
    """Make sure that every class has so many images."""
    smallest = int(np.bincount(labels).min())
    if num_per_class > smallest:
        raise UserError(f"-n {num_per_class}: the smallest class has {smallest} training images; "
                        "give at most that many")


def _draw_validation(labels, train, rng, num_val, most, num_per_class):
    """Validation images from what the training images leave over, rising; and the `note` of a `Split` about them.
    `num_val`, `most` and `num_per_class` are as in `poisson_split`."""
    left, note = np.ones(len(labels), bool), None
    left[train] = False
    counts = np.bincount(labels[left], minlength=labels.max() + 1)
    if num_val is None:
        numbers = np.minimum(counts, most)
        if most < min(counts.max(), MAX_VALIDATION):
            note = f"at most {most} of a class, where up to {counts.max()} are left over; --num_val N takes N"
    elif num_val > counts.min():
        fewer = "" if num_per_class is None else f", or -n below {num_per_class}"
        raise UserError(f"--num_val {num_val}: only {counts.min()} images of class {counts.argmin()} are left for "
                        f"that; give at most that many, or add images of the class{fewer}")
    else:
        numbers = np.full(len(counts), num_val)
    return _draw_by_class(labels, left, numbers, rng), note


def _draw_by_class(labels, allowed, numbers, rng):
    """Of each class as many images as `numbers` (int (C,)) says, of those `allowed` (bool (N,)); rising indices."""
    indices = np.flatnonzero(allowed)
    indices = indices[np.argsort(labels[indices], kind="stable")]
    classes = np.split(indices, np.cumsum(np.bincount(labels[indices], minlength=len(numbers)))[:-1])
    return np.sort(np.concatenate([rng.choice(own, number, replace=False)
                                   for own, number in zip(classes, numbers, strict=True)]))


