"""The options that choose a method and how it is trained; their help and their defaults come from the tables."""
import argparse

from losses.methods import (
    DATA,
    METHODS,
    OBJECTIVES,
    PERTURBATIONS,
    RECIPES,
    SAMPLINGS,
    used_options,
    users,
)
from utils import cli
from utils.errors import UserError
from utils.schedule import SCHEDULES

# Options that some methods read and others do not.
METHOD_OPTIONS = {option for table in (OBJECTIVES, PERTURBATIONS, DATA) for part in table.values()
                  for option in part.options}


def add_method_arguments(parser):
    """The options that choose a method and its settings."""
    def listing(parts):
        return "; ".join(f"{name}: {part.summary}" for name, part in parts.items())

    def defaults(option):
        own = {name: method.own_defaults for name, method in METHODS.items()}
        every = {**{name: part.defaults for name, part in PERTURBATIONS.items()}, **own}
        return " (default: " + ", ".join(
            f"{value} for {name}" + (f" on {dataset}" if len(values[option]) > 1 else "")
            for name, values in every.items() for dataset, value in values.get(option, {}).items()) + ")"

    rows = "; ".join(f"{name}: {method.objective} x {method.perturbation}"
                     f"{'' if method.data == 'plain' else ' on ' + method.data}, {method.cost}, {method.source}"
                     for name, method in METHODS.items())
    data = "; ".join(f"{name}: {part.summary}" for name, part in DATA.items() if name != "plain")
    parser.add_argument("--method", choices=list(METHODS), default="sharpdro",
                        help=f"objective x perturbation (on data), passes per step, source. {rows}. Data are {data}")
    parser.add_argument("--objective", choices=list(OBJECTIVES), default=None,
                        help="what is minimised, instead of the method's: " + listing(OBJECTIVES))
    parser.add_argument("--perturbation", choices=list(PERTURBATIONS), default=None,
                        help="where the gradient is taken, instead of the method's: " + listing(PERTURBATIONS))
    parser.add_argument("--sampling", choices=list(SAMPLINGS), default="uniform",
                        help="; ".join(f"{name}: {summary}" for name, summary in SAMPLINGS.items()))
    parser.add_argument("--rho", type=cli.non_negative_float, default=None,
                        help="length of an ascent" + defaults("rho"))
    parser.add_argument("--sigma", type=cli.non_negative_float, default=None,
                        help="standard deviation of a noise" + defaults("sigma"))
    parser.add_argument("--is_adaptive", action="store_true", help="scale the l2 ascent by the weights, as the release")
    parser.add_argument("--distribution_agnostic", action="store_true",
                        help="sharpdro without known distributions: weights from the confidence that samples lose")
    parser.add_argument("--risk", choices=("mean", "worst_case"), default="mean",
                        help="first term of sharpdro: mean loss (the release), or weighted like the second (the paper)")
    parser.add_argument("--step_size", type=cli.non_negative_float, default=0.01,
                        help="step of the weights over distributions toward large losses")
    parser.add_argument("--group_loss", choices=("batch", "last_seen"), default="batch",
                        help="loss of a distribution that a batch lacks, for its weight: 0 (batch, the release), or "
                             "what it was when last seen")
    parser.add_argument("--irm_lambda", type=cli.non_negative_float, default=1.0,
                        help="weight of irm's penalty; above 1 all is divided by it")
    parser.add_argument("--irm_anneal", type=cli.non_negative_int, default=500, metavar="N",
                        help="batches in which irm's penalty has weight 1 before --irm_lambda")
    parser.add_argument("--rex_beta", type=cli.non_negative_float, default=1.0,
                        help="weight of rex's variance; above 1 all is divided by it")
    parser.add_argument("--stage_one_epochs", type=cli.positive_int, default=None, metavar="T",
                        help="jtt and eiil: epochs of the first model, which erm trains (default: a tenth of "
                             "--total_epoch, so that it still makes errors)")
    parser.add_argument("--stage_one", type=cli.existing_file, metavar="FILE", default=None,
                        help="jtt and eiil: checkpoint to use as the first model instead of training one, of the same "
                             "network, data and seed; an earlier run has it in stage_one/last_model.ckpt")
    parser.add_argument("--jtt_lambda", type=cli.positive_int, default=10, metavar="N",
                        help="jtt: how many times as often an image of the error set is drawn")


def add_training_arguments(parser):
    """The options whose defaults the recipe gives."""
    def default(option):
        values = {name: recipe[option] for name, recipe in RECIPES.items()}
        if len(set(values.values())) == 1:
            return f" (default: {values['sharpdro']})"
        return f" (default: {', '.join(f'{value} of recipe {name}' for name, value in values.items())})"

    parser.add_argument("--recipe", choices=list(RECIPES), default=None,
                        help="training settings of a paper's experiments (default: " +
                             "; ".join(f"{recipe} for " + ", ".join(name for name, method in METHODS.items()
                                                                    if method.recipe == recipe)
                                       for recipe in RECIPES) + ")")
    parser.add_argument("--total_epoch", type=cli.positive_int, default=None, help="epochs" + default("total_epoch"))
    parser.add_argument("-b", "--batch_size", type=cli.positive_int, default=None,
                        help="training images in a batch" + default("batch_size"))
    parser.add_argument("--lr", type=cli.positive_float, default=None, help="initial learning rate" + default("lr"))
    parser.add_argument("--schedule", choices=list(SCHEDULES), default=None,
                        help="step: learning rate times 0.2 at 30, 60 and 80 %% of the epochs; linear: falling to a "
                             "hundredth from 50 to 90 %% of the epochs" + default("schedule"))
    parser.add_argument("--momentum", type=cli.fraction, default=0.9, help="momentum of SGD")
    parser.add_argument("--nesterov", action=argparse.BooleanOptionalAction, default=None,
                        help="Nesterov's momentum" + default("nesterov"))
    parser.add_argument("--weight_decay", type=cli.non_negative_float, default=None,
                        help="l2 penalty on all weights" + default("weight_decay"))
    parser.add_argument("--num_sub_batches", type=cli.positive_int, default=None, metavar="M",
                        help="parts of a batch, each with its own perturbation; 1 where there is none" +
                             default("num_sub_batches"))


def resolve(args, given):
    """Fill in what the command line leaves to the method and its recipe, in place.

    Args:
        args (argparse.Namespace): of a parser with both groups of arguments above, and dataset.
        given (collection of str): the options that the command line names.

    Raises:
        UserError: options that exclude each other, or one that is given and has no effect.
    """
    method = METHODS[args.method]
    args.objective = args.objective or method.objective
    args.perturbation = args.perturbation or method.perturbation
    resolve_variants(args, given)
    check_given(args, given)
    args.recipe = args.recipe or method.recipe
    for option, value in RECIPES[args.recipe].items():
        if getattr(args, option) is None:
            setattr(args, option, 1 if option == "num_sub_batches" and args.perturbation == "none" else value)
    for option, values in method.defaults(args.perturbation).items():
        if getattr(args, option) is None:
            setattr(args, option, values.get(args.dataset, values["cifar10"]))
    if args.batch_size % args.num_sub_batches:
        raise UserError(f"--num_sub_batches {args.num_sub_batches}: does not divide -b {args.batch_size}; "
                        "give a divisor of the batch size")
    if args.nesterov and args.momentum == 0:
        if "nesterov" in given:
            raise UserError("--nesterov: is a form of momentum, and --momentum is 0; leave one of them out")
        args.nesterov = False
    if DATA[method.data].stage_one and args.stage_one is None and args.stage_one_epochs is None:
        args.stage_one_epochs = max(1, args.total_epoch // 10)


def resolve_variants(args, given):
    """Replace the options that are variants of an objective or a perturbation by the one that they mean, in place.

    Raises:
        UserError: they are variants of another than the one that is used.
    """
    if args.is_adaptive:
        if args.perturbation not in ("l2", "adaptive"):
            raise UserError(f"--is_adaptive: scales an l2 ascent, not {args.perturbation}; use --perturbation l2")
        args.perturbation = "adaptive"
    if args.distribution_agnostic and args.risk == "worst_case":
        raise UserError("--risk worst_case: needs known distributions; leave out --distribution_agnostic")
    if (args.distribution_agnostic or "risk" in given) and args.objective != "sharpdro":
        flag = "--distribution_agnostic" if args.distribution_agnostic else f"--risk {args.risk}"
        raise UserError(f"{flag}: is a variant of sharpdro, not of {args.objective}; use --method sharpdro")
    if args.distribution_agnostic:
        args.objective = "sharpdro_agnostic"
    elif args.risk == "worst_case":
        # With both terms over Q (Eq. 10, 12), their sum is the Q-weighted loss at the perturbed weights.
        args.objective = "group_dro"


def check_given(args, given):
    """Raise a `UserError` where an option is given that the objective, the perturbation and the data do not read, or
    where one part makes another useless.
    """
    data = METHODS[args.method].data
    unused = METHOD_OPTIONS.intersection(given) - used_options(args.objective, args.perturbation, data)
    if unused:
        option = min(unused)
        raise UserError(f"--{option}: {title(args)} does not use it, of the methods only {', '.join(users(option))}; "
                        "leave it out")
    if "stage_one" in given and "stage_one_epochs" in given:
        raise UserError("--stage_one_epochs: no first model is trained where --stage_one names one; leave one out")
    if DATA[data].sets_groups and not OBJECTIVES[args.objective].reads_groups:
        readers = ", ".join(name for name, part in OBJECTIVES.items() if part.reads_groups)
        raise UserError(f"--objective {args.objective}: does not look at the environments that {args.method} finds; "
                        f"use one of {readers}")
    if args.objective == "sharpdro_agnostic" and args.sampling == "balanced":
        raise UserError("--sampling balanced: uses the severities that distribution-agnostic training does without; "
                        "leave it out")


def title(args):
    """The method's name, or the pair that replaces it."""
    method = METHODS[args.method]
    if (args.objective, args.perturbation) == (method.objective, method.perturbation):
        return args.method
    pair = f"{args.objective} x {args.perturbation}"
    return pair if method.data == "plain" else f"{args.method} {pair}"
