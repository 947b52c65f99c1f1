"""The options that choose a method and how it is trained; their help and their defaults come from the tables."""
import argparse
import functools
import os
from dataclasses import fields, replace

from corruptions import ALIASES, CORRUPTIONS, SETS
from dataset.poisson import TRAIN_ON
from dataset.sources.imagenet30 import find_test_list
from losses.config.recipes import RECIPES, format_value, recipes_list
from losses.config.settings import CHOICES, OPTIONS, TRAINING_PARTS, MethodConfig, check_workers, resolve
from losses.evaluation.probes import IMAGES, RHO
from losses.methods import (
    CROPS,
    DATA_STRATEGIES,
    METHODS,
    OBJECTIVES,
    OPTIMIZERS,
    PERTURBATIONS,
    SAMPLERS,
    SAMPLINGS,
    WEIGHT_DECAY_FILTERS,
    default_for_dataset,
    methods_list,
)
from losses.schedules import SCHEDULES, warmup_epochs
from losses.training.run import check_weights
from losses.training.validation_weights import VALIDATION_BATCH, check_reweighter
from models import check_image_size, create_model
from models.stacked import check_stackable, model_has_batch_norm
from utils import cli
from utils.errors import UserError
from utils.files import file_hash, require_writable_folder
from utils.records.settings import NEWEST, newest_run, resumed_settings

# Options of objectives that weigh distributions, of which there have to be some.
GROUP_OPTIONS = ("step_size", "worst_case", "group_loss", "group_adjustment", "rex_beta")

_UNUSED = "the release reads it and does nothing with it; "
# What the release's main.py takes and this does not: what it is there, and what does it here.
OF_THE_RELEASE = {
    "--severity": "the release puts it into the names of its files alone; leave it out, or name the run with --desc. "
                  "--num_severity says how many severities there are",
    "--proportion": _UNUSED + "leave it out. --split FILE gives every training image its severity",
    "--shift": _UNUSED + "leave it out. --train_on says whether training images are corrupted",
    "--num_test": _UNUSED + "leave it out. All test images are evaluated",
    "--is_worst": _UNUSED + "leave it out. --worst_case says how the worst distribution is found",
    "--is_pretrain": _UNUSED + "leave it out. --init_checkpoint FILE starts from weights",
    "--warmup_epoch": _UNUSED + "leave it out. --schedule cosine --warmup LENGTH is a warm-up",
    "--scheduler": _UNUSED + "leave it out. --schedule NAME says how the learning rate falls",
    "--num_classes": "the release takes the data set's number in its place, and so does this; leave it out",
    "--log_eval": "the release writes down every N-th batch of an evaluation; leave it out. Here it is of all images, "
                  "and --eval_every N says after which epochs there is one",
}
OF_THE_RELEASE.update({"-s": OF_THE_RELEASE["--severity"], "-p": OF_THE_RELEASE["--proportion"]})


class RunParser(cli.Parser):
    """The parser of `main.py`: where it meets an option of the release that is not here, it says what to do instead."""

    def parse_known_args(self, args=None, namespace=None):
        known, unknown = super().parse_known_args(args, namespace)
        for word in unknown:
            flag = word.partition("=")[0] if word.startswith("--") else word[:2]
            if flag in OF_THE_RELEASE:
                self.error(f"{flag}: {OF_THE_RELEASE[flag]}")
        return known, unknown


def _named(group, flag, table, help, default=None):
    """Add an option that takes names out of a table, which is a dict or a sequence."""
    group.add_argument(flag, choices=list(table), metavar="NAME", action=cli.StoreOneOrMany, default=default, help=help)


def _choices(group, flag, table, about, **more):
    """Add an option that takes names out of a table; `about` says what they are."""
    _named(group, flag, table, f"{', '.join(table)}: {about}", **more)


def _add_documented_choice(group, flag, table, end="", about="", **more):
    """Add an option that takes names out of a table, with what each of them is between `about` and `end`."""
    _named(group, flag, table, about + cli.listing(table) + end, **more)


def _number_adder(group):
    """A function that adds an option with one value or several, and the end of its help."""
    def add(*flags, kind, help, **more):
        group.add_argument(*flags, type=kind, default=None, action=cli.StoreOneOrMany, help=help, **more)
    return add


def _part_defaults(option):
    """The default of an option of methods, as text, with where it applies if there are several."""
    found = {name: part.defaults[option] for table in (OBJECTIVES, PERTURBATIONS)
             for name, part in table.items() if option in part.defaults}
    # A treatment of the data has no option that chooses it, so the methods are named that have it.
    found.update({name: DATA_STRATEGIES[row.data].defaults[option] for name, row in METHODS.items()
                  if option in DATA_STRATEGIES[row.data].defaults})
    found.update({name: row.own_defaults[option] for name, row in METHODS.items() if option in row.own_defaults})
    if len(set(map(str, found.values()))) == 1:
        return f" (default: {next(iter(found.values()))})"
    texts = []
    for name, value in found.items():
        values = value if isinstance(value, dict) else {"": value}
        texts += [f"{number} for {name}{dataset and ' on ' + dataset}" for dataset, number in values.items()]
    return f" (default: {', '.join(texts)})"


def _recipe_defaults(option):
    """The default of an option of the training, as text: of the two general recipes, and of what takes the place of a
    recipe's optimizer or schedule.
    """
    values = {name: format_value(recipe.training[option]) for name, recipe in RECIPES.items()
              if not recipe.setting and option in recipe.training}
    texts = [f"{value} of recipe {name}" for name, value in values.items()]
    if len(set(values.values())) == 1:
        texts = [next(iter(values.values()))]
    for part, table in TRAINING_PARTS.items():
        rows = {name: format_value(row.defaults[option]) for name, row in table.items() if option in row.defaults}
        if len(rows) == 1 and not values:  # the option's help says of which row it is
            return f" (default: {next(iter(rows.values()))})"
        texts += [f"{value} with --{part} {name}" for name, value in rows.items() if value not in values.values()]
    return f" (default: {', '.join(texts)})"


def add_method_arguments(parser):
    """The options that choose a method, and those that only some methods read."""
    group = parser.add_argument_group("method", "A method is an objective x a perturbation of the weights, some on "
                                      "data that are treated first. An option that it does not read is refused.")
    group.add_argument("--method", type=cli.or_list(methods_list), choices=list(METHODS), default="sharpdro",
                       metavar="NAME", action=cli.StoreOneOrMany,
                       help=f"{', '.join(METHODS)}; list explains them and their parts")
    _choices(group, "--objective", OBJECTIVES, "what is minimised, instead of the method's")
    _choices(group, "--perturbation", PERTURBATIONS, "where the gradient is taken, instead of the method's")
    _add_documented_choice(group, "--sampling", SAMPLINGS, default="uniform")
    group.add_argument("--distribution_agnostic", action="store_true", help="the release's name for --method "
                                                                            "sharpdro_agnostic")
    group.add_argument("--is_adaptive", action="store_true", help="scale the l2 ascent by the weights, as the release")

    group = parser.add_argument_group("options of some methods")
    add = _number_adder(group)
    add("--rho", kind=cli.non_negative_float, help="length of an ascent" + _part_defaults("rho"))
    add("--sigma", kind=cli.non_negative_float, help="standard deviation of a noise" + _part_defaults("sigma"))
    _choices(group, "--risk", CHOICES["risk"], "sharpdro: first term, the mean loss (the release), or weighted like "
             "the second (the paper)", default="mean")
    _choices(group, "--worst_case", CHOICES["worst_case"], "the worst distribution: weights that move toward large "
             "losses (the release), or the one with the largest loss (the paper's Algorithm 1)" +
             _part_defaults("worst_case"))
    _choices(group, "--ood_weights", CHOICES["ood_weights"], "sharpdro_agnostic: lost confidence scaled to 0..1 in "
             "every batch, then divided by its mean, or only divided (the paper's Eq. 12)" +
             _part_defaults("ood_weights"))
    add("--step_size", kind=cli.non_negative_float,
        help="step of the weights over distributions toward large losses" + _part_defaults("step_size"))
    _choices(group, "--group_loss", CHOICES["group_loss"], "loss that moves the weight of a distribution: that of the "
             "batch, 0 where it is absent (the release); or what it was when last seen; or that of validation images, "
             "a third of which is kept for choosing models" + _part_defaults("group_loss"))
    add("--group_every", kind=cli.positive_int, metavar="N",
        help=f"--group_loss validation: batches from one look at {VALIDATION_BATCH} images of each severity to the "
             "next" + _part_defaults("group_every"))
    add("--group_adjustment", kind=cli.non_negative_float, metavar="C",
        help="add C over the square root of its number of training images to the loss of a distribution, for its "
             "weight" + _part_defaults("group_adjustment"))
    add("--irm_lambda", kind=cli.non_negative_float,
        help="weight of irm's penalty; above 1 all is divided by it" + _part_defaults("irm_lambda"))
    add("--irm_anneal", kind=cli.non_negative_int, metavar="N",
        help="batches in which irm's penalty has weight 1 before --irm_lambda" + _part_defaults("irm_anneal"))
    add("--rex_beta", kind=cli.non_negative_float,
        help="weight of rex's variance; above 1 all is divided by it" + _part_defaults("rex_beta"))
    add("--stage_one_epochs", kind=cli.positive_int, metavar="T",
        help="jtt, eiil: epochs of the first model (default: a tenth of --total_epoch, so that it still makes errors)")
    add("--stage_one", kind=cli.existing_file, metavar="FILE",
        help="jtt, eiil: checkpoint to use as the first model, of the same network, data and seed; an earlier run has "
             "it in stage_one/last_model.ckpt")
    add("--jtt_lambda", kind=cli.positive_int, metavar="N",
        help="jtt: how many times as often an image of the error set is drawn" + _part_defaults("jtt_lambda"))
    group.add_argument("--aug_corruption", type=cli.names(CORRUPTIONS, SETS, aliases=ALIASES), metavar="NAME",
                       default=None, action=cli.StoreOneOrMany,
                       help="corrupt_aug, rare_aug: corruption of half of a batch (default: that of -c)")
    _choices(group, "--aug_severity", CHOICES["aug_severity"], "severities of corrupt_aug: equally often, or the "
             "rarer in training, the more often" + _part_defaults("aug_severity"))


def add_training_arguments(parser):
    """The options whose defaults the recipe gives."""
    group = parser.add_argument_group("training", "Defaults are those of the recipe.")
    users = {recipe: [name for name, method in METHODS.items() if method.recipe == recipe] for recipe in RECIPES}
    group.add_argument("--recipe", type=cli.or_list(recipes_list), choices=list(RECIPES), default=None, metavar="NAME",
                       help="settings of a published experiment, which any option overrides; those with a / set data "
                            f"set and network, too (in a --variant they do not): {', '.join(RECIPES)}; list shows "
                            "what they set and the published numbers (default: " +
                            "; ".join(f"{recipe} for {', '.join(names)}" for recipe, names in users.items() if names)
                            + "; a comparison takes sharpdro for all)")
    add = _number_adder(group)
    add("--total_epoch", kind=cli.positive_int, metavar="N", help="epochs" + _recipe_defaults("total_epoch"))
    add("-b", "--batch_size", kind=cli.positive_int, metavar="N",
        help="training images in a batch, of all workers together" + _recipe_defaults("batch_size"))
    add("--lr", kind=cli.positive_float, help="learning rate, the highest of the schedule" + _recipe_defaults("lr"))
    _add_documented_choice(group, "--schedule", SCHEDULES, _recipe_defaults("schedule"))
    add("--warmup", kind=str, metavar="LENGTH",
        help="cosine: epochs or steps in which the learning rate first rises from a thousandth of --lr, such as "
             "5epochs or 10000steps" + _recipe_defaults("warmup"))
    add("--final_lr", kind=cli.non_negative_float, help="cosine: learning rate at the end" +
        _recipe_defaults("final_lr"))
    _add_documented_choice(group, "--optimizer", OPTIMIZERS, _recipe_defaults("optimizer"))
    add("--momentum", kind=cli.fraction, help="of sgd" + _recipe_defaults("momentum"))
    group.add_argument("--nesterov", action=argparse.BooleanOptionalAction, default=None,
                       help="Nesterov's momentum, of sgd" + _recipe_defaults("nesterov"))
    add("--clip_norm", kind=cli.non_negative_float, metavar="C",
        help="scale the gradient of a batch, before weight decay, down to this norm where it is longer; 0 leaves it" +
             _recipe_defaults("clip_norm"))
    add("--weight_decay", kind=cli.non_negative_float, help="l2 penalty on weights" + _recipe_defaults("weight_decay"))
    _add_documented_choice(group, "--decay", WEIGHT_DECAY_FILTERS, _recipe_defaults("decay"),
                           "what weight decay is for. ")
    add("--num_sub_batches", kind=cli.positive_int, metavar="M",
        help="parts of a batch, each with its own perturbation; 1 where there is none" +
             _recipe_defaults("num_sub_batches"))
    group.add_argument("--sync_perturbation", action=argparse.BooleanOptionalAction, default=None,
                       help="several workers of msrun climb along the gradient of the whole batch (default), or each "
                            "along that of its own part, as with as many --num_sub_batches")
    group.add_argument("--sync_bn", action=argparse.BooleanOptionalAction, default=None,
                       help="BatchNorm's statistics are those of all sub-batches together, each seen through its own "
                            "weights, and of all workers" + _recipe_defaults("sync_bn"))
    _add_documented_choice(group, "--train_on", TRAIN_ON, _recipe_defaults("train_on"))
    _add_documented_choice(group, "--draw", SAMPLERS, _recipe_defaults("draw"))
    _add_documented_choice(group, "--crop", CROPS, _recipe_defaults("crop"),
                           "training images are flipped, and cropped. ")
    group.add_argument("--augment_data", action="store_true", help="the release's name for --crop mirror")


def add_run_arguments(parser):
    """The options that say how a run is evaluated and what it leaves."""
    group = parser.add_argument_group("run and records", "utils/README.md lists the files that a run leaves.")
    add = group.add_argument
    add("--log_dir", default="./logs", metavar="DIR", help="folder for the folders of runs")
    add("--desc", default="none", help="first part of the name of the run's folder")
    add("--resume", metavar="FOLDER", nargs="?", const=NEWEST, default=None,
        help="go on with the run in FOLDER from its newest checkpoint, with its own settings, or, without FOLDER, with "
             "the newest run of these settings in --log_dir; a larger --total_epoch makes it longer")
    add("--init_checkpoint", type=cli.existing_file, metavar="FILE", default=None,
        help="start from the weights in FILE: a .ckpt, or of PyTorch a state_dict in a .pth or .safetensors; a "
             "classifier for other classes starts afresh. The first model of jtt and eiil starts from them, too")
    add("--eval_every", type=cli.positive_int, default=1, metavar="N",
        help="evaluate after every N-th epoch, and after the last")
    add("--eval_batch_size", type=cli.positive_int, default=128, metavar="N", help="images in a batch of an evaluation")
    add("--log_train", type=cli.positive_int, default=100, metavar="N",
        help="write a row of train.csv at every N-th batch of an epoch, and at its last")
    add("--log_sharpness", type=cli.positive_int, default=None, metavar="N",
        help=f"after every N-th epoch and the last, measure how much the loss of {IMAGES} test images of each severity "
             f"rises within {RHO} of the weights")
    add("--record_norm", action="store_true",
        help="measure the norm of the loss's gradient at each severity (gradnorm_k), which makes evaluations take four "
             "times as long")
    add("--tensorboard", action="store_true", help="write TensorBoard's format, too, into the run's folder tensorboard")
    add("--keep", type=cli.positive_int, default=2, metavar="N",
        help="there is a checkpoint after every epoch; keep the N newest, from which --resume goes on")
    add("--save_every_steps", type=cli.positive_int, default=None, metavar="N",
        help="a checkpoint at every N-th batch of an epoch, too")
    add("--save_step", type=cli.positive_int, default=50, metavar="N",
        help="keep the checkpoints of after the first epoch and every N-th after it, too")
    add("--keep_epochs", type=cli.non_negative_int, nargs="+", default=[], metavar="N",
        help="keep those of after these epochs, too, counted from 0")
    add("--save_last", action="store_true", help="keep the newest one as last_model.ckpt, too")
    add("--save_best", action="store_true",
        help="keep the one with the best mean validation accuracy over severities as best_model.ckpt, too")
    add("--compile_cache", type=os.path.abspath, default=None, metavar="DIR",
        help="keep the compiled step in DIR, so that the next run with the same settings starts sooner")


def apply_recipe(args, given):
    """Take the data set and the network of the recipe that the command line names, where it names none itself.

    Args:
        args (argparse.Namespace): all options.
        given (dict): those that the command line names, to their values; gets what the recipe names.
    """
    if args.recipe is not None and args.resume in (None, NEWEST):  # a run that is named has its own
        for option, value in RECIPES[args.recipe].setting.items():
            vars(args)[option] = given.setdefault(option, value)


def require_folders(args):
    """Make sure that what runs leave can be written, as `utils.files.require_writable_folder` does."""
    require_writable_folder("--log_dir", args.log_dir)
    if args.compile_cache is not None:
        require_writable_folder("--compile_cache", args.compile_cache)


def resolve_arguments(args, given):
    """The `MethodConfig` that a command line asks for; their values take the place of its defaults in `args`.

    Args:
        args (argparse.Namespace): of a parser with both groups of arguments above, and dataset.
        given (dict): the options that the command line names, to their values.

    Raises:
        UserError: as `resolve`, or the sub-batches do not divide the batch, or options exclude each other.
    """
    chosen = {name: given[name] for name in given if name in OPTIONS}
    if "augment_data" in given and chosen.setdefault("crop", "mirror") != "mirror":
        raise UserError(f"--augment_data: means --crop mirror, and --crop is {chosen['crop']}; leave out one of them")
    if args.split is not None and "train_on" in given:
        raise UserError(f"--train_on {given['train_on']}: the table {args.split} says which images are trained on at "
                        "which severity; leave out --train_on, or --split")
    settings = resolve(args.method, args.dataset, args.sync_perturbation, **chosen)
    if "filelist_dir" in given and (args.split is not None or settings.train_on == "clean"):
        other = "--split" if args.split is not None else "--train_on clean"
        if find_test_list(given["filelist_dir"]) is None:
            raise UserError(f"--filelist_dir {given['filelist_dir']}: has no list of test images, and {other} reads no "
                            "other; leave it out")
    if args.split is not None and "crop" not in given and settings.crop == "resized":
        settings = replace(settings, crop="none")  # the table may have corrupted images, which are cropped before
    if settings.batch_size % settings.num_sub_batches:
        raise UserError(f"--num_sub_batches {settings.num_sub_batches}: does not divide -b {settings.batch_size}; "
                        "give a divisor of the batch size")
    if settings.sync_bn and not model_has_batch_norm(args.model):
        if "sync_bn" in given:
            raise UserError(f"--sync_bn: {args.model} has no BatchNorm; leave it out")
        settings = replace(settings, sync_bn=False)
    late = [epoch for epoch in args.keep_epochs if epoch >= settings.total_epoch]
    if late:
        raise UserError(f"--keep_epochs {late[0]}: the last epoch is {settings.total_epoch - 1}; give none above that")
    vars(args).update(settings.flat())
    args.init_sha256, args.stage_one_sha256, args.split_sha256 = (
        file_hash(path) if path is not None and os.path.isfile(path) else None
        for path in (args.init_checkpoint, args.stage_one, args.split))  # one that is missing is named where it is read
    return settings


def load_or_resolve_config(args, given, check=None):
    """The values of all options of a run, which is new or goes on.

    Args:
        args (argparse.Namespace), given (dict): as in `resolve_arguments`; the folder of a run that goes on is added.
        check (callable or None): as in `resumed_settings`.

    Returns:
        argparse.Namespace

    Raises:
        UserError: as `resolve_arguments`; there is no such run, or it has other settings; or the workers that train
            together cannot share its batches.
    """
    if args.resume in (None, NEWEST):
        resolve_arguments(args, given)
        require_folders(args)
    if args.resume == NEWEST:
        args.resume = given["resume"] = newest_run(args.log_dir, vars(args), given)
    if args.resume is not None:
        args = argparse.Namespace(**resumed_settings(args.resume, vars(args), given, check))
    check_workers(MethodConfig.of(vars(args)), args.batch_size)
    return args


def validate_saved_config(parser, values, path):
    """Make sure that the settings of an earlier run are such as options give them.

    Args:
        parser (argparse.ArgumentParser): of the options.
        values (dict): the settings; of what the run did not know yet, the defaults.
        path (str): their file, for the error.

    Raises:
        UserError: they are not, which damage or an editor has made so.
    """
    cli.validate_values(parser, values, path)
    cli.require_known(f"{path}: corruption", values["corruption"], CORRUPTIONS, SETS)
    needed = [field.name for field in fields(MethodConfig) if "None" not in str(field.type) and field.name != "options"]
    lacking = [option for option in needed if values.get(option) is None]
    if not lacking:
        lacking = [option for part, table in TRAINING_PARTS.items() for option in table[values[part]].defaults
                   if values.get(option) is None]
    if lacking:
        raise UserError(f"{path}: has no {lacking[0]}; put back the file that it was, or begin another run")


# Of the network called `model`, once for all runs of a comparison.
@functools.cache
def _check_copies(model, height, width):
    check_stackable(create_model(model, 2), height, width)


def check_config_fits_data(args, data):
    """Make sure that the options of a run go with its data, before it begins.

    Args:
        args (argparse.Namespace): as `resolve_arguments` leaves it.
        data (dataset.data.ExperimentData): of the run.

    Raises:
        UserError: they do not.
    """
    split, images = data.split, len(data.split.indices)
    check_image_size(args.model, *data.source.image_size)
    if args.sync_bn:
        _check_copies(args.model, *data.source.image_size)
    has_begun = getattr(args, "classes", None) is not None  # then it is too late to leave something out
    if has_begun:
        data.source.check_run(vars(args), args.resume or "the run that is to go on", **data.fingerprints)
    if args.batch_size > images:
        more = " or more images" if getattr(args, "num_per_class", None) is None else ", a larger -n, or no -n"
        raise UserError(f"-b {args.batch_size}: the training set has only {images} images; give a smaller batch{more}")
    batches = images // args.batch_size
    shortest = min(args.total_epoch, args.stage_one_epochs or args.total_epoch)
    if args.warmup is not None and warmup_epochs(args.warmup, batches) >= shortest:
        raise UserError(f"--warmup {args.warmup}: is not shorter than a training of {shortest} epochs of {batches} "
                        "steps; give less, or more epochs")
    if args.save_best and len(split.validation) == 0:
        raise UserError("--save_best: no image is left for validation; leave it out, or give a --split that has some")
    alone = f"only severity {split.present[0]} has training images"
    if len(split.present) == 1 and not DATA_STRATEGIES[METHODS[args.method].data].sets_groups and not has_begun:
        defaults = OBJECTIVES[args.objective].defaults
        for option in (option for option in GROUP_OPTIONS if option in defaults):
            value = getattr(args, option)
            if value not in (None, default_for_dataset(defaults[option], args.dataset)):
                raise UserError(f"--{option} {value}: {alone}, so that there are no distributions to weigh; leave it "
                                "out")
    if args.irm_lambda not in (None, 1) and args.irm_anneal >= batches * args.total_epoch and not has_begun:
        raise UserError(f"--irm_lambda {args.irm_lambda}: acts after --irm_anneal {args.irm_anneal} batches, and the "
                        f"run has {batches * args.total_epoch}; give a smaller --irm_anneal, or more epochs")
    if args.group_loss == "validation" and not has_begun:
        check_reweighter(args.group_every, batches * args.total_epoch, len(split.validation), args.split)
    if len(split.present) == 1 and args.sampling == "balanced":
        raise UserError(f"--sampling balanced: {alone}, and is all that is drawn; leave it out")
    if split.is_clean and args.aug_severity == "rare":
        raise UserError(f"--aug_severity rare: {alone}, so that none of the others is rarer; give "
                        "--aug_severity uniform")
    if args.crop == "resized" and not (data.source.in_files and split.is_clean):
        raise UserError("--crop resized: is for clean training images that are read from files; use --crop zeros or "
                        "mirror")
    # A run that goes on may have no need of the file that it began with.
    check_weights(args.model, data.source.classes, None if args.resume else args.init_checkpoint, args.stage_one)
    if split.lists is not None:  # the run will write them
        require_writable_folder("--filelist_dir", split.lists)
