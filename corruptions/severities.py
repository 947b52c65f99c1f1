"""Severity constants for each published image size: corruption to its five values, severity 1 first.

Sources: hendrycks/robustness, `make_cifar_c.py` for 32 and `make_imagenet_c.py` for 224 (the SharpDRO release has both
unchanged), `make_tinyimagenet_c.py` for 64, `make_imagenet_c_inception.py` for 299. Lengths are in pixels, brightness
is in 0..1. The constants of C-bar come from `corruptions/bar_levels.py`. `MEANINGS` says what each constant is.
"""
import math
import numbers

from corruptions.bar_levels import LEVELS
from corruptions.utils.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)

SEVERITY_CONSTANTS = {
    32: {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "snow": ((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                 (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
        "frost": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "spatter": ((0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
                    (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1)),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "elastic_transform": ((32 * 0, 32 * 0, 32 * 0.08), (32 * 0.05, 32 * 0.2, 32 * 0.07),
                              (32 * 0.08, 32 * 0.06, 32 * 0.06), (32 * 0.1, 32 * 0.04, 32 * 0.05),
                              (32 * 0.1, 32 * 0.03, 32 * 0.03)),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
        "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    },
    64: {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "shot_noise": (250, 100, 50, 30, 15),
        "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
        "speckle_noise": (0.15, 0.2, 0.25, 0.3, 0.35),
        "gaussian_blur": (0.5, 0.75, 1, 1.25, 1.5),
        "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "snow": ((0.1, 0.2, 1, 0.6, 8, 3, 0.8), (0.1, 0.2, 1, 0.5, 10, 4, 0.8), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
                 (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6)),
        "frost": ((1, 0.3, 0.3), (0.9, 0.4, 0.3), (0.8, 0.45, 0.3), (0.75, 0.5, 0.3), (0.7, 0.55, 0.3)),
        "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "spatter": ((0.62, 0.1, 0.7, 0.7, 0.6, 0), (0.65, 0.1, 0.8, 0.7, 0.6, 0), (0.65, 0.3, 1, 0.69, 0.6, 0),
                    (0.65, 0.1, 0.7, 0.68, 0.6, 1), (0.65, 0.1, 0.5, 0.67, 0.6, 1)),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": ((64 * 0, 64 * 0, 64 * 0.08), (64 * 0.05, 64 * 0.3, 64 * 0.06),
                              (64 * 0.1, 64 * 0.08, 64 * 0.06), (64 * 0.1, 64 * 0.03, 64 * 0.03),
                              (64 * 0.16, 64 * 0.03, 64 * 0.02)),
        "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg_compression": (65, 58, 50, 40, 25),
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
    },
    224: {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": (60, 25, 12, 5, 3),
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
        "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
        "gaussian_blur": (1, 2, 3, 4, 6),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "snow": ((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                 (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)),
        "frost": ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "spatter": ((0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
                    (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1)),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        # the published script has 244 here, not 224, and its images are the reference
        "elastic_transform": ((244 * 2, 244 * 0.7, 244 * 0.1), (244 * 2, 244 * 0.08, 244 * 0.2),
                              (244 * 0.05, 244 * 0.01, 244 * 0.02), (244 * 0.07, 244 * 0.01, 244 * 0.02),
                              (244 * 0.12, 244 * 0.01, 244 * 0.02)),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": (25, 18, 15, 10, 7),
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    },
}
# `make_imagenet_c_inception.py`; the other six corruptions have the constants for 224.
SEVERITY_CONSTANTS[299] = SEVERITY_CONSTANTS[224] | {
    "gaussian_noise": (0.09, 0.13, 0.19, 0.27, 0.40),
    "shot_noise": (50, 20, 10, 5, 3),
    "impulse_noise": (0.04, 0.07, 0.10, 0.18, 0.28),
    "speckle_noise": (0.16, 0.21, 0.36, 0.46, 0.61),
    "gaussian_blur": (1.5, 2.5, 3.5, 4.5, 6.5),
    "defocus_blur": ((4, 0.1), (5, 0.5), (7, 0.5), (10, 0.5), (12, 0.5)),
    "glass_blur": ((0.8, 1, 3), (1, 3, 1), (1.1, 2, 4), (1.2, 4, 2), (1.6, 5, 2)),
    "motion_blur": ((12, 4), (17, 6), (17, 9), (17, 13), (22, 16)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.8), (2.5, 1.6), (3, 1.5)),
    "spatter": ((0.65, 0.3, 4, 0.69, 0.9, 0), (0.65, 0.3, 3.5, 0.68, 0.9, 0), (0.65, 0.3, 3, 0.68, 0.8, 0),
                (0.65, 0.3, 1.2, 0.65, 1.8, 1), (0.67, 0.4, 1.2, 0.65, 1.8, 1)),
    "elastic_transform": ((360 * 2, 360 * 0.7, 360 * 0.1), (360 * 2, 360 * 0.08, 360 * 0.2),
                          (360 * 0.05, 360 * 0.01, 360 * 0.02), (360 * 0.07, 360 * 0.01, 360 * 0.02),
                          (360 * 0.12, 360 * 0.01, 360 * 0.02)),
    "pixelate": (0.5, 0.4, 0.3, 0.25, 0.2),
    "jpeg_compression": (23, 16, 13, 8, 5),
}
# Without a preset, an image takes the nearest of these sizes. The constants for 299 are taken on request alone.
NEAREST = (32, 64, 224)

for size, fallback in ((32, 224), (224, 32)):
    SEVERITY_CONSTANTS[size] |= {name: levels.get(size, levels.get(fallback)) for name, levels in LEVELS.items()}

# The meaning of each constant.
MEANINGS = {
    "gaussian_noise": ("standard deviation of the noise",),
    "shot_noise": ("photons at full brightness",),
    "impulse_noise": ("share of values that are replaced",),
    "defocus_blur": ("radius of the disk", "standard deviation that smooths it"),
    "glass_blur": ("standard deviation of the blurs", "largest displacement", "passes"),
    "motion_blur": ("radius", "standard deviation"),
    "zoom_blur": ("largest zoom factor", "step between the factors"),
    "snow": ("mean of the flakes", "their standard deviation", "their zoom", "their threshold",
             "radius of the motion blur", "its standard deviation", "share of the image"),
    "frost": ("share of the image", "share of the frost", "scale of the texture"),
    "fog": ("thickness", "decay of the roughness"),
    "brightness": ("added to the V of HSV",),
    "contrast": ("factor on the distance from the mean",),
    "elastic_transform": ("amplitude of the displacement", "its smoothness", "largest shift of the corners"),
    "pixelate": ("size of the small image relative to the image",),
    "jpeg_compression": ("JPEG quality",),
    "gaussian_blur": ("standard deviation of the kernel",),
    "saturate": ("factor on the S of HSV", "added to it"),
    "speckle_noise": ("standard deviation of the noise relative to the value",),
    "spatter": ("mean of the liquid", "its standard deviation", "its blur", "its threshold",
                "strength of the water, or blur of the mud", "0 water, 1 mud"),
    **dict.fromkeys(LEVELS, ("level",)),
    "pinch_and_twirl": ("level", "disks along the shorter side"),
}
# The smallest and the largest value of each constant of one's own.
SMALL = 1e-3
LIMITS = {
    "gaussian_noise": ((0, 100),), "shot_noise": ((SMALL, 1e6),), "impulse_noise": ((0, 1),),
    "defocus_blur": ((0, 1e3), (SMALL, 1e3)), "glass_blur": ((0, 1e3), (1, 1e3), (1, 100)),
    "motion_blur": ((0, 1e3), (SMALL, 1e3)), "zoom_blur": ((1 + SMALL, 10), (SMALL, 1)),
    "snow": ((-10, 10), (0, 10), (1, 100), (-10, 10), (0, 1e3), (SMALL, 1e3), (0, 1)),
    "frost": ((0, 10), (0, 10), (0.01, 10)), "fog": ((SMALL, 1e3), (1 + SMALL, 100)), "brightness": ((-1, 1),),
    "contrast": ((0, 100),), "elastic_transform": ((0, 1e5), (0, 1e4), (0, 1e4)), "pixelate": ((SMALL, 1),),
    "jpeg_compression": ((1, 100),), "gaussian_blur": ((0, 1e4),), "saturate": ((0, 1e3), (-1, 1)),
    "speckle_noise": ((0, 100),), "spatter": ((-10, 10), (0, 10), (0, 1e3), (-10, 10), (0, 1e3), (0, 1)),
    **dict.fromkeys(LEVELS, ((0, 10),)), "pinch_and_twirl": ((0, 10), (1, 100))}
# The places of the constants that are whole numbers.
WHOLE = {"glass_blur": (1, 2), "motion_blur": (0,), "snow": (4,), "jpeg_compression": (0,), "spatter": (5,),
         "pinch_and_twirl": (1,)}
# The place of a constant on which the kind of the effect depends, and the value at which the effect turns.
TURNS = {"spatter": (5, 0.5), "saturate": (0, 1)}


def nearest_preset(name, height, width):
    """Return the size nearest to an image's shorter side, among the sizes in `NEAREST` with constants of a corruption.
    """
    return min((size for size in NEAREST if name in SEVERITY_CONSTANTS[size]),
               key=lambda size: abs(size - min(height, width)))


def as_sequence(severities):
    """Return one severity or several as a tuple. An array without axes is one."""
    return tuple(severities) if hasattr(severities, "__iter__") and getattr(severities, "ndim", 1) else (severities,)


def check_severity(severity):
    """Return a severity as int, or as float of six digits if it lies between two whole numbers.

    Raises:
        UserError: the severity is not a number from 1 to 5.
    """
    if isinstance(severity, bool) or not isinstance(severity, numbers.Real) or not 1 <= severity <= 5:
        raise UserError(f"severity {severity!r}: must be a number from 1 to 5")
    rounded = round(float(severity), 6)  # the same random stream for 2.1 of any float type
    return int(rounded) if rounded == int(rounded) else rounded


def severity_constants(name, severity, preset):
    """Return the constants of a corruption: a number, or a tuple of numbers.

    Between two severities, the constants are interpolated linearly. Constants in `WHOLE` are then rounded.

    Args:
        name (str): a key of `MEANINGS`.
        severity (int or float): 1 to 5.
        preset (int): a key of `SEVERITY_CONSTANTS`.

    Raises:
        UserError: there are no constants of the corruption for this size, or it has no effect between two severities.
    """
    if name not in SEVERITY_CONSTANTS[preset]:
        raise UserError(f"preset {preset}: has no constants of {name}; take another one, or none")
    table = SEVERITY_CONSTANTS[preset][name]
    lower = table[int(severity) - 1]
    if severity == int(severity):
        return lower
    share, upper = severity - int(severity), table[int(severity)]
    pairs = list(zip(*([values] if isinstance(values, numbers.Real) else values for values in (lower, upper)),
                     strict=True))
    if turns_at(name, severity, preset):
        raise UserError(f"severity {severity}: {name} has another effect at {int(severity)} than at "
                        f"{int(severity) + 1} ({MEANINGS[name][TURNS[name][0]]}); give a severity on one side")
    values = [(1 - share) * first + share * second for first, second in pairs]
    for position in WHOLE.get(name, ()):
        values[position] = math.floor(values[position] + 0.5)
    return values[0] if isinstance(lower, numbers.Real) else tuple(values)


def turns_at(name, severity, preset):
    """Whether a severity lies between two that have different effects. Arguments are as in `severity_constants`."""
    if name not in TURNS or severity == int(severity):
        return False
    position, turn = TURNS[name]
    lower, upper = SEVERITY_CONSTANTS[preset][name][int(severity) - 1:int(severity) + 1]
    return (lower[position] - turn) * (upper[position] - turn) < 0


def check_constants(name, constants):
    """Return a user's constants of a corruption as a number, or as a tuple of numbers.

    Raises:
        UserError: they are not as many finite numbers as the corruption has constants, or one must be a whole number.
    """
    meanings = MEANINGS[name]
    if hasattr(constants, "tolist"):  # an array
        constants = constants.tolist()
    values = [constants] if isinstance(constants, numbers.Real) else list(constants) if isinstance(
        constants, (list, tuple)) else []
    if len(values) != len(meanings) or not all(isinstance(value, numbers.Real) and not isinstance(value, bool) and
                                               math.isfinite(value) for value in values):
        raise UserError(f"constants {constants!r}: {name} has {len(meanings)}: {', '.join(meanings)}; give a number "
                        "for each")
    for value, meaning, (low, high) in zip(values, meanings, LIMITS.get(name, ()), strict=False):
        if not low <= value <= high:
            raise UserError(f"constants {constants!r}: {meaning} of {name} must be from {low:g} to {high:g}")
    whole = WHOLE.get(name, ())
    for position in whole:
        if values[position] != int(values[position]):
            raise UserError(f"constants {constants!r}: {meanings[position]} of {name} must be a whole number")
    values = [int(value) if position in whole else float(value) for position, value in enumerate(values)]
    return values[0] if len(values) == 1 else tuple(values)
