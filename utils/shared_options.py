"""Options that several programs share: data, corruptions, device."""
import os
from functools import partial

from corruptions.utils.cli import (
    cpu_count,
    fraction,
    image_side,
    listing,
    names,
    non_negative_int,
    num_severity,
    or_list,
    positive_int,
    seed,
    two_columns,
    workers,
)
from utils.options import Option, OptionGroup
from utils.runtime.plugins import TARGETS


def data_options(datasets, datasets_list, corruptions, places=None, corruption_sets=None, aliases=None):
    """Return the options of the training images, which `main.py` and `prepare_dataset.py` share.

    Args:
        datasets (list of str): names of the data sets.
        datasets_list (callable): function that returns a text about the data sets.
        corruptions (dict): names of corruptions to objects with a `summary`.
        places (dict or None): values of --corrupted_from to their summaries; None leaves the option out.
        corruption_sets (dict or None): words for several corruptions. If given, data set, corruption and seed take
            several values.
        aliases (dict or None): other names of corruptions.

    Returns:
        OptionGroup
    """
    is_grid, sets = corruption_sets is not None, corruption_sets or {}
    options = [
        Option("dataset", f"data set: {', '.join(datasets)}; list explains them", or_list(datasets_list),
               "cifar10", list(datasets), "NAME", "-d", is_grid),
        Option("data_dir", "folder with the data sets; with -d folder, the folder of images itself",
               os.path.abspath, "./data", metavar="DIR"),
        Option("corruption", f"one of {len(corruptions)} corruptions, which list shows" + "".join(
            f"; {word}: {len(members)}" for word, members in sets.items()),
            or_list(partial(two_columns, corruptions), names(corruptions, sets, bool(sets), aliases)),
            "gaussian_noise", metavar="NAME", short="-c", is_grid=is_grid),
        Option("num_severity", "number of severities, with 0 for clean images: 6 means 0 to 5",
               num_severity, 6, metavar="S"),
        Option("num_per_class", "training images of each class, over all severities (default: 4/5 of the class; "
               "imagenet30: 1000; with --train_on clean: all but the validation images)", positive_int,
               metavar="N", short="-n"),
        Option("num_val", "validation images of each class (default: the rest, at most 1000; with -n K at most K/4 or "
               "50, whichever is larger; with --train_on clean and no -n, a tenth)", positive_int, metavar="N"),
        Option("val_fraction", "--train_on clean without -n: fraction of each class for validation (default: 0.1)",
               fraction, metavar="SHARE"),
        Option("image_size", "-d folder: side of the images, which are center crops, resized (default: 64)",
               image_side, metavar="PIXELS"),
        Option("filelist_dir", "-d imagenet30: folder of the lists with the severity of each image; missing lists are "
               "drawn and written (default: imagenet30_filelist beside main.py)", os.path.abspath, metavar="DIR"),
        Option("seed", "seed of the split, the initial weights and the batches", seed, 0, metavar="N", is_grid=is_grid),
        Option("num_workers", "threads or processes that read and corrupt images; does not change results", workers,
               min(4, cpu_count()), metavar="N"),
        Option("show_progress", "show progress bars even without a terminal", bool, False),
    ]
    if places is not None:
        options.insert(-3, Option("corrupted_from", "source of corrupted images; results are the same, unless "
                                  "--data_dir has arrays of others. " + listing(places), default="auto",
                                  choices=list(places), metavar="WHERE"))
    return OptionGroup("data", options, "dataset/README.md says where the data sets lie.")


# These options are the arguments of `utils.runtime.device.set_up_device`.
DEVICE = [
    Option("device_target", f"{', '.join(TARGETS)}, or auto for the best of these (default: auto)",
           choices=("auto", *TARGETS), metavar="DEVICE"),
    Option("device_id", "number of the GPU or NPU, if there are several (default: 0; msrun: one each)",
           non_negative_int, metavar="N"),
    Option("fast_math", "GPU, Ascend: faster operators with TF32, HF32 or less", bool),
]
DEVICE_OPTIONS = tuple(option.name for option in DEVICE)


def device_options(values):
    """Return the given options of `DEVICE`, a dict; `values` (dict) has all options."""
    return {option: values[option] for option in DEVICE_OPTIONS if values[option] is not None}
