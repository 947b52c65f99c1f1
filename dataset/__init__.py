"""The data sets, found by name. There is one file per data set in `dataset/sources/`."""
import sys

if sys.argv[:1] == ["-m"] and f"{__name__}.prepare_dataset" in sys.orig_argv:  # -m imports this package first
    from corruptions.utils.startup import begin_imports
    begin_imports("prepare_dataset.py")

from dataclasses import replace
from functools import partial

import utils.runtime.requirements  # noqa: F401, isort: skip, first: it reports missing packages
import numpy as np

from corruptions.utils.cli import two_columns
from corruptions.utils.errors import UserError
from dataset.sources.base import per_channel
from dataset.sources.cifar import load_cifar
from dataset.sources.fashion_mnist import load_fashion_mnist
from dataset.sources.folder import IMAGE_SIZE, load_folder
from dataset.sources.imagenet import load_imagenet
from dataset.sources.imagenet30 import LISTS, load_imagenet30
from dataset.sources.photos import load_photos
from dataset.sources.tinyimagenet import load_tinyimagenet

SOURCES = {
    "cifar10": partial(load_cifar, "cifar10"),
    "cifar100": partial(load_cifar, "cifar100"),
    "fashion_mnist": load_fashion_mnist,
    "folder": load_folder,
    "imagenet": load_imagenet,
    "imagenet30": load_imagenet30,
    "photos": load_photos,
    "tinyimagenet": load_tinyimagenet,
}

SUMMARIES = {
    "cifar10": "32x32, 10 classes, 50 000 training images; downloaded if missing",
    "cifar100": "32x32, 100 classes, 50 000 training images; downloaded if missing",
    "fashion_mnist": "32x32, clothes, 60 000 training images; downloaded if missing",
    "folder": "your own images, DIR/CLASS/FILE with --data_dir DIR, of any size",
    "imagenet": "224x224, class folders in DATA_DIR/imagenet",
    "imagenet30": "64x64, 30 of its classes in DATA_DIR/ImageNet-30-64",
    "photos": "32x32 crops of ten photographs; part of scikit-image",
    "tinyimagenet": "64x64, 200 classes in DATA_DIR/tiny-imagenet-200",
}

# Options of a data set, each with the names of the data sets that read it.
SOURCE_OPTIONS = {"image_size": ("folder",), "filelist_dir": ("imagenet30",), "interpolation": ("folder", "imagenet"),
                  "mean": tuple(SOURCES), "std": tuple(SOURCES)}
SOURCE_DEFAULTS = {"image_size": IMAGE_SIZE, "filelist_dir": LISTS, "interpolation": "bilinear",
                   "mean": "that of the data set", "std": "that of the data set"}


def datasets_list():
    """Return the data sets and their summaries as text, for a terminal."""
    return two_columns(SUMMARIES)


def source_options(values):
    """Return the options of `SOURCE_OPTIONS` from the settings of a run (dict); lists become tuples.

    An option that an older run lacks is None.
    """
    options = {option: values.get(option) for option in SOURCE_OPTIONS}
    return {option: tuple(value) if isinstance(value, list) else value for option, value in options.items()}


def require_source_option(name, option):
    """Raise a `UserError` unless a data set reads an option, which is a key of `SOURCE_OPTIONS`."""
    if option not in SOURCE_OPTIONS:
        raise UserError(f"{option}: no data set has this option; choose from {', '.join(SOURCE_OPTIONS)}")
    if name not in SOURCE_OPTIONS[option]:
        others = " and ".join(SOURCE_OPTIONS[option])
        raise UserError(f"--{option}: has no effect on {name}, only on {others}; leave it out")


def load_source(name, data_dir, **options):
    """Load a data set.

    Args:
        name (str): a key of `SOURCES`.
        data_dir (str): folder of the data sets.
        options: values of the options in `SOURCE_OPTIONS`; None stands for the default. `mean` and `std` are tuples of
            one number, for all channels, or of three, for values in 0..1.

    Returns:
        ImageDataset

    Raises:
        UserError: the data set does not read an option, is missing or damaged, or lacks training or test images of a
            class.
    """
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        require_source_option(name, option)
    normalisation = {option: per_channel(option, given.pop(option)) for option in ("mean", "std") if option in given}
    source = replace(SOURCES[name](data_dir, **given), **normalisation)
    for part, word in (("train", "training"), ("test", "test")):
        for label in np.setdiff1d(np.arange(source.classes), source.labels[part]):
            title = source.class_names[label] if source.class_names else label
            raise UserError(f"{data_dir}: {name} has no {word} image of class {title}; add some, or name another "
                            "folder with --data_dir")
    return source
