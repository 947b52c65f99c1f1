"""Severity constants of C-bar: the five levels of each corruption for images of 32 and of 224 pixels, severity 1 first.

Sources: `cifar10_c_bar.csv` for 32 and `imagenet_c_bar.csv` for 224. A corruption that is in only one of these files
has the same levels at the other size, too. The docstring of each function says what its level means. Lengths grow with
the image.
"""

LEVELS = {
    "blue_noise_sample": {32: (0.7, 1.4, 2.1, 3.5, 4.2), 224: (0.8, 1.6, 2.4, 4, 5.6)},
    "checkerboard_cutout": {32: (1, 2, 3, 4, 5), 224: (2, 3, 4, 5, 6)},
    "inverse_sparkles": {32: (1, 1.5, 2.5, 4.5, 5), 224: (1, 2, 4, 9, 10)},
    # the level, and the number of disks along the shorter side
    "pinch_and_twirl": {32: ((5.5, 3), (6, 3), (6.5, 3), (8.5, 3), (10, 3)),
                        224: ((5.5, 5), (6, 5), (6.5, 5), (8.5, 5), (10, 5))},
    "ripple": {32: (5.5, 6, 6.5, 7.5, 8)},
    "brownish_noise": {32: (2.5, 4, 5.5, 6.5, 7), 224: (1, 2, 3, 4, 5)},
    "circular_motion_blur": {32: (2.8, 3.6, 4.4, 5.2, 6)},
    "lines": {32: (0.5, 1, 1.5, 2, 2.5)},
    "sparkles": {32: (0.7, 3.5, 5.6, 6.3, 7), 224: (1, 2, 3, 5, 6)},
    "transverse_chromatic_abberation": {32: (1, 2, 5, 9, 10)},
    "caustic_refraction": {224: (2.35, 3.2, 4.9, 6.6, 9.15)},
    "perlin_noise": {224: (4.6, 5.2, 5.8, 7.6, 8.8)},
    "plasma_noise": {224: (4.75, 7, 8.5, 9.25, 10)},
    "cocentric_sine_waves": {224: (3, 5, 8, 9, 10)},
    "single_frequency_greyscale": {224: (1, 1.5, 2, 4.5, 5)},
}

BAR = tuple(LEVELS)
# The usual spelling to the published spelling, where the two differ.
ALIASES = {"concentric_sine_waves": "cocentric_sine_waves", "single_frequency_grayscale": "single_frequency_greyscale",
           "transverse_chromatic_aberration": "transverse_chromatic_abberation"}
