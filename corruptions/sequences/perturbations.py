"""The fourteen perturbations of ImageNet-P and CIFAR-10-P (Hendrycks and Dietterich, 2019): frames of one image.

Each is a function of one image: `function(image, constants, rng, backend)`. `image` is uint8 (H, W, C). `constants`
come from `constants.py`; of noise, they are the constant of one difficulty. The function returns a list of frames,
each uint8 (H, W, C). The decorator `register` adds it to `PERTURBATIONS`.
"""
import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from corruptions.blur import line_blur, smooth, to_pil
from corruptions.digital import LONGEST_IN_OPENCV
from corruptions.digital import brightness as brighten
from corruptions.registry import DEFAULTS, summary_of, to_grey, to_uint8
from corruptions.sequences.constants import DIFFICULTIES, LAST
from corruptions.weather import WATER, water_drops, zoom_about_centre

PERTURBATIONS = {}
SNOW_SHARE = 0.85  # of the image that snow leaves unwhitened
DROP_STRENGTH = 0.6
NEAREST, BILINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Perturbation:
    """A perturbation that can be called for one image.

    Attributes:
        name (str): name on the command line.
        function (callable): the function that was decorated.
        colour (bool): whether the function needs three channels.
        is_random (bool): whether the function draws random numbers.
        is_noise (bool): whether the first frame is the clean image, and every other frame has noise of its own.
        moves (bool): whether pixels move. A centre crop then comes after the perturbation, so that real pixels move in.
        longest_side (int or None): the longest side that an image may have, in pixels.
    """

    name: str
    function: callable
    colour: bool
    is_random: bool
    is_noise: bool
    moves: bool
    longest_side: int | None

    @property
    def summary(self):
        """The first paragraph of the docstring of the function, as one line."""
        return summary_of(self.function)

    def __call__(self, image, constants, rng, backend=DEFAULTS.backend):
        """Return the frames of an image, uint8 (F, H, W, C), for an image uint8 (H, W, C)."""
        if self.colour and image.shape[2] == 1:
            frames = to_grey(self.function(np.repeat(image, 3, axis=2), constants, rng, backend))
        else:
            frames = np.stack(self.function(image, constants, rng, backend))
        return frames.reshape(-1, *image.shape)


def register(colour=False, is_random=False, is_noise=False, moves=False, longest_side=None):
    """Return a decorator that adds a function to `PERTURBATIONS`; arguments are attributes of `Perturbation`."""
    def decorate(function):
        name = function.__name__
        PERTURBATIONS[name] = Perturbation(name, function, colour, is_random or is_noise, is_noise, moves, longest_side)
        return function
    return decorate


@register(is_noise=True)
def gaussian_noise(image, sigma, rng, backend):
    """The image, then x + sigma n, n ~ N(0, 1), drawn anew for each frame."""
    values = image.astype(np.float32) / 255
    noise = (rng.normal(size=image.shape).astype(np.float32) for _ in range(LAST))
    return [image, *(to_uint8(values + np.float32(sigma) * one) for one in noise)]


@register(is_noise=True)
def shot_noise(image, photons, rng, backend):
    """The image, then Poisson(c x) / c, drawn anew for each frame."""
    means = image / 255.0 * photons
    return [image, *(to_uint8(rng.poisson(means) / float(photons)) for _ in range(LAST))]


@register()
def motion_blur(image, constants, rng, backend):
    """Blur along a line that turns."""
    radius, sigma, angles = constants
    return [line_blur(image, radius, sigma, angle, backend) for angle in angles]


@register(moves=True)
def zoom_blur(image, factors, rng, backend):
    """Mean of the image and of more and more zoomed copies of it."""
    total, frames = image.astype(np.float32) / 255, [image]
    for number, factor in enumerate(factors, start=2):
        total += affine(image, scale=factor).astype(np.float32) / 255
        frames.append(to_uint8(total / np.float32(number)))
    return frames


@register(colour=True, is_random=True)
def snow(image, constants, rng, backend):
    """Whiten the image, then add streaks of snow whose direction turns."""
    mean, deviation, zoom, radius, sigma, angles = constants
    flakes = zoom_about_centre(rng.normal(size=image.shape[:2], loc=mean, scale=deviation)[None], zoom)[0]
    flakes = to_uint8(np.where(flakes < 0.5, 0, flakes))[..., None]
    values = image / 255.0
    light = cv2.cvtColor(values.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None] * np.float32(1.5) + np.float32(0.5)
    whitened = SNOW_SHARE * values + (1 - SNOW_SHARE) * np.maximum(values, light)
    streaks = (line_blur(flakes, radius, sigma, angle, backend) / 255.0 for angle in angles)
    return [to_uint8(whitened + layer + layer[::-1, ::-1]) for layer in streaks]


@register(colour=True)
def brightness(image, added, rng, backend):
    """Add more and more to the V of HSV, from darker than the image to lighter."""
    return [brighten.function(image[None], value, None, None)[0] for value in added]


@register(moves=True)
def translate(image, shifts, rng, backend):
    """Shift the image to the right by one pixel a frame."""
    return [affine(image, shift=pixels, resample=NEAREST) for pixels in shifts]


@register(moves=True)
def rotate(image, angles, rng, backend):
    """Turn the image by one degree a frame."""
    return [affine(image, angle=degrees) for degrees in angles]


@register(moves=True, longest_side=LONGEST_IN_OPENCV - 1)
def tilt(image, angles, rng, backend):
    """Turn the image about a horizontal and a vertical axis, in perspective."""
    return [in_perspective(image, degrees) for degrees in angles]


@register(moves=True)
def scale(image, factors, rng, backend):
    """Shrink the image about its centre, then enlarge it."""
    return [affine(image, scale=factor) for factor in factors]


@register(is_noise=True)
def speckle_noise(image, sigma, rng, backend):
    """The image, then x + x sigma n, n ~ N(0, 1), drawn anew for each frame."""
    values = image / 255.0
    noise = (rng.normal(size=image.shape, scale=sigma) for _ in range(LAST))
    return [image, *(to_uint8(values + values * one) for one in noise)]


@register()
def gaussian_blur(image, constants, rng, backend):
    """Convolve with a Gaussian that widens."""
    truncate, sigmas = constants
    return [to_uint8(ndimage.gaussian_filter(image / 255.0, (sigma, sigma, 0), mode="nearest", truncate=truncate))
            for sigma in sigmas]


@register(colour=True, is_random=True)
def spatter(image, constants, rng, backend):
    """Drops of water that flow downwards."""
    mean, deviation, blur, threshold, taps = constants
    values, frames = image.astype(np.float32) / 255, []
    liquid = smooth(rng.normal(size=image.shape[:2], loc=mean, scale=deviation)[None, ..., None], blur)[0, ..., 0]
    liquid[liquid < threshold] = 0
    for _ in range(LAST + 1):
        drops = water_drops((liquid * 255).astype(np.uint8))
        drops /= drops.max() or 1  # without a drop, the published code divides by zero
        drops *= DROP_STRENGTH
        frames.append(to_uint8(values + drops[..., None] * WATER))
        liquid = np.apply_along_axis(np.convolve, 0, liquid, taps, mode="same")
    return frames


@register(moves=True)
def shear(image, angles, rng, backend):
    """Shear the image parallel to its rows, by one degree a frame."""
    return [affine(image, shear=degrees) for degrees in angles]


def affine(image, angle=0, shift=0, scale=1, shear=0, resample=BILINEAR):
    """Apply an affine map to an image; pixels from outside the image are black.

    It is `affine` of torchvision 0.2, which the published scripts use. The centre is half a pixel to the lower right of
    the image's centre, and a shear also shrinks the image along its columns. Later versions of torchvision do neither.

    Args:
        image (numpy.ndarray): uint8 (H, W, C).
        angle (float): rotation, in degrees, clockwise.
        shift (int): shift to the right, in pixels.
        scale (float): factor, above 1 to enlarge.
        shear (float): angle of the shear, in degrees.
        resample (PIL.Image.Resampling): interpolation.

    Returns:
        numpy.ndarray: uint8 (H, W, C).
    """
    height, width = image.shape[:2]
    centre_x, centre_y = width * 0.5 + 0.5, height * 0.5 + 0.5
    turn, lean = math.radians(angle), math.radians(shear)
    a, b, c, d = math.cos(turn + lean), math.sin(turn + lean), -math.sin(turn), math.cos(turn)
    factor = 1 / scale / (a * d - b * c)
    a, b, c, d = factor * a, factor * b, factor * c, factor * d
    inverse = (a, b, a * (-centre_x - shift) + b * -centre_y + centre_x,
               c, d, c * (-centre_x - shift) + d * -centre_y + centre_y)
    moved = to_pil(image).transform((width, height), Image.Transform.AFFINE, inverse, resample)
    return np.asarray(moved).reshape(image.shape)


def in_perspective(image, degrees):
    """Turn an image uint8 (H, W, C) about its horizontal and its vertical middle by the same angle, seen from afar.

    The distance is the image's diagonal. Pixels from outside the image are black.
    """
    height, width = image.shape[:2]
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    distance = np.sqrt(width ** 2 + height ** 2)
    from_pixels = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    about_y = np.array([[cosine, 0, -sine, 0], [0, 1, 0, 0], [sine, 0, cosine, 0], [0, 0, 0, 1]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, distance], [0, 0, 0, 1]])
    to_pixels = np.array([[distance, 0, width / 2, 0], [0, distance, height / 2, 0], [0, 0, 1, 0]])
    matrix = to_pixels @ away @ about_x @ about_y @ from_pixels
    # `cv2.warpPerspective` of OpenCV 4, which OpenCV 5 has changed: places are rounded to 1/32 of a pixel.
    inverse = cv2.invert(matrix)[1]
    columns, rows = np.arange(width), np.arange(height)[:, None]
    x, y, weight = (row[0] * columns + (row[1] * rows + row[2]) for row in inverse)
    places = np.rint(np.stack((x, y), axis=-1) * (32 / weight)[..., None]).clip(-2 ** 31, 2 ** 31 - 1).astype(np.int32)
    fractions = ((places[..., 1] & 31) << 5 | places[..., 0] & 31).astype(np.uint16)
    pixels = (places >> 5).clip(-2 ** 15, 2 ** 15 - 1).astype(np.int16)
    return cv2.remap(image, pixels, fractions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).reshape(image.shape)


# The ten perturbations of the published benchmark, and four that were meant for validation.
VALIDATION = ("speckle_noise", "gaussian_blur", "spatter", "shear")
PERTURBATION_SETS = {"common": tuple(name for name in PERTURBATIONS if name not in VALIDATION),
                     "all": tuple(PERTURBATIONS)}


def sequence_name(name, difficulty):
    """Return the published name of a sequence: `tilt`, `gaussian_noise`, or `gaussian_noise_2` for difficulty 2."""
    return f"{name}_{difficulty}" if PERTURBATIONS[name].is_noise and difficulty > 1 else name


# Published name of a sequence, to its perturbation and its difficulty; None where each difficulty has the same frames.
SEQUENCES = {sequence_name(name, difficulty): (name, difficulty if PERTURBATIONS[name].is_noise else None)
             for difficulty in DIFFICULTIES for name in PERTURBATIONS}
