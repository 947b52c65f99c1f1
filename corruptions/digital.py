"""Image processing: brightness, contrast, distortion, pixelation, compression, saturation."""
import io

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from corruptions.blur import to_pil
from corruptions.contract import corruption, to_uint8
from utils.errors import UserError

PIXELS_AT_A_TIME = 1 << 14

LONGEST_IN_OPENCV = 32767  # sides from here on are too long for some of its functions
LONGEST_IN_JPEG = 65500


def rgb_to_hsv(values):
    """Hue, saturation, value, each (N,), of RGB (N, 3); float64 in 0..1.

    Rounds as scikit-image's `rgb2hsv`, in a fraction of its time on small images.
    """
    red, green, blue = np.ascontiguousarray(values.T)
    value = np.maximum(np.maximum(red, green), blue)
    delta = value - np.minimum(np.minimum(red, green), blue)
    with np.errstate(invalid="ignore", divide="ignore"):
        hue = np.where(blue == value, 4 + (red - green) / delta,
                       np.where(green == value, 2 + (blue - red) / delta, (green - blue) / delta))
        saturation = delta / value
    hue = hue / 6 % 1
    grey = delta == 0
    hue[grey] = 0
    saturation[grey] = 0
    return hue, saturation, value


def hsv_to_rgb(hue, saturation, value):
    """RGB (N, 3) of hue, saturation, value, each (N,); rounds as scikit-image's `hsv2rgb`."""
    sector = np.floor(hue * 6)
    fraction = hue * 6 - sector
    low = value * (1 - saturation)
    falling = value * (1 - fraction * saturation)
    rising = value * (1 - (1 - fraction) * saturation)
    sector = sector.astype(np.uint8) % 6
    return np.stack((np.choose(sector, (value, falling, low, low, rising, value)),
                     np.choose(sector, (rising, value, value, falling, low, low)),
                     np.choose(sector, (low, low, rising, value, value, falling))), axis=-1)


def through_hsv(images, function):
    """Apply `function`, from hue, saturation and value to the same, to images uint8 (N, H, W, 3).

    A few pixels at a time, because it takes many numbers to work on one.
    """
    pixels = images.reshape(-1, 3)
    out = np.empty_like(pixels)
    for first in range(0, len(pixels), PIXELS_AT_A_TIME):
        some = slice(first, first + PIXELS_AT_A_TIME)
        out[some] = to_uint8(hsv_to_rgb(*function(*rgb_to_hsv(pixels[some] / 255.0))))
    return out.reshape(images.shape)


@corruption(colour=True, draws=False)
def brightness(images, added, rngs, options):
    """Add to the V of HSV."""
    return through_hsv(images, lambda hue, saturation, value: (hue, saturation, np.clip(value + added, 0, 1)))


@corruption(colour=True, draws=False)
def saturate(images, constants, rngs, options):
    """Scale and shift the S of HSV."""
    factor, added = constants
    return through_hsv(images, lambda hue, saturation, value: (hue, np.clip(saturation * factor + added, 0, 1), value))


@corruption(draws=False)
def contrast(images, factor, rngs, options):
    """Shrink each channel's distance from its mean over the image."""
    values = images / 255.0
    means = values.mean(axis=(1, 2), keepdims=True)
    values -= means
    values *= factor
    values += means
    return to_uint8(values)


def rounded_places(affines, height, width):
    """Where the pixels of warped images come from, to 1/32 of a pixel, as `cv2.warpAffine` rounds up to OpenCV 4.

    Args:
        affines (numpy.ndarray): float64 (N, 2, 3), maps of (x, y).
        height, width (int): of the images.

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
    """Move the pixels of images float32 (N, H, W, C), in place, by an affine map (2, 3) of (x, y) for each, edges
    mirrored.

    The published code does that with `cv2.warpAffine`, which OpenCV 5 has changed; `cv2.remap`, told the places, gives
    in both what that gave before. It takes sides below 32767 alone. Longer images, which the published code cannot do,
    are interpolated without rounding of places.
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


@corruption()
def elastic_transform(images, constants, rngs, options):
    """A small random affine map, then a random smooth displacement of every pixel."""
    amplitude, sigma, shift = constants
    _, height, width, channels = images.shape
    values = images.astype(np.float32) / 255
    centre = np.float32((width, height)) // 2
    arm = min(height, width) // 3
    corners = np.float32([centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm])
    moved = [corners + rng.uniform(-shift, shift, size=corners.shape).astype(np.float32) for rng in rngs]
    warp(values, np.stack([cv2.getAffineTransform(corners, to) for to in moved]))
    fields = np.stack([rng.uniform(-1, 1, size=(2, height, width)) for rng in rngs])
    fields = ndimage.gaussian_filter(fields, (0, 0, sigma, sigma), mode="reflect", truncate=3) * amplitude
    columns = fields[:, 0].astype(np.float32) + np.arange(width)
    rows = fields[:, 1].astype(np.float32) + np.arange(height)[:, None]
    for image, *places in zip(values, rows, columns, strict=True):
        for channel in range(channels):
            image[..., channel] = ndimage.map_coordinates(image[..., channel], places, order=1, mode="reflect")
    return to_uint8(values)


def through_pil(images, function):
    """Apply `function`, from PIL image to PIL image of the same size, to each image of a batch uint8 (N, H, W, C).

    The batch is converted as one tall image, because for small images the conversion would take longer than the work.
    """
    count, height, width, channels = images.shape
    if count == 1:
        return np.asarray(function(to_pil(images[0]))).reshape(images.shape)
    tall = to_pil(images.reshape(count * height, width, channels))
    out = Image.new(tall.mode, tall.size)
    for top in range(0, count * height, height):
        out.paste(function(tall.crop((0, top, width, top + height))), (0, top))
    return np.asarray(out).reshape(images.shape)


@corruption(draws=False)
def pixelate(images, factor, rngs, options):
    """Shrink by averaging boxes, then enlarge again."""
    height, width = images.shape[1:3]
    small, box = (int(width * factor), int(height * factor)), Image.Resampling.BOX
    return through_pil(images, lambda image: image.resize(small, box).resize((width, height), box))


@corruption(draws=False)
def jpeg_compression(images, quality, rngs, options):
    """Store as JPEG of low quality and read back."""
    if max(images.shape[1:3]) > LONGEST_IN_JPEG:
        raise UserError(f"jpeg_compression: a JPEG image has at most {LONGEST_IN_JPEG} pixels a side, not "
                        f"{max(images.shape[1:3])}; leave it out, or cut the image")
    def store_and_read(image):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer, formats=("JPEG",))
    return through_pil(images, store_and_read)
