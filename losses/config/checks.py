"""All checks of options: each alone, against each other, in a saved `config.json`, and with the data of a run."""
import functools
import numbers
from dataclasses import fields

from corruptions import CORRUPTIONS, SETS
from corruptions.utils import cli
from corruptions.utils.cli import FLOAT32_MAX
from corruptions.utils.errors import UserError
from corruptions.utils.files import require_writable_folder
from dataset.rand_augment import MAX_MAGNITUDE
from dataset.sources.imagenet30 import find_test_list
from losses.components import AGNOSTIC_OBJECTIVES, DATA_STRATEGIES, OBJECTIVES, PERTURBATIONS
from losses.config.settings import MethodConfig
from losses.config.table import DEPENDENT_OPTIONS, OPTIONS, TRAINING_PARTS, takes_effect, used_by
from losses.methods import METHOD_OPTIONS, METHODS, default_for_dataset, default_options
from losses.schedules import warmup_epochs
from models import check_image_size, create_model
from models.initial_weights import check_weights
from models.stacked import check_stackable, model_has_batch_norm
from utils.options import validate_values
from utils.runtime import distributed

LEAST = 1.2e-38  # a positive float32; some devices round smaller ones to 0
# These options of objectives weigh distributions, so they need several distributions.
GROUP_OPTIONS = ("step_size", "worst_case", "group_loss", "group_adjustment", "rex_beta")


def check_method(settings, given):
    """Raise a `UserError` if a given option is not read, or if one option makes another useless.

    Args:
        settings (MethodConfig): the resolved settings.
        given (dict): the given options, to their values.
    """
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
    for option, value in {**vars(settings), **settings.options}.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if is_number and not (value == 0 or LEAST <= value <= FLOAT32_MAX):
            raise UserError(f"--{option} {value}: is no number of float32, in which networks are trained; give one "
                            f"from {LEAST} to {FLOAT32_MAX}")
    for option in ("num_sub_batches", "accumulate"):
        value = getattr(settings, option)
        if value is not None and (not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1):
            raise UserError(f"--{option} {value}: must be a whole number of 1 or more")
    if settings.amp is not None and settings.amp is not True:
        raise UserError(f"--amp {settings.amp}: must be true or false")
    if not settings.lr:
        raise UserError("--lr 0: trains nothing; give a number above 0")
    if "irm_anneal" in given and settings.options["irm_lambda"] == 1:
        raise UserError(f"--irm_anneal {given['irm_anneal']}: lambda is 1 before and after; leave it out, or give "
                        "--irm_lambda, too")
    if settings.warmup is not None:
        warmup_epochs(settings.warmup, 1)  # raises an error if the text is no length
    if settings.final_lr is not None and settings.final_lr > settings.lr:
        raise UserError(f"--final_lr {settings.final_lr}: is above --lr {settings.lr}, from which it falls; give less")
    if settings.crop_area is not None and settings.crop != "random_resized":
        raise UserError(f"--crop_area: needs --crop random_resized, and --crop is {settings.crop}; leave it out")
    if settings.crop_area is not None and settings.crop_area[0] > settings.crop_area[1]:
        raise UserError(f"--crop_area {' '.join(map(str, settings.crop_area))}: the first is above the second; swap "
                        "them")
    if settings.mixup == 1:
        raise UserError("--mixup 1: mixes nothing; give less, or leave it out")
    if settings.mixup is not None and settings.mixup < 0.5:
        raise UserError(f"--mixup {settings.mixup}: an image counts as of its own label and severity, so that its "
                        "share is at least 0.5; give that or more")
    for option in ("mixup", "label_smoothing"):
        if getattr(settings, option) is not None and settings.objective == "irm":
            raise UserError(f"--{option}: irm's penalty is of one label for each image; leave it out")
    if settings.label_smoothing == 0:
        raise UserError("--label_smoothing 0: smooths nothing; give more, or leave it out")
    if settings.accumulate is not None:
        check_accumulation(settings)
    if settings.rand_augment is not None and not (settings.rand_augment[0] >= 1 <= settings.rand_augment[1]
                                                  <= MAX_MAGNITUDE):
        raise UserError(f"--rand_augment {' '.join(map(str, settings.rand_augment))}: takes one operation or more, of "
                        f"strength 1 to {MAX_MAGNITUDE}; give such, or leave it out")
    if "weight_decay_on" in given and settings.weight_decay == 0:
        raise UserError(f"--weight_decay_on {settings.weight_decay_on}: there is no weight decay; leave it out, or "
                        "give --weight_decay")
    if "sync_bn" in given and settings.num_sub_batches == distributed.world_size() == 1:
        flag = "--sync_bn" if settings.sync_bn else "--no-sync_bn"
        raise UserError(f"{flag}: is about several sub-batches, and there is one; leave it out, or give "
                        "--num_sub_batches")
    if "stage_one" in given and "stage_one_epochs" in given:
        raise UserError("--stage_one_epochs: no first model is trained where --stage_one names one; leave one out")
    for option, (_, _, reason) in DEPENDENT_OPTIONS.items():
        if option in given and not takes_effect(option, settings.options):
            raise UserError(f"--{option}: {reason}")
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
        raise UserError(f"{flag}: is about the ascents of several workers, and there is one; leave it out")
    if "rho" not in PERTURBATIONS[perturbation].defaults:
        raise UserError(f"{flag}: is about ascents, and --perturbation {perturbation} is none; leave it out")
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
        raise UserError(f"--accumulate {settings.accumulate}: is for one worker, and there are {count}; leave it out, "
                        "or train with one")
    if settings.mixup is not None and (batch_size or 0) % (2 * count):
        raise UserError(f"--mixup: images are mixed in pairs, and -b {batch_size} is no multiple of {2 * count}; give "
                        "one")
    if count == 1:
        return
    if (batch_size or count) % count:
        raise UserError(f"-b {batch_size}: is the batch of all {count} workers, who do not divide it; give a multiple "
                        "of their number")
    if parts == 1 and "sigma" in PERTURBATIONS[settings.perturbation].defaults:
        raise UserError(f"--num_sub_batches 1: {count} workers have a noise each; give --num_sub_batches {count}, or "
                        "a multiple of that")
    if parts > 1 and parts % count:
        raise UserError(f"--num_sub_batches {parts}: cannot be shared by {count} workers; give a multiple of their "
                        "number, or train with as many workers as divide it")


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
    if "best_by" in given and not args.save_best:
        raise UserError(f"--best_by {given['best_by']}: needs --save_best; give that, too, or leave it out")
    late = [epoch for epoch in args.keep_epochs if epoch >= method.total_epoch]
    if late:
        raise UserError(f"--keep_epochs {late[0]}: the last epoch is {method.total_epoch - 1}; give none above that")


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
        raise UserError(f"{path}: has no {lacking[0]}; put back the file that it was, or begin another run")


def check_reweighter(every, batches, validation, split=None):
    """Check that a `ValidationReweighter` has images and moves the weights at least once.

    Args:
        every (int): number of batches from one move to the next.
        batches (int): number of batches of the whole run.
        validation (int): number of validation images.
        split (str or None): file that names the validation images.

    Raises:
        UserError: there are too few images, or the weights would never move.
    """
    if validation < 3:
        raise UserError(f"--group_loss validation: {validation} images are left for validation, and it takes 3 at "
                        f"least; give {'a --split that has more' if split else 'a smaller -n, or a --split'}")
    if every >= batches:
        raise UserError(f"--group_update_every {every}: the run has {batches} batches, so that the weights would never "
                        "move; give less, or more epochs")


# Cached, so that the runs of a comparison check the network called `model` once.
@functools.cache
def _check_copies(model, height, width):
    check_stackable(create_model(model, 2), height, width)


def check_fits_data(config, source, split):
    """Check that the options of a run go with its data, before the run begins.

    Args:
        config (RunConfig): settings of the run.
        source (ImageDataset): the clean images.
        split (Split): the training images of each severity, and the validation images.

    Raises:
        UserError: an option does not go with the data.
    """
    method, options = config.method, config.method.options
    images = len(split.indices)
    check_image_size(config.model, *source.image_size)
    if method.sync_bn:
        _check_copies(config.model, *source.image_size)
    has_begun = config.has_begun  # then it is too late to leave an option out
    if has_begun:
        source.check_run(config.stored, config.resume or "the run to be resumed", train=source.train_fingerprint)
    if method.batch_size > images:
        advice = " or more images" if config.num_per_class is None else ", a larger -n, or no -n"
        raise UserError(f"-b {method.batch_size}: the training set has only {images} images; give a smaller "
                        f"batch{advice}")
    batches = images // method.batch_size
    shortest = min(method.total_epoch, options.get("stage_one_epochs") or method.total_epoch)
    if method.warmup is not None and warmup_epochs(method.warmup, batches) >= shortest:
        raise UserError(f"--warmup {method.warmup}: is not shorter than a training of {shortest} epochs of {batches} "
                        "steps; give less, or more epochs")
    if config.save_best and len(split.validation) == 0:
        others = "--val_fraction 0.1" if split.is_clean and config.split is None else "a --split that has some"
        raise UserError(f"--save_best: no image is left for validation; leave it out, or give {others}")
    alone = f"only severity {split.nonempty_severities[0]} has training images"
    if len(split.nonempty_severities) == 1 and not DATA_STRATEGIES[method.data].replaces_groups and not has_begun:
        defaults = OBJECTIVES[method.objective].defaults
        for option in (option for option in GROUP_OPTIONS if option in defaults):
            value = options[option]
            if value not in (None, default_for_dataset(defaults[option], config.dataset)):
                raise UserError(f"--{option} {value}: {alone}, so that there are no distributions to weigh; leave it "
                                "out")
    steps = batches * method.total_epoch
    if options.get("irm_lambda") not in (None, 1) and options["irm_anneal"] >= steps and not has_begun:
        raise UserError(f"--irm_lambda {options['irm_lambda']}: acts after --irm_anneal {options['irm_anneal']} "
                        f"batches, and the run has {steps}; give a smaller --irm_anneal, or more epochs")
    if options.get("group_loss") == "validation" and not has_begun:
        check_reweighter(options["group_update_every"], steps, len(split.validation), config.split)
    if len(split.nonempty_severities) == 1 and method.sampling == "balanced":
        raise UserError(f"--sampling balanced: {alone}, and is all that is drawn; leave it out")
    if split.is_clean and options.get("aug_severity") == "rare":
        raise UserError(f"--aug_severity rare: {alone}, so that none of the others is rarer; give "
                        "--aug_severity uniform")
    if method.crop == "random_resized" and not (source.is_file_backed and split.is_clean):
        raise UserError("--crop random_resized: is for clean training images that are read from files; use --crop "
                        "zero_pad or reflect_pad")
    # A resumed run may not need the file that it began with.
    init_checkpoint = None if config.resume else config.init_checkpoint
    check_weights(config.model, source.classes, init_checkpoint, options.get("stage_one"))
    if split.filelist_dir is not None:  # the run will write them
        require_writable_folder("--filelist_dir", split.filelist_dir)
