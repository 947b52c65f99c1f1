"""Checks that the options of a run go with its images and its network."""
import functools
import os

from corruptions.utils.errors import UserError
from corruptions.utils.files import require_writable_folder
from dataset.sources.base import per_channel
from dataset.splits import read_split
from losses.components import DATA_STRATEGIES, OBJECTIVES
from losses.methods import default_for_dataset
from losses.schedules import warmup_epochs
from models import check_image_size, create_model
from models.initial_weights import check_weights
from models.stacked import check_stackable
from utils.records.settings import read_settings
from utils.runtime import distributed

# These options of objectives weigh distributions, so they need several distributions.
GROUP_OPTIONS = ("step_size", "worst_case", "group_loss", "group_adjustment", "rex_beta")


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
        raise UserError(f"--group_loss validation: {validation} images are left for validation, and 3 are "
                        f"needed; give {'a --split that has more' if split else 'a smaller -n, or a --split'}")
    if every >= batches:
        raise UserError(f"--group_update_every {every}: the run has {batches} batches, so that the weights would never "
                        "move; give less, or more epochs")


# Cached, so that the runs of a comparison check the network called `model` once.
@functools.cache
def _check_copies(model, height, width):
    check_stackable(create_model(model, 2), height, width)


def check_first_model(path, given, source, split):
    """Check that the run of a first model trained on the same images, equally corrupted, if the run is known.

    Args:
        path (str): the checkpoint, in the folder of its run, or in `stage_one` of the folder.
        given (dict): `corruption`, `mean` and `std` of the run that takes the model; None for the data set's own
            normalisation.
        source (ImageDataset), split (Split): as in `check_fits_data`.

    Raises:
        UserError: the images, their corruption, their normalisation or the split differ.
    """
    above = os.path.dirname(os.path.abspath(path))
    for folder in (above, os.path.dirname(above)):
        settings = read_settings(folder)
        if settings:
            break
    else:
        return
    if not split.is_clean and settings.get("corruption", given["corruption"]) != given["corruption"]:
        raise UserError(f"--stage_one {path}: trained with another --corruption, {settings['corruption']}; give the "
                        "same")
    table = os.path.join(folder, "split.csv")
    for option in ("mean", "std"):
        before, now = (values and per_channel(option, values) for values in (settings.get(option), given[option]))
        if before != now:
            words = "its data set's own" if before is None else " ".join(map(str, before))
            raise UserError(f"--stage_one {path}: trained with another --{option}, {words}; give the same")
    try:
        source.check_run(settings, folder, train=source.train_fingerprint)
        trained = read_split(table, source.labels["train"], len(split.train)) if os.path.exists(table) else split
    except UserError as error:
        raise UserError(f"--stage_one {path}: {error}") from error
    if any(set(first) != set(now) for first, now in zip(trained.train, split.train, strict=True)):
        raise UserError(f"--stage_one {path}: trained on other images or severities; give the --seed and the options "
                        f"of {folder}, or --split {table}")


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
    has_copies = method.perturbation != "none" and method.num_sub_batches > distributed.world_size()
    if method.sync_bn and has_copies:
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
                raise UserError(f"--{option} {value}: {alone}, so there are no distributions to weight; leave it out")
    steps = batches * method.total_epoch
    if options.get("irm_lambda") not in (None, 1) and options["irm_anneal"] >= steps and not has_begun:
        raise UserError(f"--irm_lambda {options['irm_lambda']}: acts after --irm_anneal {options['irm_anneal']} "
                        f"batches, and the run has {steps}; give a smaller --irm_anneal, or more epochs")
    if options.get("group_loss") == "validation" and not has_begun:
        check_reweighter(options["group_update_every"], steps, len(split.validation), config.split)
    if len(split.nonempty_severities) == 1 and method.sampling == "balanced":
        raise UserError(f"--sampling balanced: {alone}, so no severity is drawn more often; leave it out")
    if split.is_clean and options.get("aug_severity") == "rare":
        raise UserError(f"--aug_severity rare: {alone}, so no severity is rarer; give "
                        "--aug_severity uniform")
    if method.crop == "random_resized" and not (source.is_file_backed and split.is_clean):
        raise UserError("--crop random_resized: needs clean training images that are read from files; use --crop "
                        "zero_pad or reflect_pad")
    # A resumed run may not need the file that it began with.
    init_checkpoint = None if config.resume else config.init_checkpoint
    check_weights(config.model, source.classes, init_checkpoint, options.get("stage_one"))
    if options.get("stage_one") is not None and not has_begun:
        given = {option: getattr(config, option) for option in ("corruption", "mean", "std")}
        check_first_model(options["stage_one"], given, source, split)
    if split.filelist_dir is not None:  # the run will write them
        require_writable_folder("--filelist_dir", split.filelist_dir)
