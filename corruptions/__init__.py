"""Image corruptions: pure functions `f(image, severity, rng)`, found by name.

The functions stand in one file per kind, their severity constants in `severities.py`, the generator for whole data sets
in `generate.py`.
"""
from corruptions.digital import brightness, contrast, jpeg_compression, pixelate
from corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise

CORRUPTIONS = {f.__name__: f for f in (
    gaussian_noise, shot_noise, impulse_noise, speckle_noise, brightness, contrast, pixelate, jpeg_compression)}
