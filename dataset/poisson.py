"""The severities of training images.

In photon-limited corruption, each training image gets one severity, drawn from a Poisson distribution with mean 1.
Alternatively, all training images are clean.
"""
import math
from dataclasses import dataclass

import numpy as np

from corruptions.utils.errors import UserError

VALIDATION, UNUSED = "validation", "unused"
MAX_VALIDATION = 1000  # validation images per class, if no number is given
FEW_VALIDATION = 50  # with -n they are a quarter of the training images, but at least this many
VAL_SHARE = 0.1  # fraction of each class, if training images are clean

# Kinds of training images (`--train_on`).
TRAIN_ON = {
    "poisson": "severities follow a Poisson distribution",
    "clean": "clean images only, as in the DAMP paper",
}


@dataclass(frozen=True)
class Split:
    """The training images of each severity, and the validation images.

    Attributes:
        train (list of numpy.ndarray): for each severity s = 0, 1, ... the int64 indices of its training images.
        validation (numpy.ndarray): int64 indices of the validation images, ascending; all images that are left over, or
            some of them.
        filelist_dir (str or None): folder of file lists that the first run with this split writes
            (`dataset/sources/imagenet30.py`).
        note (str or None): reason why there are not more validation images, for `counts_table`.
    """

    train: list[np.ndarray]
    validation: np.ndarray
    filelist_dir: str | None = None
    note: str | None = None

    @property
    def indices(self):
        """The indices of all training images, severity after severity; int64 (n,)."""
        return np.concatenate(self.train)

    @property
    def severities(self):
        """The severity of each of `indices`, int32 (n,)."""
        return np.repeat(np.arange(len(self.train), dtype=np.int32), self.counts)

    @property
    def counts(self):
        """The number of training images of each severity."""
        return [len(indices) for indices in self.train]

    @property
    def nonempty_severities(self):
        """The severities that have training images."""
        return [s for s, count in enumerate(self.counts) if count]

    @property
    def is_clean(self):
        """Whether no training image is corrupted."""
        return self.nonempty_severities == [0]

    @property
    def train_on(self):
        """The kind of training images, a key of `TRAIN_ON`."""
        return "clean" if self.is_clean else "poisson"

    @property
    def empty(self):
        """The severities that have no training images."""
        return [s for s, count in enumerate(self.counts) if count == 0]


def poisson_counts(num_per_class, num_severity):
    """Return the number of images per class for each severity: floor(K Poisson(s; 1)), s = 0..num_severity-1.

    Args:
        num_per_class (int): K, the number of training images per class.
        num_severity (int): number of severities, including the clean one (0).

    Returns:
        list of int: 1471, 1471, 735, 245, 61, 12 for K = 4000 and 6 severities.
    """
    return [math.floor(num_per_class * math.exp(-1) / math.factorial(s)) for s in range(num_severity)]


def most_validation(num_per_class):
    """Return the maximum number of validation images per class if no number is given.

    The maximum keeps a run on few training images from evaluating on many more.

    Args:
        num_per_class (int or None): number of training images per class that was given. With None, the default, there
            are four training images for each validation image. This also holds for a larger number.
    """
    return MAX_VALIDATION if num_per_class is None else min(MAX_VALIDATION, max(FEW_VALIDATION, num_per_class // 4))


def poisson_split(labels, num_per_class, num_severity, seed, num_val=None, most=MAX_VALIDATION):
    """Draw K images per class and distribute them over the severities. Some of the rest are for validation.

    The draws are the same as in the authors' code after `numpy.random.seed(seed)`.

    Args:
        labels (numpy.ndarray): int (N,), classes 0..C-1, each present.
        num_per_class (int or None): K for every class. None takes 4/5 of the images of each class, with at least one
            clean image. The authors' code has 4000 for CIFAR-10 and 400 for CIFAR-100.
        num_severity (int): number of severities, including the clean one.
        seed (int): seed of the draw.
        num_val (int or None): number of validation images per class, drawn from the rest; None takes the rest, at most
            `most`.
        most (int): maximum number of validation images per class if `num_val` is None.

    Returns:
        Split

    Raises:
        UserError: K is larger than the smallest class, or so small that no severity above 0 has an image, or too few
            images are left over.
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
    if not any(map(len, train)):
        raise UserError(f"-n {num_per_class}: leaves no training image at any severity; give more")
    if not any(map(len, train[1:])):
        raise UserError(f"--train_on poisson: {max(numbers)} training images of a class are too few for any severity "
                        "but 0; give more images, or --train_on clean")
    validation, note = _draw_validation(labels, np.concatenate(train), rng, num_val, most, num_per_class)
    return Split(train, validation, note=note)


def clean_split(labels, num_severity, seed, num_per_class=None, num_val=None, val_fraction=None):
    """Choose clean training images: all images but those for validation.

    Args:
        labels, num_severity, seed: as in `poisson_split`.
        num_per_class (int or None): number of training images per class, drawn at random; None takes all that are not
            for validation.
        num_val (int or None): number of validation images per class. With `num_per_class`, None takes the images that
            are left over, at most `most_validation`. Without it, None takes a fraction of each class.
        val_fraction (float or None): this fraction, 0 to below 1. The number of images is rounded, and at least one
            image is left to train on. None takes `VAL_SHARE`.

    Returns:
        Split: only severity 0 has training images, in ascending order.

    Raises:
        UserError: a class has too few images.
    """
    rng = np.random.RandomState(seed)
    counts, everything, note = np.bincount(labels), np.ones(len(labels), bool), None
    if num_per_class is not None:
        _require_images(labels, num_per_class)
        train = _draw_by_class(labels, everything, np.full(len(counts), num_per_class), rng)
        validation, note = _draw_validation(labels, train, rng, num_val, most_validation(num_per_class), num_per_class)
    else:
        if num_val is None:
            share = VAL_SHARE if val_fraction is None else val_fraction
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
    """Raise a `UserError` unless every class has at least `num_per_class` images."""
    smallest = int(np.bincount(labels).min())
    if num_per_class > smallest:
        raise UserError(f"-n {num_per_class}: the smallest class has {smallest} training images; "
                        "give at most that many")


def _draw_validation(labels, train, rng, num_val, most, num_per_class):
    """Draw validation images from the images that the training images leave over.

    `num_val`, `most` and `num_per_class` are as in `poisson_split`.

    Returns:
        tuple: indices of the validation images, ascending; the `note` of a `Split` about them.
    """
    leftover_mask, note = np.ones(len(labels), bool), None
    leftover_mask[train] = False
    counts = np.bincount(labels[leftover_mask], minlength=labels.max() + 1)
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
    return _draw_by_class(labels, leftover_mask, numbers, rng), note


def _draw_by_class(labels, allowed, numbers, rng):
    """Draw `numbers` (int (C,)) images of each class from the images in the mask `allowed` (bool (N,)).

    Return their indices, ascending.
    """
    indices = np.flatnonzero(allowed)
    indices = indices[np.argsort(labels[indices], kind="stable")]
    classes = np.split(indices, np.cumsum(np.bincount(labels[indices], minlength=len(numbers)))[:-1])
    return np.sort(np.concatenate([rng.choice(members, number, replace=False)
                                   for members, number in zip(classes, numbers, strict=True)]))


