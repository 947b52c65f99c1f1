"""Image corruptions: `corrupt` for arrays, `Corrupt` for data pipelines, `python -m corruptions` for files.

`CORRUPTIONS` maps each name to its pure function `f(image, severity, rng, options)`. Each kind of corruption has its
own file, and C-bar has the folder `bar/`. `registry.py` says what the functions have in common, `severities.py` holds
their constants, and `generate.py` gives every image its random numbers. `images.py` reads and writes single files, and
`jobs/` has the jobs over arrays and folders of images. `evaluation/` measures classifiers. `sequences/` makes the
perturbation sequences of ImageNet-P and CIFAR-10-P, and measures stability over them. `utils/` has what all need:
errors, files, signals, options.

The modules are imported when a name is first used, so that a program can first report what is missing.
"""
import importlib

__version__ = "1.0.0"

_MODULES = {
    "ALIASES": "bar_levels", "BenchmarkResult": "evaluation.result", "COMMON": "table", "CORRUPTIONS": "table",
    "Corrupt": "transform", "ImageRng": "rng", "Options": "registry",
    "PERTURBATIONS": "sequences.perturbations", "PERTURBATION_SETS": "sequences.perturbations", "SETS": "table",
    "UserError": "utils.errors", "benchmark": "evaluation.benchmark", "corrupt": "generate",
    "flip_rate": "sequences.metrics",
    "perturb": "sequences.perturb", "top5_distance": "sequences.metrics"}
__all__ = [*_MODULES]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__():
    return sorted({*globals(), *__all__})
