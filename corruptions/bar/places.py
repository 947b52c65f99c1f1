"""Helpers of the C-bar corruptions: images one by one, strip by strip, and values between pixels."""
import functools
import threading

import numpy as np

PIXELS_AT_ONCE = 1 << 13  # few enough for the processor's cache, and for the memory that large images leave


def one_by_one(function):
    """Return a batch function, as in `corruptions.registry`, that calls `function(image, level, rng)` for each image.

    `image` is uint8 (H, W, C), `level` is the constant of the severity, and `rng` is the random number generator of the
    image.
    """
    @functools.wraps(function)
    def batch(images, level, rngs, options):
        return np.stack([function(image, level, rng) for image, rng in zip(images, rngs, strict=True)])
    return batch


class Inner(threading.local):
    """A random number generator for each thread; reseeding takes a fiftieth of the time of creating a new generator."""

    def __init__(self):
        self.random = np.random.RandomState(0)


INNER = Inner()


def inner_random(rng):
    """Return the generator for the further random numbers of an image, with a seed drawn from `rng`.

    The published classes draw this seed and keep it among the parameters of an image. The generator is valid until the
    next call.
    """
    INNER.random.seed(rng.randint(0, 2 ** 32))
    return INNER.random


def strips(height, width):
    """Divide the rows of an image into strips.

    Yields:
        tuple: slice of a strip; its rows, float64 (R, 1); the columns, float64 (W,).
    """
    rows, columns = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)
    step = max(1, PIXELS_AT_ONCE // width)
    for top in range(0, height, step):
        strip = slice(top, min(top + step, height))
        yield strip, rows[strip], columns


def by_strips(image, function):
    """Compute an image from strips of its rows.

    Args:
        image (numpy.ndarray): uint8 (H, W, C).
        function (callable): map from a strip uint8 (R, W, C), its rows and the columns, as in `strips`, to values
            (R, W, C); values outside of 0..255 are clipped.

    Returns:
        numpy.ndarray: uint8 (H, W, C), with fractions truncated.
    """
    out = np.empty_like(image)
    for strip, rows, columns in strips(*image.shape[:2]):
        out[strip] = cut(function(image[strip], rows, columns))
    return out


def cut(values):
    """Clip values to 0..255 and truncate the fractions; the result is uint8."""
    return np.clip(values, 0, 255).astype(np.uint8)


def framed(image):
    """Return an image (H, W, C) with one pixel of zeros around it, for `between`; (H + 2, W + 2, C)."""
    height, width, channels = image.shape
    frame = np.zeros((height + 2, width + 2, channels), image.dtype)
    frame[1:-1, 1:-1] = image
    return frame


def between(frame, rows, columns):
    """Return the values of an image at places between its pixels, by bilinear interpolation; outside it is black.

    Args:
        frame (numpy.ndarray): the image (H, W, C), as `framed` returns it. With a float32 frame, the weights and sums
            are float32, too, as in the published function with numpy 1. The last bit matters, because later truncation
            shows it.
        rows, columns (numpy.ndarray): the places, float64 (R, S).

    Returns:
        numpy.ndarray: (R, S, C), float32 for a float32 frame, otherwise float64.
    """
    height, width, channels = frame.shape
    pixels = frame.reshape(-1, channels)
    kind = np.float32 if frame.dtype == np.float32 else np.float64
    above, left = np.floor(rows), np.floor(columns)

    def places(first, size):
        first = first.astype(np.int64) + 1
        return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1)

    def weights(place, first):
        return (1 - place + first).astype(kind)[..., None], (1 - (first + 1) + place).astype(kind)[..., None]
    (upper, lower), (near, far) = places(above, height), places(left, width)
    upper, lower = upper * width, lower * width
    near_weight, far_weight = weights(columns, left)
    upper_weight, lower_weight = weights(rows, above)
    over = pixels[upper + near] * near_weight
    over += pixels[upper + far] * far_weight
    under = pixels[lower + near] * near_weight
    under += pixels[lower + far] * far_weight
    over *= upper_weight
    under *= lower_weight
    over += under
    return over
