"""Image corruptions, found by name in `CORRUPTIONS`; each is a pure function `f(image, severity, rng, options)`.

The functions stand in one file per kind; `contract.py` says what they have in common, `severities.py` holds their
constants, `generate.py` corrupts whole data sets.
"""
from corruptions import blur, digital, noise, weather  # noqa: F401, they fill the table
from corruptions.contract import CORRUPTIONS, Options

__all__ = ["CORRUPTIONS", "Options"]
