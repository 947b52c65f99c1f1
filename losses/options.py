"""The options that choose a method and how it is trained; their help and their defaults come from the tables."""
import argparse
from dataclasses import replace

from dataset.poisson import TRAIN_ON
from losses.methods import (
    CROPS,
    DATA,
    DECAYS,
    DRAWS,
    METHODS,
    OBJECTIVES,
    OPTIMIZERS,
    PERTURBATIONS,
    SAMPLINGS,
)
from losses.recipes import RECIPES, option_value, recipes_list
from losses.resolve import CHOICES, OPTIONS, TRAINING_PARTS, resolve
from utils import cli
from utils.errors import UserError
from utils.probes import IMAGES, RHO
from utils.schedule import SCHEDULES, warmup_epochs


def _listing(table):
    return "; ".join(f"{name}: {summary}" for name, summary in table.items())


def add_method_arguments(parser):
    """The options that choose a method and its settings."""
    def listing(parts):
        return _listing({name: part.summary for name, part in parts.items()})

    def defaults(option):
        """The default of an option, with where it applies if there are several."""
        found = {name: part.defaults[option] for table in (OBJECTIVES, PERTURBATIONS, DATA)
                 for name, part in table.items() if option in part.defaults}
        found.update({name: row.own_defaults[option] for name, row in METHODS.items() if option in row.own_defaults})
        if len(set(map(str, found.values()))) == 1:
            return f" (default: {next(iter(found.values()))})"
        texts = []
        for name, value in found.items():
            values = value if isinstance(value, dict) else {"": value}
            texts += [f"{number} for {name}{dataset and ' on ' + dataset}" for dataset, number in values.items()]
        return f" (default: {', '.join(texts)})"

    rows = "; ".join(f"{name}: {method.objective} x {method.perturbation}"
                     f"{'' if method.data == 'plain' else ' on ' + method.data}, {method.cost}, {method.source}"
                     for name, method in METHODS.items())
    data = "; ".join(f"{name}: {part.summary}" for name, part in DATA.items() if name != "plain")
    parser.add_argument("--method", choices=list(METHODS), default="sharpdro", action=cli.OneOrMore,
                        help=f"objective x perturbation (on data), passes per step, source. {rows}. Data are {data}")
    parser.add_argument("--objective", choices=list(OBJECTIVES), default=None, action=cli.OneOrMore,
                        help="what is minimised, instead of the method's: " + listing(OBJECTIVES))
    parser.add_argument("--perturbation", choices=list(PERTURBATIONS), default=None, action=cli.OneOrMore,
                        help="where the gradient is taken, instead of the method's: " + listing(PERTURBATIONS))
    parser.add_argument("--sampling", choices=list(SAMPLINGS), default="uniform", action=cli.OneOrMore,
                        help=_listing(SAMPLINGS))
    parser.add_argument("--rho", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        help="length of an ascent" + defaults("rho"))
    parser.add_argument("--sigma", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        help="standard deviation of a noise" + defaults("sigma"))
    parser.add_argument("--is_adaptive", action="store_true", help="scale the l2 ascent by the weights, as the release")
    parser.add_argument("--distribution_agnostic", action="store_true",
                        help="sharpdro without known distributions: weights from the confidence that samples lose")
    parser.add_argument("--risk", choices=CHOICES["risk"], default="mean", action=cli.OneOrMore,
                        help="first term of sharpdro: mean loss (the release), or weighted like the second (the paper)")
    parser.add_argument("--step_size", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        help="step of the weights over distributions toward large losses" + defaults("step_size"))
    parser.add_argument("--worst_case", choices=CHOICES["worst_case"], default=None, action=cli.OneOrMore,
                        help="what the worst distribution is: weights that move toward large losses (the release), or "
                             "the one distribution with the largest loss (argmax, the paper's Algorithm 1)" +
                             defaults("worst_case"))
    parser.add_argument("--ood_weights", choices=CHOICES["ood_weights"], default=None, action=cli.OneOrMore,
                        help="sharpdro_agnostic: the confidence that samples lose, scaled to 0..1 in every batch and "
                             "divided by its mean, or divided by its mean alone (plain, the paper's Eq. 12)" +
                             defaults("ood_weights"))
    parser.add_argument("--group_loss", choices=CHOICES["group_loss"], default=None, action=cli.OneOrMore,
                        help="loss of a distribution that a batch lacks, for its weight: 0 (batch, the release), or "
                             "what it was when last seen; validation: the losses of all distributions are those of "
                             "validation images, of which a third is kept for choosing between models" +
                             defaults("group_loss"))
    parser.add_argument("--group_every", type=cli.positive_int, default=None, action=cli.OneOrMore, metavar="N",
                        help="--group_loss validation: batches from one look at validation images to the next" +
                             defaults("group_every"))
    parser.add_argument("--group_adjustment", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        metavar="C", help="add C over the square root of its number of training images to the loss of "
                                          "a distribution, for its weight" + defaults("group_adjustment"))
    parser.add_argument("--aug_severity", choices=CHOICES["aug_severity"], default=None, action=cli.OneOrMore,
                        help="severities at which corrupt_aug corrupts: every one with equal chance, or rare: the "
                             "fewer training images a severity has, the more often, in inverse proportion" +
                             defaults("aug_severity"))
    parser.add_argument("--irm_lambda", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        help="weight of irm's penalty; above 1 all is divided by it" + defaults("irm_lambda"))
    parser.add_argument("--irm_anneal", type=cli.non_negative_int, default=None, action=cli.OneOrMore, metavar="N",
                        help="batches in which irm's penalty has weight 1 before --irm_lambda" + defaults("irm_anneal"))
    parser.add_argument("--rex_beta", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        help="weight of rex's variance; above 1 all is divided by it" + defaults("rex_beta"))
    parser.add_argument("--stage_one_epochs", type=cli.positive_int, default=None, action=cli.OneOrMore, metavar="T",
                        help="jtt and eiil: epochs of the first model, which erm trains (default: a tenth of "
                             "--total_epoch, so that it still makes errors)")
    parser.add_argument("--stage_one", type=cli.existing_file, metavar="FILE", default=None, action=cli.OneOrMore,
                        help="jtt and eiil: checkpoint to use as the first model instead of training one, of the same "
                             "network, data and seed; an earlier run has it in stage_one/last_model.ckpt")
    parser.add_argument("--jtt_lambda", type=cli.positive_int, default=None, action=cli.OneOrMore, metavar="N",
                        help="jtt: how many times as often an image of the error set is drawn" + defaults("jtt_lambda"))


def add_training_arguments(parser):
    """The options whose defaults the recipe gives."""
    def default(option):
        """The default of an option: those of the recipes, and those of what takes the place of a recipe's part."""
        values = {name: option_value(recipe.training[option]) for name, recipe in RECIPES.items()
                  if not recipe.setting and option in recipe.training}
        texts = [f"{value} of recipe {name}" for name, value in values.items()]
        if len(set(values.values())) == 1:
            texts = [next(iter(values.values()))]
        for part, table in TRAINING_PARTS.items():
            texts += [f"{option_value(row.defaults[option])} with --{part} {name}" for name, row in table.items()
                      if option in row.defaults and option_value(row.defaults[option]) not in values.values()]
        return f" (default: {', '.join(texts)})"

    def listing(table):
        return _listing({name: row.summary for name, row in table.items()}).replace("%", "%%")

    users = {recipe: [name for name, method in METHODS.items() if method.recipe == recipe] for recipe in RECIPES}
    parser.add_argument("--recipe", type=cli.listed(recipes_list), choices=list(RECIPES), default=None, metavar="NAME",
                        help="settings of a published experiment, which any option overrides: " + ", ".join(RECIPES) +
                             "; those with a / set data set and network, too (in a --variant they do not); "
                             "--recipe list shows what they set, and the published numbers (default: " +
                             "; ".join(f"{recipe} for {', '.join(names)}" for recipe, names in users.items() if names)
                             + "; a comparison takes sharpdro for all)")
    parser.add_argument("--total_epoch", type=cli.positive_int, default=None, action=cli.OneOrMore,
                        help="epochs" + default("total_epoch"))
    parser.add_argument("-b", "--batch_size", type=cli.positive_int, default=None, action=cli.OneOrMore,
                        help="training images in a batch" + default("batch_size"))
    parser.add_argument("--lr", type=cli.positive_float, default=None, action=cli.OneOrMore,
                        help="learning rate, the highest of the schedule" + default("lr"))
    parser.add_argument("--schedule", choices=list(SCHEDULES), default=None, action=cli.OneOrMore,
                        help=listing(SCHEDULES) + default("schedule"))
    parser.add_argument("--warmup", default=None, action=cli.OneOrMore, metavar="LENGTH",
                        help="--schedule cosine: epochs or steps in which the learning rate first rises from a "
                             "thousandth of --lr, such as 5epochs or 10000steps" + default("warmup"))
    parser.add_argument("--final_lr", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        help="--schedule cosine: learning rate at the end" + default("final_lr"))
    parser.add_argument("--optimizer", choices=list(OPTIMIZERS), default=None, action=cli.OneOrMore,
                        help=listing(OPTIMIZERS) + default("optimizer"))
    parser.add_argument("--momentum", type=cli.fraction, default=None, action=cli.OneOrMore,
                        help="momentum of sgd" + default("momentum"))
    parser.add_argument("--nesterov", action=argparse.BooleanOptionalAction, default=None,
                        help="Nesterov's momentum, of sgd" + default("nesterov"))
    parser.add_argument("--clip_norm", type=cli.non_negative_float, default=None, action=cli.OneOrMore, metavar="C",
                        help="scale the gradient of a batch, before weight decay, down to this norm where it is "
                             "longer; 0 leaves it" + default("clip_norm"))
    parser.add_argument("--weight_decay", type=cli.non_negative_float, default=None, action=cli.OneOrMore,
                        help="l2 penalty on weights" + default("weight_decay"))
    parser.add_argument("--decay", choices=list(DECAYS), default=None, action=cli.OneOrMore,
                        help="what weight decay is for. " + _listing(DECAYS) + default("decay"))
    parser.add_argument("--num_sub_batches", type=cli.positive_int, default=None, action=cli.OneOrMore, metavar="M",
                        help="parts of a batch, each with its own perturbation; 1 where there is none" +
                             default("num_sub_batches"))


    parser.add_argument("--train_on", choices=list(TRAIN_ON), default=None, action=cli.OneOrMore,
                        help=_listing(TRAIN_ON) + default("train_on"))
    parser.add_argument("--draw", choices=list(DRAWS), default=None, action=cli.OneOrMore,
                        help=_listing(DRAWS) + default("draw"))
    parser.add_argument("--crop", choices=list(CROPS), default=None, action=cli.OneOrMore,
                        help="training images are flipped, and cropped. " + _listing(CROPS) + default("crop"))
    parser.add_argument("--augment_data", action="store_true", help="the release's name for --crop mirror")


def add_run_arguments(parser):
    """The options that say how a run is evaluated and what it leaves."""
    parser.add_argument("--eval_batch_size", type=cli.positive_int, default=128,
                        help="images in a batch of an evaluation")
    parser.add_argument("--eval_every", type=cli.positive_int, default=1, metavar="N",
                        help="evaluate after every N-th epoch, and after the last")
    parser.add_argument("--log_dir", default="./logs", help="folder for the folders of runs")
    parser.add_argument("--desc", default="none", help="first part of the name of the run's folder")
    parser.add_argument("--log_train", type=cli.positive_int, default=100, metavar="N",
                        help="write a row of train.csv at every N-th batch of an epoch")
    parser.add_argument("--record_norm", action="store_true",
                        help="measure the norm of the loss's gradient at each severity (gradnorm_k in the CSV files), "
                             "which makes evaluations take about four times as long")
    parser.add_argument("--log_sharpness", type=cli.positive_int, default=None, metavar="N",
                        help=f"measure after every N-th epoch, and after the last, how much the loss of {IMAGES} test "
                             f"images of each severity rises within {RHO} of the weights (sharpness.csv)")
    parser.add_argument("--tensorboard", action="store_true",
                        help="write train.csv and the evaluations in TensorBoard's format, too, into the folder "
                             "tensorboard of the run; tensorboard --logdir LOG_DIR shows them")
    parser.add_argument("--keep_epochs", type=cli.non_negative_int, nargs="+", default=[], metavar="N",
                        help="keep the checkpoints of after these epochs, counted from 0 as in the tables, besides "
                             "those of --save_step")
    parser.add_argument("--save_step", type=cli.positive_int, default=50, metavar="N",
                        help="keep a checkpoint after the first epoch and every N-th after it")
    parser.add_argument("--save_last", action="store_true",
                        help="renew last_model.ckpt after every epoch, so that --resume loses at most one")
    parser.add_argument("--save_best", action="store_true",
                        help="renew best_model.ckpt when the mean validation accuracy over severities rises")


def apply_recipe(args, given):
    """Take the data set and the network of the recipe that the command line names, where it names none itself.

    Args:
        args (argparse.Namespace): all options.
        given (dict): those that the command line names, to their values; gets what the recipe names.
    """
    if args.recipe is not None:
        for option, value in RECIPES[args.recipe].setting.items():
            vars(args)[option] = given.setdefault(option, value)


def resolve_arguments(args, given):
    """The `Settings` that a command line asks for; their values take the place of its defaults in `args`.

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
    settings = resolve(args.method, args.dataset, **chosen)
    if args.split is not None and "crop" not in given and settings.crop == "resized":
        settings = replace(settings, crop="none")  # the table may have corrupted images, which are cropped before
    if settings.batch_size % settings.num_sub_batches:
        raise UserError(f"--num_sub_batches {settings.num_sub_batches}: does not divide -b {settings.batch_size}; "
                        "give a divisor of the batch size")
    late = [epoch for epoch in args.keep_epochs if epoch >= settings.total_epoch]
    if late:
        raise UserError(f"--keep_epochs {late[0]}: the last epoch is {settings.total_epoch - 1}; give none above that")
    vars(args).update(settings.flat())
    return settings


def check_data(args, data):
    """Make sure that the options of a run go with its data, before it begins.

    Args:
        args (argparse.Namespace): as `resolve_arguments` leaves it.
        data (dataset.data.Data): of the run.

    Raises:
        UserError: they do not.
    """
    split, images = data.split, len(data.split.indices)
    data.source.check_classes(getattr(args, "classes", None), args.resume or "the run that is to go on")
    if args.batch_size > images:
        raise UserError(f"-b {args.batch_size}: the training set has only {images} images; give a smaller batch or a "
                        "larger -n")
    batches = images // args.batch_size
    shortest = min(args.total_epoch, args.stage_one_epochs or args.total_epoch)
    if args.warmup is not None and warmup_epochs(args.warmup, batches) >= shortest:
        raise UserError(f"--warmup {args.warmup}: is not shorter than a training of {shortest} epochs of {batches} "
                        "steps; give less, or more epochs")
    if args.save_best and len(split.validation) == 0:
        raise UserError("--save_best: no image is left for validation; leave it out, or give a --split that has some")
    alone = f"only severity {split.present[0]} has training images"
    if len(split.present) == 1 and args.group_loss == "validation":
        raise UserError(f"--group_loss validation: {alone}, so that there are no distributions to weigh; leave it out")
    if len(split.present) == 1 and args.sampling == "balanced":
        raise UserError(f"--sampling balanced: {alone}, and is all that is drawn; leave it out")
    if split.is_clean and args.aug_severity == "rare":
        raise UserError(f"--aug_severity rare: {alone}, so that none of the others is rarer; leave it out")
    if args.crop == "resized" and not (data.source.in_files and split.is_clean):
        raise UserError("--crop resized: is for clean training images that are read from files; use --crop zeros or "
                        "mirror")
