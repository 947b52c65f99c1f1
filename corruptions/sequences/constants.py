"""Constants of the perturbation sequences for each published image size.

Sources: hendrycks/robustness, folder `ImageNet-P/create_p`: `make_cifar_p.py` for 32, `make_tinyimagenet_p.py` for 64,
`make_imagenet_p.py` for 224, `make_imagenet_p_inception.py` for 299. Lengths are in pixels, angles in degrees,
brightness is in 0..1. A list has one value for each frame.

The script for 64 blurs the original photograph by `motion_blur` before it shrinks the photograph to 64 pixels. Its
constants are therefore not for images of 64 pixels, and the table has the constants for 32 in their place.
"""
import numbers

from corruptions.severities import NEAREST
from corruptions.utils.errors import UserError

DIFFICULTIES = (1, 2, 3)
LAST = 30  # number of the last frame; the first frame has the number 0
MIDDLE = LAST // 2
DEGREES = [i - MIDDLE for i in range(LAST + 1)]
ZOOM_FACTORS = [1 + 0.004 * i for i in range(1, LAST + 1)]
SNOW_ANGLES = [i * 4 - 150 for i in range(LAST + 1)]

# Rows that are the same at 64, 224 and 299 pixels. Those of noise have a value for each difficulty.
SHARED = {
    "zoom_blur": ZOOM_FACTORS,
    "brightness": [(i - MIDDLE) * 2 / 100 for i in range(LAST + 1)],
    "rotate": DEGREES,
    "tilt": DEGREES,
    "scale": [(i * 2.5 + 40) / 100 for i in range(LAST + 1)],
    "speckle_noise": (0.05, 0.1, 0.15),
    "shear": DEGREES,
}
SEQUENCE_CONSTANTS = {
    32: SHARED | {
        "gaussian_noise": (0.02, 0.04, 0.06),
        "shot_noise": (700, 400, 200),
        "motion_blur": (6, 1.8, [(i - 20) * 9 for i in range(21)]),
        "snow": (0.05, 0.3, 2, 10, 2, SNOW_ANGLES),
        "brightness": [(i - MIDDLE) * 1.5 / 100 for i in range(LAST + 1)],
        "translate": [i - 7 for i in range(16)],
        "tilt": [0.75 * degrees for degrees in DEGREES],
        "scale": [(i * 2 + 70) / 100 for i in range(LAST + 1)],
        "speckle_noise": (0.05, 0.07, 0.1),
        "gaussian_blur": (7, [0.3 + 0.015 * i for i in range(LAST + 1)]),
        "spatter": (0.6, 0.265, 1.75, 0.7, (0.2, 0.8)),
    },
    64: SHARED | {
        "gaussian_noise": (0.025, 0.05, 0.075),
        "shot_noise": (500, 250, 125),
        "snow": (0.05, 0.28, 2, 10, 2.5, SNOW_ANGLES),
        "translate": [i - MIDDLE for i in range(LAST + 1)],
        "gaussian_blur": (7, [0.35 + 0.014 * i for i in range(LAST + 1)]),
        "spatter": (0.6, 0.25, 1.75, 0.7, (0.2, 0.8)),
    },
    224: SHARED | {
        "gaussian_noise": (0.03, 0.05, 0.08),
        "shot_noise": (300, 120, 60),
        "motion_blur": (10, 3, [(i - LAST) * 4 for i in range(LAST + 1)]),
        "snow": (0.05, 0.3, 3, 14, 4, SNOW_ANGLES),
        "translate": [i - 20 for i in range(41)],
        "gaussian_blur": (6, [0.25 + 0.035 * i for i in range(LAST + 1)]),
        "spatter": (0.65, 0.27, 3.7, 0.69, (0.05, 0.1, 0.15, 0.7)),
    },
}
SEQUENCE_CONSTANTS[64]["motion_blur"] = SEQUENCE_CONSTANTS[32]["motion_blur"]
SEQUENCE_CONSTANTS[299] = SEQUENCE_CONSTANTS[224] | {
    "gaussian_noise": (0.035, 0.055, 0.085),
    "shot_noise": (250, 100, 50),
    "motion_blur": (13, 3, [(i - LAST) * 4 for i in range(LAST + 1)]),
    "speckle_noise": (0.06, 0.11, 0.16),
    "gaussian_blur": (6, [0.35 + 0.035 * i for i in range(LAST + 1)]),
    "spatter": (0.65, 0.3, 4, 0.69, (0.05, 0.1, 0.15, 0.7)),
}


def frame_count(name, constants):
    """Return the number of frames of a sequence with these constants, which are a row of `SEQUENCE_CONSTANTS`."""
    parts = [constants] if isinstance(constants, list) else constants
    lengths = [len(part) for part in parts if isinstance(part, list)] if isinstance(parts, (list, tuple)) else []
    return lengths[0] + (name == "zoom_blur") if lengths else LAST + 1  # zoom_blur begins with the image itself


def frame_counts(name):
    """Return the numbers of frames, ascending, that a sequence has for the published image sizes."""
    return sorted({frame_count(name, table[name]) for table in SEQUENCE_CONSTANTS.values()})


def check_difficulty(difficulty):
    """Raise a `UserError` unless a difficulty is the whole number 1, 2 or 3."""
    if isinstance(difficulty, bool) or not isinstance(difficulty, numbers.Integral) or difficulty not in DIFFICULTIES:
        raise UserError(f"difficulty {difficulty!r}: must be 1, 2 or 3")


def sequence_constants(name, height, width, preset=None):
    """Return the constants of a perturbation for images of this size.

    Args:
        name (str): a key of `PERTURBATIONS`.
        height, width (int): size of the frames.
        preset (int or None): a key of `SEQUENCE_CONSTANTS`; None takes the nearest of 32, 64 and 224 to the shorter
            side.
    """
    if preset is None:
        preset = min(NEAREST, key=lambda size: abs(size - min(height, width)))
    return SEQUENCE_CONSTANTS[preset][name]
