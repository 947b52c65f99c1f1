"""Weather: snow, frost, fog, and spatter of water or mud."""
import contextlib
import functools
import importlib.util
import math
import os

import cv2
import numpy as np

from corruptions.blur import interpolation, line_blur, smooth
from corruptions.clouds import clouds
from corruptions.images import as_rgb, read_image
from corruptions.noise import normal
from corruptions.registry import register, to_uint8
from corruptions.utils.errors import UserError
from corruptions.utils.files import file_state

# The published code lists six textures and never draws the last.
FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
WATER = np.array((175, 238, 238), np.float32) / np.float32(255)
MUD = np.array((63, 42, 20), np.float32) / np.float32(255)


def zoom_about_centre(layers, factor):
    """Enlarge the middle of layers (N, H, W) by `factor` >= 1 to their own size, with linear interpolation."""
    (top, row_weights), (left, column_weights) = (interpolation(size, factor) for size in layers.shape[1:])
    zoomed = np.zeros(layers.shape)
    for below in (0, 1):
        rows = layers[:, top + below] * row_weights[:, below, None]
        for right in (0, 1):
            zoomed += rows.take(left + right, axis=2) * column_weights[:, right]
    return zoomed


@register(colour=True)
def snow(images, constants, rngs, options):
    """Whiten the image, then add streaks of snow and the same streaks turned by 180 degrees."""
    mean, deviation, zoom, threshold, radius, sigma, share = constants
    flakes = zoom_about_centre(normal(rngs, images.shape[1:3], mean, deviation), zoom)
    flakes = to_uint8(np.where(flakes < threshold, 0, flakes))
    streaks = np.stack([line_blur(layer, radius, sigma, rng.uniform(-135, -45), options.backend)
                        for layer, rng in zip(flakes[..., None], rngs, strict=True)])[..., 0] / 255.0
    values = images.astype(np.float32) / 255
    light = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in values])
    light *= 1.5
    light += 0.5
    out = np.empty_like(images)
    for channel in range(3):
        value = values[..., channel]
        snowed = share * value + (1 - share) * np.maximum(value, light)
        snowed = snowed + streaks
        snowed += streaks[:, ::-1, ::-1]
        out[..., channel] = to_uint8(snowed)
    return out


@functools.lru_cache
def frost_folder(folder):
    """Return the folder of frost textures: `folder`, or if None the folder of the installed package imagecorruptions.

    Raises:
        UserError: `folder` is None and the package is not installed.
    """
    if folder is not None:
        return folder
    package = importlib.util.find_spec("imagecorruptions")
    if package is None:
        raise UserError("frost: the package imagecorruptions, which has the textures, is not installed; pip install "
                        "--no-deps imagecorruptions, or name a folder of frost1.png ... frost5.jpg as frost_dir, or "
                        "leave frost out")
    return os.path.join(package.submodule_search_locations[0], "frost")


def frost_textures(folder, scale):
    """Return the frost textures, a list of uint8 (H, W, 3) in RGB, shrunk by the factor `scale`.

    The textures are read once, and those of a folder again if a file has changed.

    Raises:
        UserError: a texture is missing.
    """
    paths, states = frost_paths(folder), ()
    if folder is not None:  # the files of the package stay
        with contextlib.suppress(OSError):  # `read_textures` names the file that is missing
            states = tuple(map(file_state, paths))
    return read_textures(paths, states, scale)


def frost_paths(folder):
    """Return the absolute paths of the frost textures, a tuple; the folder and errors are as in `frost_folder`."""
    folder = os.path.abspath(frost_folder(folder))
    return tuple(os.path.join(folder, name) for name in FROST_FILES)


@functools.lru_cache(maxsize=8)
def read_textures(paths, states, scale):
    """Read the frost textures as in `frost_textures`. With other `states` of the files, they are read again."""
    textures = []
    for path in paths:
        try:
            texture = as_rgb(read_image(path))
        except UserError as error:
            raise UserError(f"{path}: not there or not an image; name a folder of frost1.png ... frost5.jpg as "
                            "frost_dir") from error
        textures.append(texture if scale == 1 else cv2.resize(texture, (0, 0), fx=scale, fy=scale))
    return textures


def neighbours(old, new, begin, end):
    """Return the sources of the pixels `begin` to `end` of an axis that is enlarged from `old` to `new` pixels.

    Returns:
        tuple: int (2, N) indices of the two neighbours; int32 (2, N) weights of the neighbours in 2048ths.
    """
    places = ((np.arange(begin, end) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(places)
    second_weight = places - first
    weights = np.rint(2048 * np.stack((1 - second_weight, second_weight))).astype(np.int32)
    return np.clip(np.stack((first, first + 1)).astype(int), 0, old - 1), weights


def enlarged_piece(texture, size, top, left, height, width):
    """Return a piece of a texture as `cv2.resize` enlarges it, without computing the rest; rounds as OpenCV does.

    Args:
        texture (numpy.ndarray): uint8 (H, W, C).
        size (tuple): height and width of the enlarged texture.
        top, left, height, width (int): the piece of the enlarged texture.

    Returns:
        numpy.ndarray: uint8 (height, width, C).
    """
    (upper, lower), row_weights = neighbours(texture.shape[0], size[0], top, top + height)
    (left, right), (left_weights, right_weights) = neighbours(texture.shape[1], size[1], left, left + width)
    first = upper[0]
    texture = texture[first:lower[-1] + 1].astype(np.int32)
    wide = texture[:, left] * left_weights[:, None]
    wide += texture[:, right] * right_weights[:, None]
    wide >>= 4
    piece = np.empty((height, width, texture.shape[2]), np.uint8)
    for row, above, below, (above_weight, below_weight) in zip(piece, upper, lower, row_weights.T, strict=True):
        row[...] = ((above_weight * wide[above - first] >> 16) + (below_weight * wide[below - first] >> 16) + 2) >> 2
    return piece


@register(colour=True)
def frost(images, constants, rngs, options):
    """Lay a random piece of a photograph of frost over the image. A texture smaller than the image is enlarged."""
    image_share, frost_share, scale = constants
    height, width = images.shape[1:3]
    textures = frost_textures(options.frost_dir, scale)
    pieces = np.empty_like(images)
    for piece, rng in zip(pieces, rngs, strict=True):
        texture = textures[rng.randint(len(textures))]
        rows, columns, _ = texture.shape
        enlargement = max(1, (height + 1) / rows, (width + 1) / columns)
        rows, columns = math.ceil(rows * enlargement), math.ceil(columns * enlargement)
        top, left = rng.randint(0, rows - height), rng.randint(0, columns - width)
        if enlargement > 1:
            piece[...] = enlarged_piece(texture, (rows, columns), top, left, height, width)
        else:
            piece[...] = texture[top:top + height, left:left + width]
    frosted = frost_share * pieces
    frosted += image_share * images
    return np.minimum(frosted, 255, out=frosted).astype(np.uint8)


@register()
def fog(images, constants, rngs, options):
    """Add a cloud, then scale back to the image's brightness."""
    thickness, decay = constants
    height, width = images.shape[1:3]
    brightest = images.max(axis=(1, 2, 3))[:, None, None] / 255.0
    cloud = thickness * clouds(height, width, decay, rngs)
    out = np.empty_like(images)
    for channel in range(images.shape[3]):
        values = images[..., channel] / 255.0
        values += cloud
        values *= brightest
        values /= brightest + thickness
        out[..., channel] = to_uint8(values)
    return out


def water_drops(liquid):
    """Return the height of water drops over an image, float32 (H, W) from 0 up, from their thickness, uint8 (H, W)."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    _, distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    light = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])  # drops are brighter on their lower right
    return liquid * cv2.blur(cv2.filter2D(distance, cv2.CV_8U, light), (3, 3)).astype(np.float32)


@register(colour=True)
def spatter(images, constants, rngs, options):
    """Drops of water, or splashes of mud."""
    mean, deviation, blur, threshold, strength, is_mud = constants
    liquid = smooth(normal(rngs, (*images.shape[1:3], 1), mean, deviation), blur)[..., 0]
    liquid[liquid < threshold] = 0
    if is_mud:
        mask = smooth((liquid > threshold).astype(np.float32)[..., None], strength)[..., 0]
        mask[mask < 0.8] = 0
        rest, colour = 1 - mask, MUD
    else:
        mask = np.stack([water_drops(layer) for layer in (liquid * 255).astype(np.uint8)])
        brightest = mask.max(axis=(1, 2), keepdims=True)
        brightest[brightest == 0] = 1  # no drop fell; the published code divides by zero here
        mask /= brightest
        mask *= strength
        rest, colour = 1, WATER
    out = np.empty_like(images)
    for channel in range(3):
        values = images[..., channel].astype(np.float32)
        values /= 255
        values *= rest
        values += mask * colour[channel]
        out[..., channel] = to_uint8(values)
    return out
