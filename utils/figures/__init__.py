"""Figures from the records of runs: python -m utils.figures NAME RUN ...

`FIGURES` is the table of figures. `style.py` has the code that they share.
"""
import sys

if sys.argv[:1] == ["-m"] and __name__ in sys.orig_argv:  # python -m utils.figures imports this before __main__.py
    from corruptions.utils.startup import begin_imports
    begin_imports("python -m utils.figures")

from collections.abc import Callable
from dataclasses import dataclass

import utils.runtime.requirements  # noqa: F401, imported first because it reports missing packages
from utils.figures.evaluations import ce, error
from utils.figures.probes import calibration, ood, samples, sharpness, surface, xi
from utils.figures.severity import accuracy, gradnorm
from utils.figures.sweep import rho, sigma
from utils.figures.training import training
from utils.records.reading import SETTING_KEYS


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        draw (callable): a function of records (`utils/records/reading.py`) of the same data and, if `measured` is true,
            of their measurements; yields pairs of a file name and a matplotlib figure. Its docstring is the help.
        measured (bool): whether `losses.evaluation.measure.MEASUREMENTS` has a measurement for this figure.
        options (tuple of str): options of the measurement.
        shared (tuple of str): settings that the runs of a figure must have in common; a comparison with several values
            of them has a figure for each value.
        shown (tuple of str): settings that the figure shows in another way than in the names of runs.
    """

    draw: Callable
    measured: bool = False
    options: tuple[str, ...] = ()
    shared: tuple[str, ...] = SETTING_KEYS
    shown: tuple[str, ...] = ()


FIGURES = {
    "accuracy": Figure(accuracy),
    "training": Figure(training),
    "gradnorm": Figure(gradnorm),
    "sharpness": Figure(sharpness, True, ("images", "rho")),
    "surface": Figure(surface, True, ("images", "points", "span")),
    "rho": Figure(rho, shown=("rho",)),
    "sigma": Figure(sigma, shown=("sigma",)),
    "ood": Figure(ood, True, ("images", "rho", "epoch")),
    "ce": Figure(ce, shared=("dataset",), shown=("corruption", "model", "aug_corruption")),
    "error": Figure(error, shared=("dataset", "model"), shown=("corruption",)),
    "samples": Figure(samples, True, ("image",)),
    "calibration": Figure(calibration, True, ("images",)),
    "xi": Figure(xi, True, ("images",)),
}
