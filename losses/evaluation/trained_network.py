"""The network of an evaluation, and the test images of the data set that it was trained on."""
import os
import sys

from corruptions.utils.errors import UserError
from dataset import (
    SOURCE_DEFAULTS,
    SOURCE_OPTIONS,
    SOURCES,
    load_source,
    require_source_option,
    source_options,
)
from losses.config.table import OPTIONS
from models import check_image_size, find_model
from models.weight_files import read_options
from utils.options import validate_values
from utils.records.reading import require_not_failed
from utils.records.settings import FOLDER_OPTIONS, has_same_basename
from utils.records.trained import find_trained


def find_network(path, model=None, dataset=None):
    """Return the `TrainedNetwork` at a path, with a checkpoint, and the names of its network and its data set.

    Arguments and errors are as in `evaluate_run`.
    """
    trained = find_trained("--evaluate", path)
    model = trained.setting("model", model)
    find_model(model, f"{trained.path}: is of ")
    dataset = trained.setting("dataset", dataset, SOURCES)
    if trained.checkpoint is None:
        require_not_failed(path)
        raise UserError(f"--evaluate {path}: has no checkpoint; --resume it, which leaves one after every epoch")
    return trained, model, dataset


def load_test_images(trained, model, dataset, data_dir, options):
    """Load the data set of a trained network, and check that it is the one that the network was tested on.

    Args:
        trained (TrainedNetwork): the network.
        model, dataset (str): names of its network and of its data set.
        data_dir (str or None): folder of the data sets; None takes the run's folder, or else ./data.
        options (dict): values of `dataset.SOURCE_OPTIONS` on the command line.

    Returns:
        tuple: the data set (ImageDataset); the folder of the data sets (str).

    Raises:
        UserError: the data set is missing, or of other images than the run's, or does not fit the network.
    """
    data_dir = data_dir or trained.config.get("data_dir", os.path.abspath("./data"))
    source = load_source(dataset, data_dir, **run_options(trained, dataset, options))
    source.check_run(trained.config, trained.path)
    if trained.zoo_fingerprint not in (None, source.test_fingerprint.to_dict()):
        print(f"warning: {trained.path}: the accuracy in models/README.md is of other test images of {dataset}",
              file=sys.stderr)
    check_image_size(model, *source.image_size)
    return source, data_dir


def run_options(trained, dataset, given):
    """Return the values of `dataset.SOURCE_OPTIONS` that a network was trained with, and the present paths of folders.

    For a network without a config.json, return the options that its file keeps, and the given ones.

    Raises:
        UserError: a given option differs from the training.
    """
    given = {**dict.fromkeys(SOURCE_OPTIONS), **given}
    stored = {option: value for option, value in trained.config.items()
              if option in SOURCE_OPTIONS and value is not None}
    validate_values([OPTIONS[option] for option in SOURCE_OPTIONS], stored, trained.path)
    trained_options = source_options(stored)
    if not trained.config:
        kept = read_options(trained.checkpoint)
        validate_values([OPTIONS[option] for option in SOURCE_OPTIONS], kept, trained.path)
        trained_options = {**given, **{option: value for option, value in source_options(kept).items()
                                       if value is not None and dataset in SOURCE_OPTIONS[option]}}
    for option, value in given.items():
        known = trained_options[option] or SOURCE_DEFAULTS[option]
        if value is None:
            continue
        require_source_option(dataset, option)
        if option in FOLDER_OPTIONS and has_same_basename(known, value):
            trained_options[option] = value
        elif value != known:
            raise UserError(f"--{option} {_words(value)}: {trained.path} was trained with {_words(known)}; leave the "
                            "option out")
    return {**given, **trained_options}


def _words(value):
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
