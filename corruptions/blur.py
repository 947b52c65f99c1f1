"""Blurs."""
import functools
import io
import math

import cv2
import numpy as np
import scipy.sparse
from PIL import Image
from scipy import ndimage

from corruptions.registry import register, to_uint8
from corruptions.utils.errors import UserError

ZOOMED_AT_ONCE = 1 << 16  # zoom_blur works on this many values at a time, few enough for the processor's cache


def smooth(values, sigma):
    """Blur float images (N, H, W, C) as scikit-image's `gaussian`: float64, edges repeated, truncated at 4 sigma."""
    return ndimage.gaussian_filter(values, (0, sigma, sigma, 0), mode="nearest", truncate=4.0)


@register(is_random=False)
def gaussian_blur(images, sigma, rngs, options):
    """Convolve with a Gaussian."""
    return to_uint8(smooth(images / 255.0, sigma))


@functools.lru_cache
def disk_kernel(radius, smoothing):
    """Return the kernel of a disk of light with a smoothed edge; float32 (K, K), K = 17 or more."""
    reach = max(8, math.ceil(radius))
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None] ** 2 + offsets ** 2 <= radius ** 2).astype(np.float32)
    size = 3 if radius <= 8 else 5
    return cv2.GaussianBlur(disk / disk.sum(), ksize=(size, size), sigmaX=smoothing)


@register(is_random=False)
def defocus_blur(images, constants, rngs, options):
    """Convolve with a disk, the blur of a lens that is out of focus."""
    kernel = disk_kernel(*constants)
    values = images / 255.0
    for image in values:
        image[...] = cv2.filter2D(image, -1, kernel).reshape(image.shape)
    return to_uint8(values)


def displace(images, reach, rngs):
    """Give each pixel the value of a neighbour at most `reach` away, one pixel after the other from the lower right.

    The published loop is meant to swap two pixels. Its second assignment reads what the first has written, so the loop
    copies instead. A pixel that copies from an already changed pixel gets the changed value, so copies form chains.
    Here the chains are followed for all pixels at once, by doubling.

    Args:
        images (numpy.ndarray): (N, H, W, C), changed in place.
        reach (int): bound of the displacements, which are drawn from -reach..reach-1.
        rngs (list): a random number generator for each image.
    """
    count, height, width, channels = images.shape
    inside = slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1)
    targets = np.arange(height * width).reshape(height, width)[inside].ravel()[::-1]
    if targets.size == 0:
        return
    order = np.full(height * width, targets.size)  # step that writes a pixel; pixels never written come last
    steps = order[targets] = np.arange(targets.size)
    sources = np.empty((count, targets.size), int)
    for image_sources, rng in zip(sources, rngs, strict=True):
        columns, rows = rng.randint(-reach, reach, size=(targets.size, 2)).T
        np.multiply(rows, width, out=image_sources)
        image_sources += columns
        image_sources += targets
    # For each copy, the index over all images of the earlier copy that it reads, or else its own index.
    link = np.minimum(order[sources], steps)
    link += targets.size * np.arange(count)[:, None]
    link = link.ravel()
    while not np.array_equal(link, further := link[link]):
        link = further
    sources += np.arange(count)[:, None] * (height * width)  # index of each image's first pixel
    forward = sources.ravel()[link].reshape(count, -1)[:, ::-1]
    block = images[(slice(None), *inside)]
    block[...] = images.reshape(-1, channels).take(forward, axis=0).reshape(block.shape)


@register()
def glass_blur(images, constants, rngs, options):
    """Blur, displace pixels by small random steps, blur again."""
    sigma, reach, passes = constants
    pixels = (smooth(images / 255.0, sigma) * 255).astype(np.uint8)
    for _ in range(passes):
        displace(pixels, reach, rngs)
    return to_uint8(smooth(pixels / 255.0, sigma))


@functools.lru_cache
def interpolation(size, factor):
    """Return the linear interpolation that zooms one axis about its centre.

    Each place is a weighted mean of two neighbours.

    Returns:
        tuple: int (size,) index of the first neighbour; float64 (size, 2) weights of the first and the next neighbour.
    """
    crop = math.ceil(size / factor)
    colours = (np.arange(crop)[:, None] % 3 == np.arange(3)).astype(np.float64)  # neighbours have different colours
    zoomed = ndimage.zoom(colours, (factor, 1), order=1)
    trim = (len(zoomed) - size) // 2
    places = np.arange(trim, trim + size) * ((crop - 1) / (len(zoomed) - 1))
    first = np.clip(np.floor(places).astype(int), 0, crop - 2)
    weights = np.take_along_axis(zoomed[trim:trim + size], np.stack((first, first + 1), axis=1) % 3, axis=1)
    return first + (size - crop) // 2, weights


@functools.lru_cache
def zoom_operator(size, factor, begin, end):
    """Return the places `begin` to `end` of `interpolation` as a sparse matrix.

    Returns:
        tuple: the matrix, float64 (end - begin, K); the slice of the axis that its K columns stand for.
    """
    first, weights = (values[begin:end] for values in interpolation(size, factor))
    low, high = first.min(), first.max() + 2
    columns = np.stack((first, first + 1), axis=1) - low
    rows = np.arange(0, columns.size + 1, 2)
    return scipy.sparse.csr_array((weights.ravel(), columns.ravel(), rows), (end - begin, high - low)), slice(low, high)


@register(is_random=False)
def zoom_blur(images, constants, rngs, options):
    """Mean of the image and of zoomed copies of it; the factors are 1, 1 + step, ... below an end."""
    count, height, width, channels = images.shape
    factors = np.arange(1, *constants)[1:]  # the first factor, 1, gives the image itself
    values = (images.transpose(1, 2, 0, 3) / 255.0).astype(np.float32)
    by_row = values.astype(np.float64).reshape(height, -1)
    rows = max(1, ZOOMED_AT_ONCE // by_row.shape[1])
    for top in range(0, height, rows):
        strip = values[top:top + rows]
        total = np.array(strip.swapaxes(0, 1), order="C").reshape(width, -1)
        for factor in factors:
            # Each product acts on the first axis: first on the rows, then, after a swap of the axes, on the columns.
            operator, near = zoom_operator(height, factor, top, top + len(strip))
            zoomed = (operator @ by_row[near]).reshape(len(strip), width, -1)
            operator, near = zoom_operator(width, factor, 0, width)
            by_column = zoomed[:, near].swapaxes(0, 1).reshape(operator.shape[1], -1)
            total += (operator @ by_column).astype(np.float32)
        strip += total.reshape(width, len(strip), count, channels).swapaxes(0, 1)
    values /= len(factors) + 2
    return to_uint8(values).transpose(2, 0, 1, 3)


@functools.lru_cache
def half_gaussian(radius, sigma):
    """Return the taps of a motion blur, 0, 1, ..., in pixels, and their weights, float64."""
    taps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-taps ** 2 / (2 * sigma ** 2))
    return taps, weights / weights.sum()


def line_blur(image, radius, sigma, angle, backend):
    """Apply the motion blur of ImageMagick's Q16 build.

    The kernel is half a Gaussian along a line, with taps rounded to pixels. Edges are repeated. The sum is rounded to
    16 bits, then truncated to 8.

    Args:
        image (numpy.ndarray): uint8 (H, W, C).
        radius, sigma (float): radius and standard deviation of the half Gaussian, in pixels.
        angle (float): angle of the line, in degrees.
        backend (str): 'numpy', or 'wand' for ImageMagick itself.

    Returns:
        numpy.ndarray: uint8 (H, W, C).

    Raises:
        UserError: the backend is not installed.
    """
    if backend == "wand":
        return magick_blur(image, radius, sigma, angle)
    taps, weights = half_gaussian(radius, sigma)
    # In the order of ImageMagick's operations, because a place halfway between pixels, as at 30 degrees, is rounded.
    turn = math.pi * angle / 180
    ends = len(taps) * math.sin(turn), len(taps) * math.cos(turn)
    places = np.ceil(taps * np.array(ends)[:, None] / math.hypot(*ends) - 0.5).astype(int)
    top, left = first = places.min(axis=1)
    height, width = places.max(axis=1) + 1 - first
    kernel = np.bincount((places[0] - top) * width + (places[1] - left), weights, height * width)
    # The factor 257 converts 8 bits to 16.
    blurred = cv2.filter2D(image * 257.0, -1, kernel.reshape(height, width), anchor=(-left, -top),
                           borderType=cv2.BORDER_REPLICATE)
    blurred += 0.5
    blurred /= 257  # truncating now gives the same as truncating before the division, too
    return blurred.astype(np.uint8).reshape(image.shape)


def uses_backend(names):
    """Whether one of the effects `names` is made by the program that the option `--backend` names."""
    return not {"motion_blur", "snow"}.isdisjoint(names)


def check_backend(backend, names):
    """Check the option `--backend` for the effects `names`.

    Raises:
        UserError: none of the effects uses ImageMagick, or it is not installed.
    """
    if backend == "wand":
        if not uses_backend(names):
            raise UserError("--backend wand: only motion_blur and snow use it; leave it out")
        require_wand()


def require_wand():
    """Return Wand's class of images.

    Raises:
        UserError: Wand or ImageMagick is not installed.
    """
    try:
        from wand.image import Image as MagickImage
    except ImportError as error:
        raise UserError("backend wand: Wand or ImageMagick is not installed; use the backend numpy") from error
    return MagickImage


def magick_blur(image, radius, sigma, angle):
    """Apply `line_blur` by ImageMagick, through Wand."""
    MagickImage = require_wand()
    with io.BytesIO() as png:
        to_pil(image).save(png, "PNG")
        with MagickImage(blob=png.getvalue()) as magick:
            magick.motion_blur(radius, sigma, angle)
            blob = magick.make_blob()
    return np.asarray(Image.open(io.BytesIO(blob)).convert(to_pil(image).mode)).reshape(image.shape)


def to_pil(image):
    """Return an array uint8 (H, W, 1) or (H, W, 3) as a PIL image."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


@register()
def motion_blur(images, constants, rngs, options):
    """Blur along a line in a random direction, up to 45 degrees from the horizontal."""
    return np.stack([line_blur(image, *constants, rng.uniform(-45, 45), options.backend)
                     for image, rng in zip(images, rngs, strict=True)])
