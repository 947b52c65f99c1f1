"""Weather: snow, frost, fog, and spatter of water or mud."""
import functools
import importlib.util
import math
import os

import cv2
import numpy as np
from scipy import ndimage

from corruptions.blur import line_blur, smooth
from corruptions.clouds import clouds
from corruptions.contract import corruption, to_uint8
from corruptions.images import read_image
from corruptions.noise import normal
from utils.errors import UserError

# The published code lists six textures and never draws the last.
FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
WATER = np.array((175, 238, 238), np.float32) / np.float32(255)
MUD = np.array((63, 42, 20), np.float32) / np.float32(255)


def zoom_about_centre(layers, factor):
    """Enlarge the middle of layers (N, H, W) by `factor` >= 1 to their own size, with linear interpolation."""
    _, height, width = layers.shape
    crop_height, crop_width = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    crops = layers[:, top:top + crop_height, left:left + crop_width]
    zoomed = np.stack([ndimage.zoom(crop, factor, order=1) for crop in crops])
    trim_top, trim_left = (zoomed.shape[1] - height) // 2, (zoomed.shape[2] - width) // 2
    return zoomed[:, trim_top:trim_top + height, trim_left:trim_left + width]


@corruption(colour=True)
def snow(images, constants, rngs, options):
    """Whiten the image, then add streaks of snow and the same streaks turned by 180 degrees."""
    mean, deviation, zoom, threshold, radius, sigma, share = constants
    values = images.astype(np.float32) / 255
    flakes = zoom_about_centre(normal(rngs, images.shape[1:3], mean, deviation), zoom)
    flakes = to_uint8(np.where(flakes < threshold, 0, flakes))[..., None]
    streaks = np.stack([line_blur(layer, radius, sigma, rng.uniform(-135, -45), options.backend)
                        for layer, rng in zip(flakes, rngs, strict=True)]) / 255.0
    grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in values])[..., None]
    whitened = share * values + (1 - share) * np.maximum(values, grey * 1.5 + 0.5)
    snowed = whitened + streaks
    snowed += streaks[:, ::-1, ::-1]
    return to_uint8(snowed)


def frost_folder(folder):
    """The folder of frost textures: the one that is named, or that of the installed package imagecorruptions.

    Raises:
        UserError: none is named and the package is not installed.
    """
    if folder is not None:
        return folder
    package = importlib.util.find_spec("imagecorruptions")
    if package is None:
        raise UserError("frost: the package imagecorruptions, which has the textures, is not installed; pip install "
                        "--no-deps imagecorruptions, or name a folder of frost1.png ... frost5.jpg with --frost_dir, "
                        "or leave frost out")
    return os.path.join(package.submodule_search_locations[0], "frost")


@functools.lru_cache
def frost_textures(folder, scale):
    """The frost textures, a list of uint8 (H, W, 3) in RGB, shrunk by `scale`.

    Raises:
        UserError: a texture is missing.
    """
    folder = frost_folder(folder)
    textures = []
    for name in FROST_FILES:
        path = os.path.join(folder, name)
        try:
            texture = read_image(path)
        except UserError as error:
            raise UserError(f"{path}: not there or not an image; name a folder of frost1.png ... frost5.jpg with "
                            "--frost_dir") from error
        if texture.ndim == 2:
            texture = np.repeat(texture[..., None], 3, axis=2)
        textures.append(texture if scale == 1 else cv2.resize(texture, (0, 0), fx=scale, fy=scale))
    return textures


def neighbours(old, new, begin, end):
    """What the pixels `begin` to `end` of an axis enlarged from `old` to `new` pixels are made of.

    Returns:
        tuple: int (2, N) indices of two neighbours; int32 (2, N) their weights in 2048ths.
    """
    places = ((np.arange(begin, end) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(places)
    second_weight = places - first
    weights = np.rint(2048 * np.stack((1 - second_weight, second_weight))).astype(np.int32)
    return np.clip(np.stack((first, first + 1)).astype(int), 0, old - 1), weights


def enlarged_piece(texture, size, top, left, height, width):
    """A piece of what `cv2.resize` enlarges a texture to, without making the rest; it rounds as OpenCV does.

    Args:
        texture (numpy.ndarray): uint8 (H, W, C).
        size (tuple): height and width of the enlarged texture.
        top, left, height, width (int): the piece of it.

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


@corruption(colour=True)
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
    return np.clip(image_share * images + frost_share * pieces, 0, 255).astype(np.uint8)


@corruption()
def fog(images, constants, rngs, options):
    """Add a cloud, then scale back to the image's brightness."""
    thickness, decay = constants
    height, width = images.shape[1:3]
    values = images / 255.0
    brightest = values.max(axis=(1, 2, 3), keepdims=True)
    values += thickness * clouds(height, width, decay, rngs)[..., None]
    values *= brightest
    values /= brightest + thickness
    return to_uint8(values)


def water_drops(liquid):
    """Height of drops of water over an image, float32 (H, W) from 0 up, from their thickness, uint8 (H, W)."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    _, distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    light = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])  # drops are brighter on their lower right
    return liquid * cv2.blur(cv2.filter2D(distance, cv2.CV_8U, light), (3, 3)).astype(np.float32)


@corruption(colour=True)
def spatter(images, constants, rngs, options):
    """Drops of water, or splashes of mud."""
    mean, deviation, blur, threshold, strength, is_mud = constants
    values = images.astype(np.float32) / 255
    liquid = smooth(normal(rngs, (*images.shape[1:3], 1), mean, deviation), blur)
    liquid[liquid < threshold] = 0
    if is_mud:
        mask = smooth((liquid > threshold).astype(np.float32), strength)
        mask[mask < 0.8] = 0
        return to_uint8(values * (1 - mask) + MUD * mask)
    drops = np.stack([water_drops(layer) for layer in (liquid[..., 0] * 255).astype(np.uint8)])[..., None]
    brightest = drops.max(axis=(1, 2, 3), keepdims=True)
    brightest[brightest == 0] = 1  # no drop fell; the published code divides by zero here
    drops /= brightest
    drops *= strength
    return to_uint8(values + drops * WATER)
