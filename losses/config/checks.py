"""Checks of options: each alone, against each other, and in a saved `config.json`."""
import argparse
import numbers
from dataclasses import fields

import numpy as np

from corruptions import CORRUPTIONS, SETS
from corruptions.utils import cli
from corruptions.utils.cli import FLOAT32_MAX
from corruptions.utils.errors import UserError
from dataset.rand_augment import MAX_MAGNITUDE
from dataset.sources.imagenet30 import find_test_list
from losses.components import AGNOSTIC_OBJECTIVES, DATA_STRATEGIES, OBJECTIVES, PERTURBATIONS
from losses.config.settings import MethodConfig
from losses.config.table import DEPENDENT_OPTIONS, OPTIONS, TRAINING_PARTS, takes_effect, used_by
from losses.methods import METHOD_OPTIONS, METHODS, default_options
from losses.schedules import warmup_epochs
from models.stacked import model_has_batch_norm
from utils.options import validate_values
from utils.runtime import distributed

LEAST = 1.2e-38  # a positive float32; some devices round smaller ones to 0


def check_method(settings, given):
    """Raise a `UserError` if a setting is impossible, if a given option is not read, or if others make it useless.

    Args:
        settings (MethodConfig): the resolved settings.
        given (dict): the given options, to their values.
    """
    check_is_read(settings, given)
    check_values(settings)
    check_images_and_labels(settings)
    if settings.accumulate is not None:
        check_accumulation(settings)
    check_has_effect(settings, given)
    check_drawing(settings)


def check_value(option, value):
    """Raise a `UserError` unless the command line could have given `value`, which Python gives to an option (str)."""
    row, plain = OPTIONS[option], np.asarray(value).tolist()  # a list for a tuple, a plain number for one of NumPy
    if row.choices is not None and value not in row.choices:
        raise UserError(f"--{option} {value}: unknown; choose from {', '.join(row.choices)}")
    if value is None or row.accepts(plain):
        return
    reason = f"is of a type that main.py does not give to --{option}"
    try:
        row.kind(str(plain))
    except (argparse.ArgumentTypeError, UserError, TypeError, ValueError) as error:
        reason = str(error)
    raise UserError(f"--{option} {value}: {reason}")


def check_is_read(settings, given):
    """Raise a `UserError` if neither the method nor a part of the training reads a given option."""
    unused = [option for option in given if option in METHOD_OPTIONS and option not in settings.options]
    if unused:
        users = ", ".join(name for name in METHODS if unused[0] in default_options(name))
        raise UserError(f"--{unused[0]}: {settings.title} does not use it, of the methods only {users}; leave it out")
    for part, table in TRAINING_PARTS.items():
        name = getattr(settings, part)
        for option in given:
            users = used_by(table, option)
            if users and name not in users:
                raise UserError(f"--{option}: --{part} {name} does not use it, only {', '.join(users)}; leave it out")


def check_values(settings):
    """Raise a `UserError` if the value of a setting is impossible."""
    for option, value in {**vars(settings), **settings.options}.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if is_number and not (value == 0 or LEAST <= value <= FLOAT32_MAX):
            raise UserError(f"--{option} {value}: does not fit float32, in which networks are trained; give one "
                            f"from {LEAST} to {FLOAT32_MAX}")
    if settings.warmup is not None:
        warmup_epochs(settings.warmup, 1)  # raises an error if the text is not a length
    if settings.final_lr is not None and settings.final_lr > settings.lr:
        raise UserError(f"--final_lr {settings.final_lr}: must not be above --lr {settings.lr}; give less")


def check_images_and_labels(settings):
    """Raise a `UserError` if the training images or labels cannot be changed in this way."""
    if settings.crop_area is not None and settings.crop != "random_resized":
        raise UserError(f"--crop_area: needs --crop random_resized, and --crop is {settings.crop}; leave it out")
    if settings.crop_area is not None and settings.crop_area[0] > settings.crop_area[1]:
        raise UserError(f"--crop_area {' '.join(map(str, settings.crop_area))}: the first is above the second; swap "
                        "them")
    if settings.mixup == 1:
        raise UserError("--mixup 1: mixes nothing; give less, or leave it out")
    if settings.mixup is not None and settings.mixup < 0.5:
        raise UserError(f"--mixup {settings.mixup}: an image keeps its own severity, so that its share "
                        "is at least 0.5; give that or more")
    for option in ("mixup", "label_smoothing"):
        if getattr(settings, option) is not None and settings.objective == "irm":
            raise UserError(f"--{option}: irm's penalty needs one label for each image; leave it out")
    if settings.label_smoothing == 0:
        raise UserError("--label_smoothing 0: smooths nothing; give more, or leave it out")
    if settings.rand_augment is not None and not (settings.rand_augment[0] >= 1 <= settings.rand_augment[1]
                                                  <= MAX_MAGNITUDE):
        raise UserError(f"--rand_augment {' '.join(map(str, settings.rand_augment))}: needs one operation or more, of "
                        f"strength 1 to {MAX_MAGNITUDE}; give these, or leave it out")


def check_has_effect(settings, given):
    """Raise a `UserError` if other settings leave a given option without effect."""
    if "irm_anneal" in given and settings.options["irm_lambda"] == 1:
        raise UserError(f"--irm_anneal {given['irm_anneal']}: lambda is 1 before and after; leave it out, or give "
                        "--irm_lambda, too")
    still = [option for option in ("group_loss", "group_update_every", "group_adjustment") if option in given]
    if still and settings.options.get("step_size") == 0:
        raise UserError(f"--{still[0]}: the weights of the distributions never move with --step_size 0; leave one of "
                        "them out")
    if "weight_decay_on" in given and settings.weight_decay == 0:
        raise UserError(f"--weight_decay_on {settings.weight_decay_on}: there is no weight decay; leave it out, or "
                        "give --weight_decay")
    if "sync_bn" in given and settings.num_sub_batches == distributed.world_size() == 1:
        flag = "--sync_bn" if settings.sync_bn else "--no-sync_bn"
        raise UserError(f"{flag}: has no effect on one sub-batch; leave it out, or give "
                        "--num_sub_batches")
    if "stage_one" in given and "stage_one_epochs" in given:
        raise UserError("--stage_one_epochs: no first model is trained where --stage_one names one; leave one out")
    for option, (_, _, reason) in DEPENDENT_OPTIONS.items():
        if option in given and not takes_effect(option, settings.options):
            raise UserError(f"--{option}: {reason}")


def check_drawing(settings):
    """Raise a `UserError` if a method cannot have the severities or the sampler that it is given."""
    if settings.options.get("group_loss") == "validation" and DATA_STRATEGIES[settings.data].replaces_groups:
        raise UserError(f"--group_loss validation: validation images have severities, not the environments of "
                        f"{settings.method}; leave it out")
    if DATA_STRATEGIES[settings.data].replaces_groups and not OBJECTIVES[settings.objective].reads_groups:
        readers = ", ".join(name for name, part in OBJECTIVES.items() if part.reads_groups)
        raise UserError(f"--objective {settings.objective}: does not look at the environments that {settings.method} "
                        f"finds; use one of {readers}")
    if settings.sampler == "permutation" and settings.sampling == "balanced":
        raise UserError("--sampler permutation: passes over every image once, and --sampling balanced draws those of "
                        "rare severities more often; leave out one of them")
    if settings.sampler == "permutation" and DATA_STRATEGIES[settings.data].oversamples:
        raise UserError(f"--sampler permutation: passes over every image once, and {settings.method} draws some images "
                        "more often; leave it out")
    if settings.objective in AGNOSTIC_OBJECTIVES and settings.sampling == "balanced":
        raise UserError("--sampling balanced: uses the severities that distribution-agnostic training does without; "
                        "leave it out")


def check_accumulation(settings):
    """Raise a `UserError` if a batch cannot be taken in parts with the gradient of the whole batch."""
    if settings.num_sub_batches > 1:
        memory = ", or --no-sync_bn in place of it, which needs the memory of one sub-batch" if settings.sync_bn else \
            ", or leave it out, because sub-batches need the memory of one of them"
        raise UserError(f"--accumulate {settings.accumulate}: takes the gradient of the whole batch, and each of "
                        f"{settings.num_sub_batches} sub-batches has a perturbation of its own; give --num_sub_batches "
                        f"1{memory}")


def check_ascents(sync_perturbation, perturbation, sub_batches):
    """Raise a `UserError` if the option about the ascents of several workers has no effect."""
    flag = "--sync_perturbation" if sync_perturbation else "--no-sync_perturbation"
    if distributed.world_size() == 1:
        raise UserError(f"{flag}: has no effect on one worker; leave it out")
    if "rho" not in PERTURBATIONS[perturbation].defaults:
        raise UserError(f"{flag}: has no effect without an ascent, and --perturbation {perturbation} has none; leave "
                        "it out")
    if sub_batches > 1:
        raise UserError(f"{flag}: each of {sub_batches} sub-batches has an ascent of its own; leave it out, or give "
                        "--num_sub_batches 1")


def check_world_size(settings, batch_size=None):
    """Check that the workers that train together can share a batch.

    Args:
        settings (MethodConfig): settings of the training.
        batch_size (int or None): images in a batch, if the number is known.

    Raises:
        UserError: the workers cannot share a batch.
    """
    count, parts = distributed.world_size(), settings.num_sub_batches
    if settings.accumulate is not None and count > 1:
        raise UserError(f"--accumulate {settings.accumulate}: works with one worker, and there are {count}; leave it "
                        "out, or train with one")
    if settings.mixup is not None and (batch_size or 0) % (2 * count):
        raise UserError(f"--mixup: images are mixed in pairs, and -b {batch_size} is not a multiple of {2 * count}; "
                        "give one")
    if count == 1:
        return
    if (batch_size or count) % count:
        raise UserError(f"-b {batch_size}: is the batch of all workers, and {count} do not divide it; give a multiple "
                        "of their number")
    if parts == 1 and "sigma" in PERTURBATIONS[settings.perturbation].defaults:
        raise UserError(f"--num_sub_batches 1: each of {count} workers draws its own noise; give --num_sub_batches "
                        f"{count}, or a multiple of that")
    if parts > 1 and parts % count:
        raise UserError(f"--num_sub_batches {parts}: cannot be shared by {count} workers; give a multiple of their "
                        "number, or train with as many workers as divide it")


def check_batches(method, compile_cache):
    """Raise a `UserError` if the workers cannot share a batch, or if one compiled graph cannot be stored.

    Args:
        method (MethodConfig): settings of the training.
        compile_cache (str or None): folder for the compiled graph.
    """
    check_world_size(method, method.batch_size)
    if method.accumulate is not None and compile_cache is not None:
        raise UserError("--compile_cache: stores one graph, and --accumulate has several; leave out one of them")


def check_options(method, args, given):
    """Raise a `UserError` if options of a run do not go with its method; arguments as in `resolve_config`."""
    if "filelist_dir" in given and (args.split is not None or method.train_on == "clean"):
        flag = "--split" if args.split is not None else "--train_on clean"
        if find_test_list(given["filelist_dir"]) is None:
            raise UserError(f"--filelist_dir {given['filelist_dir']}: has no list of test images, and {flag} reads no "
                            "other; leave it out")
    if method.batch_size % method.num_sub_batches:
        raise UserError(f"--num_sub_batches {method.num_sub_batches}: does not divide -b {method.batch_size}; "
                        "give a divisor of the batch size")
    if method.batch_size % (method.accumulate or 1):
        raise UserError(f"--accumulate {method.accumulate}: does not divide -b {method.batch_size}; give a divisor of "
                        "the batch size")
    if method.sync_bn and "sync_bn" in given and not model_has_batch_norm(args.model):
        raise UserError(f"--sync_bn: {args.model} has no BatchNorm; leave it out")
    if "aug_severity" in given and args.num_severity == 2:
        raise UserError(f"--aug_severity {given['aug_severity']}: with --num_severity 2 there is only one severity to "
                        "draw; leave it out")
    if "best_by" in given and not args.save_best:
        raise UserError(f"--best_by {given['best_by']}: needs --save_best; give that, too, or leave it out")
    check_batches(method, args.compile_cache)
    late = [epoch for epoch in args.keep_epochs if epoch >= method.total_epoch]
    if late:
        raise UserError(f"--keep_epochs {late[0]}: the last epoch is {method.total_epoch - 1}; give no later epoch")


def check_saved(values, path):
    """Check that options could have given the settings of an earlier run.

    Args:
        values (dict): the settings, with the defaults of missing options.
        path (str): file of the settings, for the error.

    Raises:
        UserError: no options give these settings, because the file was damaged or edited.
    """
    validate_values(OPTIONS.values(), values, path)
    cli.require_known(f"{path}: corruption", values["corruption"], CORRUPTIONS, SETS)
    needed = [field.name for field in fields(MethodConfig) if "None" not in str(field.type) and field.name != "options"]
    lacking = [option for option in needed if values.get(option) is None]
    if not lacking:
        lacking = [option for part, table in TRAINING_PARTS.items() for option in table[values[part]].defaults
                   if values.get(option) is None]
    if lacking:
        raise UserError(f"{path}: has no {lacking[0]}; put the old file back, or begin another run")
