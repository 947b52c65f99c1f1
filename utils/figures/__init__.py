"""Figures from the records of runs: python -m utils.figures NAME RUN ...

`FIGURES` is the table of them: a name to a function from records (`utils/records/reading.py`) to pairs of a file's name
and a matplotlib figure. `style.py` has what they share.
"""
from utils.figures.severity import accuracy, gradnorm
from utils.figures.sweep import rho, sigma
from utils.figures.training import training

FIGURES = {"accuracy": accuracy, "training": training, "gradnorm": gradnorm, "rho": rho, "sigma": sigma}
