"""Corrupted versions of a whole array of images, the same bytes for any number of workers."""
import numbers
import os
import warnings
import zlib
from collections.abc import Sequence

import numpy as np

from corruptions.bar_levels import ALIASES
from corruptions.registry import DEFAULTS, as_array, check_images
from corruptions.rng import ImageRng
from corruptions.severities import check_severity
from corruptions.table import CORRUPTIONS
from corruptions.utils.errors import UserError

SEED = 0  # seed of a data set's corrupted images; the seed of a run does not change them
BATCH_PIXELS = 16 * 32 * 32  # a corruption gets this many at once, few enough to stay in the processor's cache


def corrupt_range(images, name, severity, seed, start, options=DEFAULTS):
    """Corrupt the images with the numbers `start`, `start + 1`, ... of a data set.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C).
        name (str): a key of `CORRUPTIONS`.
        severity (float): 1 to 5.
        seed (int): seed of the data set, at least 0.
        start (int): number of the first image.
        options (Options): the other options.

    Returns:
        numpy.ndarray: uint8, the shape of `images`.
    """
    check_images(images)
    return corrupt_images(images, CORRUPTIONS[name], severity, seed, range(start, start + len(images)), options)


def corrupt_images(images, corruption, severity, seed, keys, options=DEFAULTS, constants=None):
    """Corrupt images, a few at a time.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C).
        corruption (Corruption): the corruption to apply.
        severity, seed, options: as in `corrupt_range`.
        keys (sequence): number or name of each image, which its random stream depends on, as in `ImageRng.reseed`.
        constants: as in `corrupt`; the random stream then depends on the word 'constants' instead of the severity.

    Returns:
        numpy.ndarray: uint8, the shape of `images`.
    """
    label = "constants" if constants is not None else severity
    size = max(1, BATCH_PIXELS // (images.shape[1] * images.shape[2]))
    streams = [ImageRng(np.random.PCG64(0)) for _ in range(min(size, len(images)))]
    out = np.empty(images.shape, np.uint8)
    for first in range(0, len(images), size):
        batch = np.ascontiguousarray(images[first:first + size])  # a file may store them in Fortran order
        if corruption.is_random:
            for k, stream in enumerate(streams[:len(batch)]):
                stream.reseed(seed, corruption.name, label, keys[first + k])
        out[first:first + size] = corruption.batch(batch, severity, streams[:len(batch)], options, constants)
    return out


def stream_key(key):
    """Return the key of an image as a whole number or a text.

    Args:
        key (int, str, os.PathLike or tuple of these): number, path or other name of the image. A number is the same key
            as its text. A tuple, such as (epoch, number), is the same key as its parts with '/' between them, where '%'
            and '/' in a part become '%25' and '%2F'.

    Raises:
        UserError: the key is none of these.
    """
    if hasattr(key, "item") and getattr(key, "ndim", None) == 0:  # an array or a tensor
        key = key.item()
    if isinstance(key, tuple) and key:
        return "/".join(str(stream_key(part)).replace("%", "%25").replace("/", "%2F") for part in key)
    if isinstance(key, os.PathLike):
        key = os.fspath(key)
    if isinstance(key, numbers.Integral) and not isinstance(key, bool):
        return int(key)
    if not isinstance(key, str):
        raise UserError(f"key of type {type(key).__name__}: must be a whole number, a text or a path")
    return str(key)


def batch_keys(keys, number):
    """Return the `stream_key` of each image of a batch.

    Raises:
        UserError: `keys` is not a sequence with a key for each image.
    """
    keys = keys.tolist() if hasattr(keys, "tolist") else keys  # an array or a tensor
    if isinstance(keys, tuple) or not isinstance(keys, Sequence) or isinstance(keys, str) or len(keys) != number:
        size = f" with {len(keys)} keys" if hasattr(keys, "__len__") else ""
        raise UserError(f"key of type {type(keys).__name__}{size}: must be a list of {number} keys, one for each image "
                        "of the batch; a tuple is one key")
    return [stream_key(key) for key in keys]


def image_keys(number, is_batch, key, first):
    """Return a key for each of the `number` images of a call, from its arguments `key` and `first`, as in `corrupt`.

    Raises:
        UserError: `key` or `first` is not as in `corrupt`.
    """
    if isinstance(first, bool) or not isinstance(first, numbers.Integral) or first < 0:
        raise UserError(f"first {first!r}: must be a whole number of 0 or more")
    if key is None:
        return range(first, first + number)
    if first:
        raise UserError(f"first {first}: has no effect beside key; leave one of them out")
    return batch_keys(key, number) if is_batch else [stream_key(key)]


def check_seed(seed):
    """Raise a `UserError` unless a seed is a whole number of 0 or more."""
    if type(seed) is bool or not isinstance(seed, numbers.Integral) or seed < 0:
        value = seed if isinstance(seed, numbers.Number) else f"of type {type(seed).__name__}"
        raise UserError(f"seed {value}: must be a whole number of 0 or more")


_first_images = {}  # arguments of a call without a key or a first number, to the checksum of its first image
_has_warned = False


def warn_if_repeated(batch, corruption, arguments, caller, ways):
    """Warn once if another batch of as many images gets the same random numbers, because it begins with image 0, too.

    `corruption` is a `Corruption` or a `Perturbation`, and `arguments` are the others on which the random numbers
    depend. The text of the warning has `caller`, the name of a function, and `ways` to mend the call.
    """
    global _has_warned
    if _has_warned or not corruption.is_random or len(batch) == 0:
        return
    if len(_first_images) > 1000:
        _first_images.clear()
    checksum = zlib.crc32(np.ascontiguousarray(batch[0]))
    call = type(corruption), corruption.name, str(arguments), len(batch)
    if _first_images.setdefault(call, checksum) != checksum:
        _has_warned = True
        warnings.warn(f"{caller}: several images or batches get the same random numbers, because each begins with "
                      f"image 0; pass {ways}", stacklevel=3)


def corrupt(images, name, severity=None, seed=0, options=DEFAULTS, key=None, first=0, constants=None):
    """Corrupt a batch of images, or one.

    A call without a key begins with image 0, so that the images of several calls get the same random numbers. In a loop
    over images or batches, give `key` or `first`, or take `Corrupt`.

    Args:
        images (numpy.ndarray or PIL.Image.Image): uint8 (N, H, W, C) for a batch, or a list of colour images of one
            shape; (H, W) or (H, W, C) for one image. C is 1, or 3 for red, green and blue in this order. OpenCV reads
            BGR; `image[..., ::-1]` converts it to RGB. A PIL image is converted to RGB or, where it is grey, to (H, W).
            Its transparent parts are composited on white, and its EXIF data do not turn it.
        name (str): a key of `CORRUPTIONS`, or of `ALIASES`.
        severity (int or float): 1 to 5, needed unless `constants` are given. Between whole numbers, the constants are
            interpolated; whole constants, such as a JPEG quality, are rounded.
        seed (int): at least 0. An image draws from the random stream of (seed, name, severity, key).
        options (Options): the other options.
        key (int, str, os.PathLike or tuple of these): number, path or other name of the image. A batch takes a list, an
            array or a tensor with a key for each image. None numbers the images from `first`.
        first (int): number of the first image, such as of a batch in the middle of a data set.
        constants (float or tuple of float): constants of the corruption instead of a severity, as
            `python -m corruptions list` explains them. The random stream is that of (seed, name, 'constants', key).

    Returns:
        numpy.ndarray: uint8, the shape of `images`, in RGB.

    Raises:
        UserError: an argument is not as above.

    Warns:
        UserWarning: a second image, or a second batch of as many images, gets the same random numbers.
    """
    if not isinstance(name, str):
        raise UserError(f"corruption of type {type(name).__name__}: must be one name, such as 'fog'")
    check_seed(seed)
    name = ALIASES.get(name, name)
    if name not in CORRUPTIONS:
        raise UserError(f"corruption {name}: unknown; choose from {', '.join(CORRUPTIONS)}")
    if constants is not None and severity is not None:
        raise UserError(f"severity {severity!r}: has no effect beside constants; leave one of them out")
    if constants is None and severity is None:
        raise UserError("severity: is missing; give a number from 1 to 5, or constants")
    if constants is None:
        severity = check_severity(severity)
    images = as_array(images)
    is_batch = images.ndim == 4
    batch = images if is_batch else images[None]
    check_images(batch)
    keys = image_keys(len(batch), is_batch, key, first)
    out = corrupt_images(batch, CORRUPTIONS[name], severity, seed, keys, options, constants)
    if key is None and not first:
        warn_if_repeated(batch, CORRUPTIONS[name], (seed, severity, constants), "corrupt",
                         "key=, the number or path of each image, or first=, or take corruptions.Corrupt")
    return out if is_batch else out[0]
