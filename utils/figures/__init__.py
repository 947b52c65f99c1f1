"""Figures from the records of runs: python -m utils.figures NAME RUN ...

`FIGURES` is the table of them. `style.py` has what they share.
"""
import sys

if sys.argv[:1] == ["-m"] and __name__ in sys.orig_argv:  # python -m utils.figures imports this before __main__.py
    from utils.runtime.startup import begin_imports
    begin_imports("python -m utils.figures")

from collections.abc import Callable
from dataclasses import dataclass

import utils.runtime.requirements  # noqa: F401, first: it says what is not installed
from utils.figures.evaluations import ce
from utils.figures.probes import calibration, ood, samples, sharpness, surface
from utils.figures.severity import accuracy, gradnorm
from utils.figures.sweep import rho, sigma
from utils.figures.training import training
from utils.records.reading import SETTING_KEYS


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        draw (callable): takes records (`utils/records/reading.py`) of the same data, and what was measured for them
            where it is measured; yields pairs of a file's name and a matplotlib figure. Its docstring is the help.
        measured (bool): `losses.evaluation.measure.MEASUREMENTS` has what measures for it.
        options (tuple of str): options of the measurement.
        shared (tuple of str): settings that its runs must have in common; a comparison of more has a figure for each.
        told (tuple of str): settings that it shows otherwise than in the names of runs.
    """

    draw: Callable
    measured: bool = False
    options: tuple[str, ...] = ()
    shared: tuple[str, ...] = SETTING_KEYS
    told: tuple[str, ...] = ()


FIGURES = {
    "accuracy": Figure(accuracy),
    "training": Figure(training),
    "gradnorm": Figure(gradnorm),
    "sharpness": Figure(sharpness, True, ("images", "rho")),
    "surface": Figure(surface, True, ("images", "points", "span")),
    "rho": Figure(rho, told=("rho",)),
    "sigma": Figure(sigma, told=("sigma",)),
    "ood": Figure(ood, True, ("images", "rho", "epoch")),
    "ce": Figure(ce, shared=("dataset",), told=("corruption", "model", "aug_corruption")),
    "samples": Figure(samples, True, ("image",)),
    "calibration": Figure(calibration, True, ("images",)),
}
