"""What the corruptions of C-bar share: images one by one, strip by strip, and pixels between pixels."""
import functools
import threading

import numpy as np

PIXELS_AT_ONCE = 1 << 13  # few enough for the processor's cache, and for the memory that large images leave


def one_by_one(function):
    """Make a batch function, as in `corruptions.registry`, of `function(image, level, rng)`.

    `image` is uint8 (H, W, C), `level` the severity's constant, `rng` the image's source of random numbers.
    """
    @functools.wraps(function)
    def batch(images, level, rngs, options):
        return np.stack([function(image, level, rng) for image, rng in zip(images, rngs, strict=True)])
    return batch


class Inner(threading.local):
    """A source of random numbers for each thread: to seed one anew takes a fiftieth of the time of a new one."""

    def __init__(self):
        self.random = np.random.RandomState(0)


INNER = Inner()


def inner_random(rng):
    """The source that the published classes go on from: they draw a seed and keep it among an image's parameters. It
    is good until the next one is asked for."""
    INNER.random.seed(rng.randint(0, 2 ** 32))
    return INNER.random


def strips(height, width):
    """Divide the rows of an image; yields for each strip its slice, its rows float64 (R, 1), the columns float64 (W,).
    """
    rows, columns = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)
    step = max(1, PIXELS_AT_ONCE // width)
    for top in range(0, height, step):
        strip = slice(top, min(top + step, height))
        yield strip, rows[strip], columns


def by_strips(image, function):
    """Make an image from strips of its rows.

    Args:
        image (numpy.ndarray): uint8 (H, W, C).
        function (callable): from a strip uint8 (R, W, C), its rows and the columns, as in `strips`, to values
            (R, W, C), of which those outside of 0..255 are clipped.

    Returns:
        numpy.ndarray: uint8 (H, W, C), fractions cut off.
    """
    out = np.empty_like(image)
    for strip, rows, columns in strips(*image.shape[:2]):
        out[strip] = cut(function(image[strip], rows, columns))
    return out


def cut(values):
    """Clip values to 0..255 and cut off the fraction; uint8."""
    return np.clip(values, 0, 255).astype(np.uint8)


def framed(image):
    """An image (H, W, C) with one pixel of zeros around it, for `between`; (H + 2, W + 2, C)."""
    height, width, channels = image.shape
    frame = np.zeros((height + 2, width + 2, channels), image.dtype)
    frame[1:-1, 1:-1] = image
    return frame


def between(frame, rows, columns):
    """The values of an image at places between its pixels, by bilinear interpolation; outside it is black.

    Args:
        frame (numpy.ndarray): the image (H, W, C), as in `framed`. In float32, the weights and sums are, too, as those
            of the published function are with numpy 1: whatever is cut off later shows the last bit.
        rows, columns (numpy.ndarray): the places, float64 (R, S).

    Returns:
        numpy.ndarray: float32 of float32, else float64 (R, S, C).
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
