"""The resolution of a command line, a `config.json` or keyword arguments to a complete `RunConfig`."""
import os
from dataclasses import fields, replace

from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash, require_writable_folder
from losses.components import DATA_STRATEGIES
from losses.config.checks import check_ascents, check_batches, check_method, check_options, check_saved, check_value
from losses.config.recipes import RECIPES
from losses.config.settings import MethodConfig, RunConfig
from losses.config.table import EXTRA_TRAINING_OPTIONS, METHOD_ARGUMENTS, TRAINING_PARTS, chosen_name
from losses.methods import METHODS, default_for_dataset, default_options
from models.stacked import model_has_batch_norm
from models.zoo import weight_path
from utils.options import with_new_names
from utils.records.settings import NEWEST, newest_run, resumed_settings
from utils.runtime import distributed

# With both terms of SharpDRO over Q (Eq. 10, 12), their sum is the Q-weighted loss at the perturbed weights.
WHOLLY_WEIGHTED = {"sharpdro": "group_dro", "sharpdro_agnostic": "ood_weighted"}


# Values that switch off what a recipe has.
SWITCHED_OFF = {"mixup": lambda value: value == 1, "rand_augment": lambda value: value[0] == 0}


def resolve(method="sharpdro", dataset="cifar10", sync_perturbation=None, **given):
    """Fill in the options that are not given from the tables.

    Args:
        method (str): a key of `METHODS`.
        dataset (str): name of the data set, on which some defaults depend.
        sync_perturbation (bool or None): whether several workers have one ascent in common; if false, each worker has
            sub-batches of its own.
        given: options of `METHOD_ARGUMENTS`, to their values.

    Returns:
        MethodConfig

    Raises:
        UserError: an option or a name is unknown, options exclude each other, or an option has no effect.
    """
    given = with_new_names(given)
    for option, value in {"method": method, **given}.items():
        if option != "method" and option not in METHOD_ARGUMENTS:
            raise UserError(f"{option}: unknown; choose from method, {', '.join(METHOD_ARGUMENTS)}")
        check_value(option, value)
    row = METHODS[method]
    objective, perturbation = _resolve_components(given.get("objective", row.objective),
                                                  given.get("perturbation", row.perturbation), given)
    recipe = given.get("recipe", row.recipe)
    method_defaults = RECIPES[recipe].methods.get(method, {})
    values = _resolve_training(recipe, method_defaults, dataset, given)
    _adapt_to_workers(values, given, perturbation, sync_perturbation)
    _adapt_to_each_other(values, given, row, recipe, objective)
    defaults = default_options(method, objective, perturbation)
    if perturbation == row.perturbation:
        defaults.update({option: value for option, value in method_defaults.items()
                         if option in defaults})
    options = {option: given.get(option, default_for_dataset(value, dataset)) for option, value in defaults.items()}
    if DATA_STRATEGIES[row.data].stage_one and options["stage_one"] is None and options["stage_one_epochs"] is None:
        options["stage_one_epochs"] = max(1, values["total_epoch"] // 10)
    settings = MethodConfig(method, objective, perturbation, recipe, options=options, **values)
    check_method(settings, given)
    return settings


def _resolve_training(recipe, method_defaults, dataset, given):
    """Return the training settings, a dict.

    A given value comes first, then the recipe's value for the method (`method_defaults`), then the recipe's value for
    all methods. An optimizer or a schedule that replaces the recipe's has its own defaults. Options that optimizer and
    schedule do not read are None.
    """
    training = RECIPES[recipe].training
    values = {**dict.fromkeys(EXTRA_TRAINING_OPTIONS), **{option: default_for_dataset(value, dataset)
                                                        for option, value in training.items()}}
    values.update({option: value for option, value in method_defaults.items() if option in values})
    for part, table in TRAINING_PARTS.items():
        name = chosen_name(part, given, recipe)
        defaults = table[name].defaults
        values = {**defaults, **values} if name == training[part] else {**values, **defaults}
        values.update({option: None for row in table.values() for option in row.defaults if option not in defaults})
    values.update({option: value for option, value in given.items() if option in values}, sampling=given.get(
        "sampling", "uniform"))
    return values


def _adapt_to_workers(values, given, perturbation, sync_perturbation):
    """Set the number of sub-batches that the workers share, and whether BatchNorm is synchronised, in `values`.

    Raises:
        UserError: `sync_perturbation` has no effect.
    """
    if perturbation == "none" and "num_sub_batches" not in given:
        values["num_sub_batches"] = 1
    if values["num_sub_batches"] == 1 and distributed.world_size() == 1 and "sync_bn" not in given:
        values["sync_bn"] = False
    if sync_perturbation is not None:
        check_ascents(sync_perturbation, perturbation, values["num_sub_batches"])
        if not sync_perturbation:
            values["num_sub_batches"] = distributed.world_size()


def _adapt_to_each_other(values, given, row, recipe, objective):
    """Change training settings in `values` that were not given, where other settings exclude them or switch them off.

    Args:
        values (dict): training settings, as `_resolve_training` returns them.
        given (dict): options that were given.
        row (Method): the method's row of `METHODS`.
        recipe, objective (str): names of the recipe and of the objective.

    Raises:
        UserError: two given options exclude each other.
    """
    if values["nesterov"] and values["momentum"] == 0:
        if "nesterov" in given:
            raise UserError("--nesterov: is a form of momentum, and --momentum is 0; leave one of them out")
        values["nesterov"] = False
    if "crop" not in given and values["crop"] == "random_resized" and values["train_on"] != "clean":
        values["crop"] = "none"  # corrupted images are cropped before they are corrupted
    if objective == "irm":  # its penalty is of one label for each image
        values.update({option: None for option in ("mixup", "label_smoothing") if option not in given})
    for option, is_off in SWITCHED_OFF.items():
        if option in given and RECIPES[recipe].training.get(option) is not None and is_off(given[option]):
            values[option] = None
    if values["accumulate"] == 1:
        values["accumulate"] = None
    if values["amp"] is False:
        values["amp"] = None
    if "crop_area" not in given and values["crop"] != "random_resized":
        values["crop_area"] = None
    if "sampler" not in given and (values["sampling"] == "balanced" or DATA_STRATEGIES[row.data].oversamples):
        values["sampler"] = "replacement"


def _resolve_components(objective, perturbation, given):
    """Replace an objective and a perturbation by the variants that the given options name."""
    agnostic, risk = given.get("distribution_agnostic", False), given.get("risk", "mean")
    if given.get("is_adaptive", False):
        if perturbation not in ("l2", "adaptive"):
            raise UserError(f"--is_adaptive: scales an l2 ascent, not {perturbation}; use --perturbation l2")
        perturbation = "adaptive"
    if (agnostic or "risk" in given) and objective not in WHOLLY_WEIGHTED:
        flag = "--distribution_agnostic" if agnostic else f"--risk {risk}"
        raise UserError(f"{flag}: belongs to sharpdro, not to {objective}; use --method sharpdro")
    if agnostic:
        objective = "sharpdro_agnostic"
    return WHOLLY_WEIGHTED[objective] if risk == "worst_case" else objective, perturbation


def resolve_config(args, given):
    """Return the settings that a command line describes.

    Args:
        args (argparse.Namespace): all options.
        given (dict): the options that the command line names, to their values.

    Returns:
        RunConfig

    Raises:
        UserError: as in `resolve`, or options exclude each other.
    """
    chosen = {name: given[name] for name in given if name in METHOD_ARGUMENTS}
    if "augment_data" in given and chosen.setdefault("crop", "reflect_pad") != "reflect_pad":
        raise UserError(f"--augment_data: means --crop reflect_pad, and --crop is {chosen['crop']}; leave out one of "
                        "them")
    if args.split is not None and "train_on" in given:
        raise UserError(f"--train_on {given['train_on']}: the table {args.split} lists the training images and their "
                        "severities; leave out --train_on, or --split")
    method = resolve(args.method, args.dataset, args.sync_perturbation, **chosen)
    if args.split is not None and "crop" not in given and method.crop == "random_resized":
        if "crop_area" in given:
            raise UserError("--crop_area: needs --crop random_resized, which is off for the images of --split; "
                            "leave it out")
        # The table may have corrupted images, which are cropped before.
        method = replace(method, crop="none", crop_area=None)
    check_options(method, args, given)
    if method.sync_bn and not model_has_batch_norm(args.model):
        method = replace(method, sync_bn=False)
    paths = {"init_sha256": weight_path(args.init_checkpoint), "stage_one_sha256": args.stage_one,
             "split_sha256": args.split}
    # A missing file has no hash here, because the code that reads it raises the error.
    hashes = {name: file_hash(path) if path is not None and os.path.isfile(path) else None
              for name, path in paths.items()}
    names = {field.name for field in fields(RunConfig)} & vars(args).keys() - {"method"}
    return RunConfig(method, **hashes, **{name: getattr(args, name) for name in names})


def require_folders(args):
    """Check that the folders for the results of runs are writable, with `require_writable_folder`."""
    require_writable_folder("--log_dir", args.log_dir)
    if args.compile_cache is not None:
        require_writable_folder("--compile_cache", args.compile_cache)


def load_or_resolve_config(args, given):
    """Return the settings of a run, which is new or resumed; arguments and errors as in `resolve_config`.

    Raises:
        UserError: as in `resolve_config`; or there is no run to resume, or it has other settings; or the workers that
            train together cannot share its batches.
    """
    if args.resume in (None, NEWEST):
        config = resolve_config(args, given)
        require_folders(args)
    defaults, folder = vars(args), args.resume
    if folder == NEWEST:
        defaults = {**defaults, **config.to_dict()}
        folder = newest_run(args.log_dir, defaults, given)
        given = {**given, "resume": folder}
    if folder is not None:
        config = resume_config(folder, defaults, given)
        check_batches(config.method, config.compile_cache)
    return config


def resume_config(folder, defaults, given):
    """Return the settings of a run that has begun; arguments and errors as in `resumed_settings`."""
    return RunConfig.from_dict(resumed_settings(folder, defaults, given, check_saved))
