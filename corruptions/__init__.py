"""Image corruptions: `corrupt(images, name, severity, seed)` for arrays, `python -m corruptions` for files.

`CORRUPTIONS` has the pure function `f(image, severity, rng, options)` behind each name. The functions stand in one file
per kind; `contract.py` says what they have in common, `severities.py` holds their constants, `generate.py` gives every
image its random numbers; `files.py` writes arrays, `folders.py` folders, and `images.py` reads and writes single files.
"""
from corruptions import blur, digital, noise, weather  # noqa: F401, they fill the table
from corruptions.contract import CORRUPTIONS, Options
from corruptions.generate import ImageStream, corrupt

# The fifteen of the published benchmarks; the other four were meant for validation (Hendrycks 2019).
COMMON = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
          "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression")
SETS = {"common": COMMON, "all": tuple(CORRUPTIONS)}

__all__ = ["COMMON", "CORRUPTIONS", "SETS", "ImageStream", "Options", "corrupt"]
