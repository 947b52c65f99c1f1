"""Image corruptions: `corrupt(images, name, severity, seed)` for arrays, `python -m corruptions` for files.

`CORRUPTIONS` maps each name to its pure function `f(image, severity, rng, options)`. Each kind of corruption has its
own file, and C-bar has the folder `bar/`. `registry.py` says what the functions have in common, `severities.py` holds
their constants, and `generate.py` gives every image its random numbers. `images.py` reads and writes single files, and
`jobs/` has the jobs over arrays and folders of images.
"""
import sys

if sys.argv[:1] == ["-m"] and __name__ in sys.orig_argv:  # python -m corruptions imports this before __main__.py
    from utils.runtime.startup import begin_imports
    begin_imports("python -m corruptions")

import utils.runtime.requirements  # noqa: F401, first, because it reports missing packages
from corruptions import blur, digital, noise, weather  # noqa: F401, they fill the table of corruptions
from corruptions.bar import cover, patterns, warps  # noqa: F401, they fill it, too
from corruptions.bar_levels import ALIASES, BAR
from corruptions.generate import ImageRng, corrupt
from corruptions.registry import CORRUPTIONS, Options

# The fifteen corruptions of the published benchmarks. The other four were meant for validation (Hendrycks 2019).
COMMON = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
          "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression")
for name in [*COMMON, *(name for name in CORRUPTIONS if name not in COMMON + BAR), *BAR]:
    CORRUPTIONS[name] = CORRUPTIONS.pop(name)  # puts the table in the order of the benchmarks
ALL = tuple(name for name in CORRUPTIONS if name not in BAR)
SETS = {"common": COMMON, "all": ALL, "bar": BAR, "all+bar": ALL + BAR}

__all__ = ["ALIASES", "COMMON", "CORRUPTIONS", "SETS", "ImageRng", "Options", "corrupt"]
