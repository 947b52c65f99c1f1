"""Noise corruptions. Each takes an image uint8 (H, W, 3), a severity 1..5 and a `numpy.random.RandomState`, and returns
an image of the same shape; with the state freshly seeded by k it draws what the published code draws after
`numpy.random.seed(k)`.
"""
import numpy as np

from corruptions.severities import constants


def to_uint8(values):
    """Clip values in 0..1 to that range, scale to 0..255 and cut off the fraction, as the published code does."""
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image, severity, rng):
    """x + sigma n, n ~ N(0, 1), values in 0..1."""
    sigma = constants("gaussian_noise", severity, image.shape)
    return to_uint8(image / 255.0 + rng.normal(size=image.shape, scale=sigma))


def shot_noise(image, severity, rng):
    """Poisson(c x) / c: the noise of counting c photons at full brightness, values in 0..1."""
    photons = constants("shot_noise", severity, image.shape)
    return to_uint8(rng.poisson(image / 255.0 * photons) / photons)


def impulse_noise(image, severity, rng):
    """Salt and pepper: a share of the values, each channel for itself, becomes 0 or 255 with equal chance.

    Draws what scikit-image's `random_noise(mode='s&p')` drew while it used numpy's global state.
    """
    amount = constants("impulse_noise", severity, image.shape)
    hit = rng.random_sample(image.shape) < amount
    salt = rng.random_sample(image.shape) < 0.5
    return np.where(hit, np.where(salt, 255, 0), image).astype(np.uint8)


def speckle_noise(image, severity, rng):
    """x + x sigma n, n ~ N(0, 1), values in 0..1."""
    sigma = constants("speckle_noise", severity, image.shape)
    values = image / 255.0
    return to_uint8(values + values * rng.normal(size=image.shape, scale=sigma))
