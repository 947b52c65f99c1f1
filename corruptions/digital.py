"""Image processing: brightness, contrast, distortion, pixelation, compression, saturation."""
import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from corruptions.blur import to_pil
from corruptions.images import JPEG_MOST_SIDE
from corruptions.registry import register, to_uint8
from corruptions.utils.errors import UserError

PIXELS_AT_A_TIME = 1 << 14
LEVELS = np.arange(256) / 255.0

LONGEST_IN_OPENCV = 32767  # sides of this length or more are too long for some OpenCV functions


def rgb_to_hsv(pixels):
    """Convert RGB, uint8 (N, 3), to hue, saturation and value, each float64 (N,) in 0..1.

    Rounds as scikit-image's `rgb2hsv`, in a fraction of its time.
    """
    red, green, blue = (channel.ravel() for channel in cv2.split(pixels[None]))
    largest = np.maximum(np.maximum(red, green), blue)
    smallest = np.minimum(np.minimum(red, green), blue)
    is_blue, is_green, is_grey = blue == largest, green == largest, smallest == largest
    above = np.where(is_blue, red, np.where(is_green, blue, green)) / 255.0
    below = np.where(is_blue, green, np.where(is_green, red, blue)) / 255.0
    value = largest / 255.0
    delta = value - smallest / 255.0
    with np.errstate(invalid="ignore"):
        hue = (above - below) / delta
        saturation = delta / value
    hue += np.where(is_blue, np.uint8(4), is_green * np.uint8(2))
    hue /= 6
    hue += hue < 0
    hue[is_grey] = 0
    saturation[is_grey] = 0
    return hue, saturation, value


def hsv_to_rgb(hue, saturation, value):
    """Convert hue, saturation and value, each float64 (N,) in 0..1, to RGB, uint8 (N, 3).

    Rounds as scikit-image's `hsv2rgb`.
    """
    hue = hue * 6
    sector = hue.astype(np.uint8)
    fraction = hue - sector
    fraction = np.where(sector % 2 == 1, fraction, 1 - fraction)
    largest, middle, smallest = (to_uint8(level) for level in
                                 (value.copy(), value * (1 - fraction * saturation), value * (1 - saturation)))
    first, last = (sector + 1) // 2 % 3, (sector // 2 + 2) % 3  # index of the largest and the smallest channel
    channels = [np.where(first == k, largest, np.where(last == k, smallest, middle)) for k in range(3)]
    return cv2.merge(channels).reshape(-1, 3)


def through_hsv(images, function):
    """Apply `function`, which maps hue, saturation and value to new ones, to images uint8 (N, H, W, 3).

    The function gets a few pixels at a time, because each pixel needs many intermediate numbers.
    """
    pixels = images.reshape(-1, 3)
    out = np.empty_like(pixels)
    for first in range(0, len(pixels), PIXELS_AT_A_TIME):
        chunk = slice(first, first + PIXELS_AT_A_TIME)
        out[chunk] = hsv_to_rgb(*function(*rgb_to_hsv(pixels[chunk])))
    return out.reshape(images.shape)


@register(colour=True, is_random=False)
def brightness(images, added, rngs, options):
    """Add to the V of HSV."""
    return through_hsv(images, lambda hue, saturation, value: (hue, saturation, np.minimum(value + added, 1)))


@register(colour=True, is_random=False)
def saturate(images, constants, rngs, options):
    """Scale and shift the S of HSV."""
    factor, added = constants
    return through_hsv(images, lambda hue, saturation, value: (hue, np.clip(saturation * factor + added, 0, 1), value))


@register(is_random=False)
def contrast(images, factor, rngs, options):
    """Shrink each channel's distance from its mean over the image."""
    means = (images / 255.0).mean(axis=(1, 2))
    out = np.empty_like(images)
    for image, mean, result in zip(images, means, out, strict=True):
        table = LEVELS[:, None] - mean  # the result for each grey level of each channel
        table *= factor
        table += mean
        result[...] = cv2.LUT(image, to_uint8(table)[None]).reshape(image.shape)
    return out


def rounded_places(affines, height, width):
    """Return the source places of the pixels of warped images, to 1/32 of a pixel.

    Rounds as `cv2.warpAffine` does in OpenCV 4 and earlier.

    Args:
        affines (numpy.ndarray): float64 (N, 2, 3), affine maps of (x, y).
        height, width (int): size of the images.

    Returns:
        tuple: int16 (N, H, W, 2) whole pixels (x, y), and uint16 (N, H, W) fractions, both as `cv2.remap` takes them.
    """
    inverses = 1024 * np.stack([cv2.invertAffineTransform(affine) for affine in affines])
    by_column = np.rint(inverses[..., :1] * np.arange(width))
    by_row = np.rint(inverses[..., 1:2] * np.arange(height) + inverses[..., 2:])
    by_column, by_row = (steps.clip(-2 ** 31, 2 ** 31 - 1).astype(np.int32) for steps in (by_column, by_row))
    places = by_row[..., None] + 16  # half of a 32nd
    places = places + by_column[:, :, None]
    places >>= 5
    fractions = ((places[:, 1] & 31) << 5 | places[:, 0] & 31).astype(np.uint16)
    places >>= 5
    return np.stack((places[:, 0], places[:, 1]), axis=-1).clip(-2 ** 15, 2 ** 15 - 1).astype(np.int16), fractions


def warp(images, affines):
    """Warp images float32 (N, H, W, C) in place, each by an affine map (2, 3) of (x, y), with mirrored edges.

    The published code uses `cv2.warpAffine`, which OpenCV 5 has changed. `cv2.remap` with given places returns the old
    result of `cv2.warpAffine` in both OpenCV versions. It takes only sides below 32767. Longer images, which the
    published code cannot process, are interpolated without rounding the places.
    """
    _, height, width, channels = images.shape
    if max(height, width) < LONGEST_IN_OPENCV:
        for image, *places in zip(images, *rounded_places(affines, height, width), strict=True):
            moved = cv2.remap(image, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            image[...] = moved.reshape(image.shape)
        return
    for image, affine in zip(images, affines, strict=True):
        (a, b, c), (d, e, f) = cv2.invertAffineTransform(affine)
        for channel in range(channels):
            image[..., channel] = ndimage.affine_transform(image[..., channel], [[e, d], [b, a]], (f, c), order=1,
                                                           mode="mirror")


def beside(places, size):
    """Return the pixels before and after places on an axis of `size` pixels, with mirrored edges, and their weights.

    Works as `ndimage` in its mode 'reflect', which first brings the places to -1..`size`.
    """
    outside = np.flatnonzero((places < 0) | (places > size - 1))
    far = places[outside]
    far -= np.trunc(far / (2 * size)) * (2 * size)
    far = np.where(far < -size, far + 2 * size, np.where(far < 0, -far - 1, far))
    places = places.copy()
    places[outside] = np.where(far >= size, 2 * size - far - 1, far)
    before = np.floor(places)
    weight = 1 - (places - before)
    before = before.astype(np.intp)
    return (np.maximum(before, 0), np.minimum(before + 1, size - 1)), (weight, 1 - weight)


def interpolated(images, rows, columns):
    """Interpolate images (N, H, W, C) linearly at other places, with mirrored edges.

    Rounds as `ndimage.map_coordinates`, in less time. It works on a few pixels at a time, as `through_hsv` does.

    Args:
        images (numpy.ndarray): float32 (N, H, W, C).
        rows, columns (numpy.ndarray): the places, float64 (N, H, W).

    Returns:
        numpy.ndarray: float32 (N, H, W, C).
    """
    count, height, width, channels = images.shape
    out = np.empty((rows.size, channels), np.float32)
    planes = [images[..., channel].ravel().astype(np.float64) for channel in range(channels)]
    image_starts = np.repeat(np.arange(0, rows.size, height * width), height * width)
    for first in range(0, rows.size, PIXELS_AT_A_TIME):
        chunk = slice(first, first + PIXELS_AT_A_TIME)
        row_pair, row_weights = beside(rows.ravel()[chunk], height)
        column_pair, column_weights = beside(columns.ravel()[chunk], width)
        corners = []
        for row, row_weight in zip(row_pair, row_weights, strict=True):
            start = image_starts[chunk] + row * width
            for column, column_weight in zip(column_pair, column_weights, strict=True):
                corners.append((start + column, row_weight, column_weight))
        for channel, plane in enumerate(planes):
            total = 0
            for index, row_weight, column_weight in corners:
                value = plane.take(index)
                value *= row_weight
                value *= column_weight
                total += value
            out[chunk, channel] = total
    return out.reshape(images.shape)


@register()
def elastic_transform(images, constants, rngs, options):
    """A small random affine map, then a random smooth displacement of every pixel."""
    amplitude, sigma, shift = constants
    height, width = images.shape[1:3]
    values = images.astype(np.float32) / 255
    centre = np.float32((width, height)) // 2
    arm = min(height, width) // 3
    corners = np.float32([centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm])
    moved = [corners + rng.uniform(-shift, shift, size=corners.shape).astype(np.float32) for rng in rngs]
    warp(values, np.stack([cv2.getAffineTransform(corners, to) for to in moved]))
    fields = np.stack([rng.uniform(-1, 1, size=(2, height, width)) for rng in rngs])
    if amplitude == 0:
        return to_uint8(values)
    fields = ndimage.gaussian_filter(fields, (0, 0, sigma, sigma), mode="reflect", truncate=3) * amplitude
    columns = fields[:, 0].astype(np.float32) + np.arange(width)
    rows = fields[:, 1].astype(np.float32) + np.arange(height)[:, None]
    return to_uint8(interpolated(values, rows, columns))


def through_pil(images, function):
    """Apply `function`, which maps a PIL image to one of the same size, to each image of a batch uint8 (N, H, W, C).

    The batch is converted as one tall image, because converting small images singly would take longer than the work.
    """
    count, height, width, channels = images.shape
    if count == 1:
        return np.array(function(to_pil(images[0]))).reshape(images.shape)
    tall = to_pil(images.reshape(count * height, width, channels))
    out = Image.new(tall.mode, tall.size)
    for top in range(0, count * height, height):
        out.paste(function(tall.crop((0, top, width, top + height))), (0, top))
    return np.array(out).reshape(images.shape)


@register(is_random=False)
def pixelate(images, factor, rngs, options):
    """Shrink by averaging boxes, then enlarge again."""
    height, width = images.shape[1:3]
    small, box = (int(width * factor), int(height * factor)), Image.Resampling.BOX
    return through_pil(images, lambda image: image.resize(small, box).resize((width, height), box))


def swap_red_and_blue(images):
    """Return a copy of images uint8 (N, H, W, C), converted from RGB to the channel order of OpenCV, or back."""
    if images.shape[3] == 1:
        return images.copy()
    rows = images.reshape(-1, *images.shape[2:])
    return cv2.cvtColor(rows, cv2.COLOR_RGB2BGR).reshape(images.shape)


@register(is_random=False)
def jpeg_compression(images, quality, rngs, options):
    """Store as JPEG of low quality and read back.

    OpenCV does, in a fraction of the time that PIL, which the published code has, takes for small images; the result is
    the same.
    """
    if max(images.shape[1:3]) > JPEG_MOST_SIDE:
        raise UserError(f"jpeg_compression: a JPEG image has at most {JPEG_MOST_SIDE} pixels a side, not "
                        f"{max(images.shape[1:3])}; leave it out, or cut the image")
    out = swap_red_and_blue(images)
    for image in out:
        _, code = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
        image[...] = cv2.imdecode(code, cv2.IMREAD_UNCHANGED).reshape(image.shape)
    return swap_red_and_blue(out)
