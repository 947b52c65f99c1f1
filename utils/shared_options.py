"""Options that several programs share: data, corruptions, device."""
import argparse
import os
from functools import partial

from utils.cli import (
    StoreOneOrMany,
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

TARGETS = ("Ascend", "GPU", "CPU")  # device targets of MindSpore, best first
DEVICE_OPTIONS = ("device_target", "device_id", "fast_math")  # arguments of `utils.runtime.device.set_up_device`


def add_data_arguments(parser, datasets, datasets_list, corruptions, places=None, corruption_sets=None, aliases=None):
    """Add the options of the training images, which `main.py` and `prepare_dataset.py` share.

    Args:
        parser (argparse.ArgumentParser): gets the options.
        datasets (list of str): names of the data sets.
        datasets_list (callable): returns a text about the data sets.
        corruptions (dict): names to objects with a `summary`.
        places (dict or None): values of --corrupted to their summaries; None leaves the option out.
        corruption_sets (dict or None): words for several corruptions. If given, data set, corruption and seed take
            several values.
        aliases (dict or None): other names of corruptions.

    Returns:
        argparse._ArgumentGroup: the group of these options.
    """
    several = {} if corruption_sets is None else {"action": StoreOneOrMany}
    sets = corruption_sets or {}
    group = parser.add_argument_group("data", "dataset/README.md says where the data sets lie.")
    add = group.add_argument
    add("-d", "--dataset", type=or_list(datasets_list), choices=list(datasets), default="cifar10", metavar="NAME",
        **several, help=f"data set: {', '.join(datasets)}; list says what they are")
    add("--data_dir", type=os.path.abspath, default="./data", metavar="DIR",
        help="folder that holds the data sets; of -d folder, the folder of images itself")
    add("-c", "--corruption", default="gaussian_noise", metavar="NAME", **several,
        type=or_list(partial(two_columns, corruptions), names(corruptions, sets, bool(sets), aliases)),
        help=f"one of {len(corruptions)}, list says which" + "".join(f"; {word}: {len(some)}"
                                                                     for word, some in sets.items()))
    add("--num_severity", type=num_severity, default=6, metavar="S",
        help="number of distributions, the clean one included: 6 means severities 0 to 5")
    add("-n", "--num_per_class", type=positive_int, default=argparse.SUPPRESS, metavar="N",
        help="training images of each class, all severities together (default: 4/5 of the images of each class, "
             "1000 for imagenet30; with --train_on clean all that are not for validation)")
    add("--num_val", type=positive_int, default=None, metavar="N",
        help="validation images of each class (default: what is left over, at most 1000; with -n K at most K/4, "
             "or 50)")
    add("--val_share", type=fraction, default=None, metavar="SHARE",
        help="--train_on clean without -n: share of each class that is for validation (default: 0.1)")
    add("--image_size", type=image_side, default=None, metavar="PIXELS",
        help="-d folder: side of the images, squares cut from the middle of the files and scaled (default: 64)")
    add("--filelist_dir", type=os.path.abspath, default=None, metavar="DIR",
        help="-d imagenet30: folder of the lists of each image's severity, drawn and written where they are missing "
             "(default: imagenet30_filelist beside main.py)")
    if places is not None:
        add("--corrupted", choices=list(places), default="auto", metavar="WHERE",
            help="where corrupted images come from, the same ones either way. " + listing(places))
    add("--seed", type=seed, default=0, metavar="N", **several,
        help="seed of the split, the initial weights and the batches")
    add("--num_workers", type=workers, default=min(4, cpu_count()), metavar="N",
        help="threads or processes that read and corrupt images, without effect on results")
    add("--show_progress", action="store_true", help="progress bars even where there is no terminal")
    return group


def add_device_arguments(group):
    """Add the options of `utils.runtime.device.set_up_device`; their default is None."""
    group.add_argument("--device_target", choices=("auto", *TARGETS), default=None, metavar="NAME",
                       help=f"auto, the best that is there, or {', '.join(TARGETS)} (default: auto)")
    group.add_argument("--device_id", type=non_negative_int, default=None, metavar="N",
                       help="which of several (default: 0; msrun: one each)")
    group.add_argument("--fast_math", action=argparse.BooleanOptionalAction, default=None,
                       help="GPU, Ascend: TF32, HF32 or less, faster")


def device_options(args):
    """The options of `add_device_arguments` that were given, a dict."""
    return {option: getattr(args, option) for option in DEVICE_OPTIONS if getattr(args, option) is not None}
