"""Noise."""
import numpy as np

from corruptions.registry import register, to_uint8


def normal(rngs, shape, mean, deviation):
    """Return normal random numbers, float64 (N, *shape), each row from its own generator."""
    return np.stack([rng.normal(size=shape, loc=mean, scale=deviation) for rng in rngs])


@register()
def gaussian_noise(images, sigma, rngs, options):
    """x + sigma n, n ~ N(0, 1)."""
    noise = normal(rngs, images.shape[1:], 0, sigma)
    noise += images / 255.0
    return to_uint8(noise)


@register()
def shot_noise(images, photons, rngs, options):
    """Poisson(c x) / c: the noise of counting photons, c of them at full brightness."""
    means = images / 255.0 * photons
    brightness = to_uint8(np.arange(photons + 1) / photons)  # by number of photons; larger numbers are white, too
    out = np.empty_like(images)
    for image, rng, mean in zip(out, rngs, means, strict=True):
        brightness.take(rng.poisson(mean), out=image, mode="clip")
    return out


@register()
def impulse_noise(images, amount, rngs, options):
    """Salt and pepper: in each channel, a fraction of the values becomes 0 or 255 with equal probability.

    Draws what scikit-image's `random_noise(mode='s&p')` drew while it used numpy's global state.
    """
    out = images.copy()
    for image, rng in zip(out, rngs, strict=True):
        replaced = rng.random_sample(image.shape) < amount
        np.copyto(image, (rng.random_sample(image.shape) < 0.5) * np.uint8(255), where=replaced)
    return out


@register()
def speckle_noise(images, sigma, rngs, options):
    """x + x sigma n, n ~ N(0, 1)."""
    values = images / 255.0
    noise = normal(rngs, images.shape[1:], 0, sigma)
    noise *= values
    noise += values
    return to_uint8(noise)
