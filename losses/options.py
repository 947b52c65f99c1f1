"""The options that choose a method and how it is trained; their help and their defaults come from the tables."""
import argparse

from losses.methods import DATA, METHODS, OBJECTIVES, PERTURBATIONS, RECIPES
from utils import cli
from utils.errors import UserError
from utils.schedule import SCHEDULES

# For options that a method's row does not set.
DEFAULTS = {"rho": 0.05, "sigma": 0.01}


def add_method_arguments(parser):
    """The options that choose a method and its settings."""
    def listing(parts):
        return "; ".join(f"{name}: {part.summary}" for name, part in parts.items())

    def defaults(option):
        own = [f"{value} for {name} on {dataset}" for name, method in METHODS.items()
               for dataset, value in method.defaults.get(option, {}).items()]
        return f" (default: {', '.join([*own, f'{DEFAULTS[option]} else'])})"

    rows = "; ".join(f"{name}: {method.objective} x {method.perturbation}"
                     f"{'' if method.data == 'plain' else ' on ' + method.data}, {method.cost}, {method.source}"
                     for name, method in METHODS.items())
    data = "; ".join(f"{name}: {summary}" for name, summary in DATA.items() if name != "plain")
    parser.add_argument("--method", choices=list(METHODS), default="sharpdro",
                        help=f"objective x perturbation (on data), passes per step, source. {rows}. Data are {data}")
    parser.add_argument("--objective", choices=list(OBJECTIVES), default=None,
                        help="what is minimised, instead of the method's: " + listing(OBJECTIVES))
    parser.add_argument("--perturbation", choices=list(PERTURBATIONS), default=None,
                        help="where the gradient is taken, instead of the method's: " + listing(PERTURBATIONS))
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
                        help="steps in which irm's penalty has weight 1 before --irm_lambda")
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


def resolve(args):
    """Fill in what the command line leaves to the method and its recipe, in place.

    Args:
        args (argparse.Namespace): of a parser with both groups of arguments above, and dataset.

    Raises:
        UserError: options that exclude each other.
    """
    method = METHODS[args.method]
    args.objective = args.objective or method.objective
    args.perturbation = args.perturbation or method.perturbation
    args.recipe = args.recipe or method.recipe
    for option, value in RECIPES[args.recipe].items():
        if getattr(args, option) is None:
            setattr(args, option, 1 if option == "num_sub_batches" and args.perturbation == "none" else value)
    for option, value in DEFAULTS.items():
        if getattr(args, option) is None:
            values = method.defaults.get(option, {"cifar10": value})
            setattr(args, option, values.get(args.dataset, values["cifar10"]))
    if args.stage_one is not None and not method.has_stage_one:
        names = " and ".join(name for name, other in METHODS.items() if other.has_stage_one)
        raise UserError(f"--stage_one: {args.method} has no first model, only {names} do; leave it out")
    if args.stage_one_epochs is None:
        args.stage_one_epochs = max(1, args.total_epoch // 10)
    if args.is_adaptive:
        if args.perturbation not in ("l2", "adaptive"):
            raise UserError(f"--is_adaptive: scales an l2 ascent, not {args.perturbation}; use --perturbation l2")
        args.perturbation = "adaptive"
    if args.distribution_agnostic and args.risk == "worst_case":
        raise UserError("--risk worst_case: needs known distributions; leave out --distribution_agnostic")
    if args.distribution_agnostic or args.risk == "worst_case":
        if args.objective != "sharpdro":
            flag = "--distribution_agnostic" if args.distribution_agnostic else "--risk worst_case"
            raise UserError(f"{flag}: is a variant of sharpdro, not of {args.objective}; use --method sharpdro")
        # With both terms over Q (Eq. 10, 12), their sum is the Q-weighted loss at the perturbed weights.
        args.objective = "sharpdro_agnostic" if args.distribution_agnostic else "group_dro"
