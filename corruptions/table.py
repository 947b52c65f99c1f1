"""The table of all corruptions, in the order of the published benchmarks, and the named sets of them."""
import copyreg

from corruptions import blur, digital, noise, weather  # noqa: F401, they fill the table
from corruptions.bar import cover, patterns, warps  # noqa: F401, they fill it, too
from corruptions.bar_levels import BAR
from corruptions.registry import CORRUPTIONS, Corruption

# The fifteen corruptions of the published benchmarks, and four that were meant for validation (Hendrycks 2019).
COMMON = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
          "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression")
VALIDATION = ("gaussian_blur", "saturate", "speckle_noise", "spatter")
OTHERS = sorted(set(CORRUPTIONS) - {*COMMON, *VALIDATION, *BAR})
for name in (*COMMON, *VALIDATION, *OTHERS, *BAR):
    CORRUPTIONS[name] = CORRUPTIONS.pop(name)
ALL = tuple(name for name in CORRUPTIONS if name not in BAR)
SETS = {"common": COMMON, "all": ALL, "bar": BAR, "all+bar": ALL + BAR}


def find_corruption(name):
    """Return the `Corruption` called `name`."""
    return CORRUPTIONS[name]


# Pickled by name, because pickle cannot find the decorated function under its own name.
copyreg.pickle(Corruption, lambda corruption: (find_corruption, (corruption.name,)))
