"""Corruptions of image processing: brightness, contrast, pixelation, compression. The contract is that of
`corruptions/noise.py`; these draw no random numbers.
"""
import io

import numpy as np
from PIL import Image
from skimage.color import hsv2rgb, rgb2hsv

from corruptions.noise import to_uint8
from corruptions.severities import constants


def brightness(image, severity, rng):
    """Add to the V of HSV, values in 0..1."""
    added = constants("brightness", severity, image.shape)
    hsv = rgb2hsv(image / 255.0)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return to_uint8(hsv2rgb(hsv))


def contrast(image, severity, rng):
    """Shrink each channel's distance from its mean over the image."""
    factor = constants("contrast", severity, image.shape)
    values = image / 255.0
    means = values.mean(axis=(0, 1), keepdims=True)
    return to_uint8((values - means) * factor + means)


def pixelate(image, severity, rng):
    """Shrink by averaging boxes, then enlarge again."""
    factor = constants("pixelate", severity, image.shape)
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image, severity, rng):
    """Store as JPEG of low quality and read back."""
    quality = constants("jpeg_compression", severity, image.shape)
    with io.BytesIO() as buffer:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))
