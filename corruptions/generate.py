"""Corrupted versions of a whole array of images, the same bytes for any number of workers."""
import hashlib
import numbers

import numpy as np

from corruptions.bar_levels import ALIASES
from corruptions.registry import DEFAULTS, as_array, check_images
from corruptions.table import CORRUPTIONS
from corruptions.utils.errors import UserError

SEED = 0  # seed of a data set's corrupted images; the seed of a run does not change them
BATCH_PIXELS = 16 * 32 * 32  # a corruption gets this many at once, few enough to stay in the processor's cache


class ImageRng(np.random.Generator):
    """A numpy generator with the method names of `numpy.random.RandomState` that the corruptions call."""

    randint = np.random.Generator.integers
    random_sample = np.random.Generator.random

    def reseed(self, seed, name, severity, image):
        """Start the random stream of an image; the stream depends on these four values and nothing else.

        `image` is the number of the image in an array, or its relative name in a folder, with '/'.
        """
        key = hashlib.blake2b(f"{seed} {name} {severity} {image}".encode(), digest_size=16).digest()
        self.bit_generator.state = {
            "bit_generator": "PCG64", "state": {"state": int.from_bytes(key, "little"), "inc": 1},
            "has_uint32": 0, "uinteger": 0}


def image_stream(seed, name, severity, image):
    """Return a new random number generator for one image, an `ImageRng` at the start of its stream."""
    stream = ImageRng(np.random.PCG64(0))
    stream.reseed(seed, name, severity, image)
    return stream


def corrupt_range(images, name, severity, seed, start, options=DEFAULTS):
    """Corrupt the images with the numbers `start`, `start + 1`, ... of a data set.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C).
        name (str): a key of `CORRUPTIONS`.
        severity (int): 1 to 5.
        seed (int): seed of the data set, at least 0.
        start (int): number of the first image.
        options (Options): the other options.

    Returns:
        numpy.ndarray: uint8, the shape of `images`.
    """
    check_images(images)
    return corrupt_images(images, CORRUPTIONS[name], severity, seed, range(start, start + len(images)), options)


def corrupt_images(images, corruption, severity, seed, keys, options=DEFAULTS):
    """Corrupt images, a few at a time.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C).
        corruption (Corruption): the corruption to apply.
        severity, seed, options: as in `corrupt_range`.
        keys (sequence): number or name of each image, which its random stream depends on, as in `ImageRng.reseed`.

    Returns:
        numpy.ndarray: uint8, the shape of `images`.
    """
    size = max(1, BATCH_PIXELS // (images.shape[1] * images.shape[2]))
    streams = [ImageRng(np.random.PCG64(0)) for _ in range(min(size, len(images)))]
    out = np.empty(images.shape, np.uint8)
    for first in range(0, len(images), size):
        batch = np.ascontiguousarray(images[first:first + size])  # a file may store them in Fortran order
        if corruption.is_random:
            for k, stream in enumerate(streams[:len(batch)]):
                stream.reseed(seed, corruption.name, severity, keys[first + k])
        out[first:first + size] = corruption.batch(batch, severity, streams[:len(batch)], options)
    return out


def corrupt(images, name, severity, seed=0, options=DEFAULTS):
    """Corrupt a batch of images, or one.

    Args:
        images (numpy.ndarray or PIL.Image.Image): uint8 (N, H, W, C) for a batch, or a list of colour images of one
            shape; (H, W) or (H, W, C) for one image. C is 1, or 3 for red, green and blue in this order. OpenCV reads
            BGR; `image[..., ::-1]` converts it to RGB. A PIL image is converted to RGB or, where it is grey, to (H, W).
            Its transparent parts are composited on white, and its EXIF data do not turn it.
        name (str): a key of `CORRUPTIONS`, or of `ALIASES`.
        severity (int): 1 to 5.
        seed (int): at least 0; image k of a batch draws from the stream of (seed, name, severity, k). One image counts
            as image 0.
        options (Options): the other options.

    Returns:
        numpy.ndarray: uint8, the shape of `images`, in RGB.

    Raises:
        UserError: an argument is not as above.
    """
    if not isinstance(name, str):
        raise UserError(f"corruption of type {type(name).__name__}: must be one name, such as 'fog'")
    if type(seed) is bool or not isinstance(seed, numbers.Integral) or seed < 0:
        value = seed if isinstance(seed, numbers.Number) else f"of type {type(seed).__name__}"
        raise UserError(f"seed {value}: must be a whole number of 0 or more")
    name = ALIASES.get(name, name)
    if name not in CORRUPTIONS:
        raise UserError(f"corruption {name}: unknown; there are {', '.join(CORRUPTIONS)}")
    images = as_array(images)
    if images.ndim == 4:
        return corrupt_range(images, name, severity, seed, 0, options)
    return corrupt_range(images[None], name, severity, seed, 0, options)[0]
