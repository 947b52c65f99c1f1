"""RandAugment (Cubuk 2020): random operations of one strength on every training image.

The sixteen operations and their strengths are those of TensorFlow's official models, which the DAMP authors use; a
seventeenth changes nothing. PIL computes them. Lengths are for images of 224 pixels, and scale with the image.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_MAGNITUDE = 10
SIDE = 224  # of the images that lengths are for
GREY = (128, 128, 128)  # moves in at the borders
THRESHOLD = 128  # of solarize_add


class Operation(NamedTuple):
    """An operation that was drawn for an image.

    Attributes:
        name (str): a key of `OPERATIONS`.
        strength (float): magnitude over `MAX_MAGNITUDE`, 0..1.
        sign (int): 1 or -1, for operations that have a direction.
        place (tuple of float): place of a cutout, row and column, as shares of the sides.
    """

    name: str
    strength: float
    sign: int
    place: tuple


def moved(image, a=1, b=0, c=0, d=0, e=1, f=0):
    """Return a PIL image whose pixel (x, y) is that at (a x + b y + c, d x + e y + f); grey from outside."""
    return image.transform(image.size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.NEAREST,
                           fillcolor=GREY)


def enhanced(kind):
    return lambda image, operation: kind(image).enhance(1.8 * operation.strength + 0.1)


def scaled(image, pixels):
    """Return a length at 224 pixels as a length in an image."""
    return pixels * min(image.size) / SIDE


def solarize_add(image, operation):
    values = np.asarray(image)
    lighter = values + np.uint8(110 * operation.strength)  # below the threshold, at most 237
    return Image.fromarray(np.where(values < THRESHOLD, lighter, values))


def cutout(image, operation):
    values, half = np.array(image), int(scaled(image, 40 * operation.strength))
    row, column = (int(place * side) for place, side in zip(operation.place, values.shape, strict=False))
    values[max(0, row - half):row + half, max(0, column - half):column + half] = GREY
    return Image.fromarray(values)


# Name to a function of a PIL image and an `Operation`.
OPERATIONS = {
    "autocontrast": lambda image, operation: ImageOps.autocontrast(image),
    "equalize": lambda image, operation: ImageOps.equalize(image),
    "invert": lambda image, operation: ImageOps.invert(image),
    "rotate": lambda image, operation: image.rotate(30 * operation.strength * operation.sign, fillcolor=GREY),
    "posterize": lambda image, operation: ImageOps.posterize(image, int(4 * operation.strength)),
    "solarize": lambda image, operation: ImageOps.solarize(image, int(256 * operation.strength)),
    "color": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
    "shear_x": lambda image, operation: moved(image, b=0.3 * operation.strength * operation.sign),
    "shear_y": lambda image, operation: moved(image, d=0.3 * operation.strength * operation.sign),
    "translate_x": lambda image, operation: moved(image, c=scaled(image, 100 * operation.strength) * operation.sign),
    "translate_y": lambda image, operation: moved(image, f=scaled(image, 100 * operation.strength) * operation.sign),
    "cutout": cutout,
    "solarize_add": solarize_add,
    "identity": lambda image, operation: image,
}


def draw(rng, number, layers, magnitude):
    """Draw the operations for the images of a batch.

    Args:
        rng (numpy.random.Generator): generator of the random numbers.
        number (int): number of images.
        layers (int): operations for each image.
        magnitude (int): strength, 1 to `MAX_MAGNITUDE`.

    Returns:
        list of list of Operation: for each image its operations, in their order.
    """
    names = list(OPERATIONS)
    kinds = rng.integers(len(names), size=(number, layers))
    signs, places = rng.integers(2, size=(number, layers)), rng.random((number, layers, 2))
    return [[Operation(names[kinds[k, layer]], magnitude / MAX_MAGNITUDE, 1 - 2 * int(signs[k, layer]),
                       tuple(places[k, layer])) for layer in range(layers)] for k in range(number)]


def apply(image, operations):
    """Apply operations, a list of `Operation`, to an image uint8 (H, W, 3) one after the other."""
    picture = Image.fromarray(image)
    for operation in operations:
        picture = OPERATIONS[operation.name](picture, operation)
    return np.asarray(picture)
