"""The methods, one row each: a method is an objective x a perturbation of the weights.

The command line's help and its defaults are made from these tables.
"""
from collections.abc import Callable
from dataclasses import dataclass, field

import mindspore.nn as nn

from losses import objectives, perturbations
from losses.step import create_train_step
from utils import cli, device
from utils.errors import UserError


@dataclass(frozen=True)
class Part:
    """An objective or a perturbation that can be asked for by name.

    Attributes:
        create (callable): of an objective, (args, num_groups) to a cell; of a perturbation, (args, weights) to a cell
            or None.
        summary (str): what it is, for the help.
        second_pass (bool): it needs a pass at the weights before the one that it is about.
    """

    create: Callable
    summary: str
    second_pass: bool = False


def _last_seen(args):
    return args.group_loss == "last_seen"


def _ascent(scaled):
    return lambda args, weights: perturbations.L2Ascent(args.rho, tuple(scaled(weight.name) for weight in weights))


def _noise(multiplicative):
    return lambda args, weights: perturbations.Noise(args.sigma, multiplicative, weights, args.seed, device.rank())


OBJECTIVES = {
    "mean": Part(lambda args, groups: objectives.Mean(), "mean loss"),
    "group_dro": Part(lambda args, groups: objectives.GroupDRO(groups, args.step_size, _last_seen(args)),
                      "losses of the distributions, weighted toward the worst"),
    "irm": Part(lambda args, groups: objectives.IRM(groups, args.irm_lambda, args.irm_anneal),
                "losses of the distributions + squared derivative by a factor on the logits"),
    "rex": Part(lambda args, groups: objectives.REx(groups, args.rex_beta),
                "losses of the distributions + their variance"),
    "sharpdro": Part(lambda args, groups: objectives.WorstGroupSharpness(groups, args.step_size, _last_seen(args)),
                     "mean loss + sharpness, weighted toward the worst distribution", second_pass=True),
    "sharpdro_agnostic": Part(lambda args, groups: objectives.AgnosticSharpness(),
                              "mean loss + sharpness, weighted toward samples that lose confidence",
                              second_pass=True),
}

PERTURBATIONS = {
    "none": Part(lambda args, weights: None, "gradient at the weights"),
    "l2": Part(_ascent(lambda name: False), "ascent of length --rho along the gradient", second_pass=True),
    "sign": Part(lambda args, weights: perturbations.SignAscent(args.rho), "ascent by --rho along the gradient's sign",
                 second_pass=True),
    "adaptive": Part(_ascent(lambda name: True), "l2 ascent scaled by the weights", second_pass=True),
    "asam": Part(_ascent(perturbations.is_scale), "l2 ascent scaled by the weights, biases not scaled",
                 second_pass=True),
    "multiplicative": Part(_noise(True), "weights times normal noise of --sigma around 1"),
    "additive": Part(_noise(False), "weights plus normal noise of --sigma"),
}


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        objective (str): a key of `OBJECTIVES`.
        perturbation (str): a key of `PERTURBATIONS`.
        source (str): where the method comes from.
        defaults (dict): option to its default for each data set; 'cifar10' stands for all that are not named.
    """

    objective: str
    perturbation: str
    source: str
    defaults: dict = field(default_factory=dict)

    @property
    def passes(self):
        """Forward and backward passes of a step."""
        return 2 if OBJECTIVES[self.objective].second_pass or PERTURBATIONS[self.perturbation].second_pass else 1


METHODS = {
    "erm": Method("mean", "none", "empirical risk minimisation"),
    "irm": Method("irm", "none", "Arjovsky 2019"),
    "rex": Method("rex", "none", "Krueger 2021"),
    "group_dro": Method("group_dro", "none", "Sagawa 2020"),
    "sam": Method("mean", "l2", "Foret 2021", {"rho": {"cifar10": 0.045, "cifar100": 0.06}}),
    "asam": Method("mean", "asam", "Kwon 2021, as in Trinh 2024", {"rho": {"cifar10": 1.0, "cifar100": 2.0}}),
    "sharpdro": Method("sharpdro", "l2", "Huang 2023", {"rho": {"cifar10": 0.05}}),
    "damp": Method("mean", "multiplicative", "Trinh 2024", {"sigma": {"cifar10": 0.2, "cifar100": 0.1}}),
    "daap": Method("mean", "additive", "Trinh 2024, Algorithm 3"),
}


def methods_table():
    """The methods as a Markdown table, the one in the README."""
    lines = ["| `--method` | objective | perturbation | passes | defaults on CIFAR-10 / CIFAR-100 | source |",
             "| --- | --- | --- | --- | --- | --- |"]
    for name, method in METHODS.items():
        defaults = ", ".join(f"`--{option}` " + " / ".join(map(str, values.values()))
                             for option, values in method.defaults.items())
        lines.append(f"| `{name}` | {method.objective} | {method.perturbation} | {method.passes} | {defaults} | "
                     f"{method.source} |")
    return "\n".join(lines) + "\n"


# For options that a method's row does not set.
DEFAULTS = {"rho": 0.05, "sigma": 0.01}


def resolve(args):
    """Fill in what the command line leaves to the method: objective, perturbation, rho and sigma.

    Args:
        args (argparse.Namespace): method, dataset; objective, perturbation, rho, sigma or None; is_adaptive,
            distribution_agnostic and risk.

    Raises:
        UserError: options that exclude each other.
    """
    method = METHODS[args.method]
    args.objective = args.objective or method.objective
    args.perturbation = args.perturbation or method.perturbation
    for option, value in DEFAULTS.items():
        if getattr(args, option) is None:
            values = method.defaults.get(option, {"cifar10": value})
            setattr(args, option, values.get(args.dataset, values["cifar10"]))
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


def add_method_arguments(parser):
    """The options that choose a method and its settings, with help made from the tables."""
    def listing(parts):
        return "; ".join(f"{name}: {part.summary}" for name, part in parts.items())

    def defaults(option):
        own = [f"{value} for {name} on {dataset}" for name, method in METHODS.items()
               for dataset, value in method.defaults.get(option, {}).items()]
        return f" (default: {', '.join([*own, f'{DEFAULTS[option]} else'])})"

    rows = [f"{name}: {method.objective} x {method.perturbation}, {method.source}" for name, method in METHODS.items()]
    parser.add_argument("--method", choices=list(METHODS), default="sharpdro",
                        help="objective x perturbation: " + "; ".join(rows))
    parser.add_argument("--objective", choices=list(OBJECTIVES), default=None,
                        help="what is minimised, instead of the method's: " + listing(OBJECTIVES))
    parser.add_argument("--perturbation", choices=list(PERTURBATIONS), default=None,
                        help="where the gradient is taken, instead of the method's: " + listing(PERTURBATIONS))
    parser.add_argument("--rho", type=cli.non_negative_float, default=None,
                        help="length of an ascent" + defaults("rho"))
    parser.add_argument("--sigma", type=cli.non_negative_float, default=None,
                        help="standard deviation of a noise" + defaults("sigma"))
    parser.add_argument("--is_adaptive", action="store_true", help="scale the l2 ascent by the weights, as the release")
    parser.add_argument("--num_sub_batches", type=cli.positive_int, default=1, metavar="M",
                        help="parts of a batch, each with its own perturbation; the DAMP paper has 8, with -b 128")
    parser.add_argument("--distribution_agnostic", action="store_true",
                        help="sharpdro without known distributions: weights from the confidence that samples lose")
    parser.add_argument("--risk", choices=("mean", "worst_case"), default="mean",
                        help="first term of sharpdro: mean loss (the release), or weighted like the second (the paper)")
    parser.add_argument("--step_size", type=cli.non_negative_float, default=0.01,
                        help="step of the weights over distributions toward large losses")
    parser.add_argument("--group_loss", choices=("batch", "last_seen"), default="batch",
                        help="loss of a distribution that a batch lacks, for its weight: 0 (batch, the release), or "
                             "what it was when last seen")
    parser.add_argument("--irm_lambda", type=cli.non_negative_float, default=10.0, help="weight of irm's penalty")
    parser.add_argument("--irm_anneal", type=cli.non_negative_int, default=500, metavar="N",
                        help="steps in which irm's penalty has weight 1 before --irm_lambda")
    parser.add_argument("--rex_beta", type=cli.non_negative_float, default=10.0, help="weight of rex's variance")


def create_step(args, network, num_groups):
    """Build the train step of an objective and a perturbation.

    Args:
        args (argparse.Namespace): objective, perturbation, num_sub_batches, lr, momentum, weight_decay, seed, and what
            the parts need: rho, sigma, step_size, group_loss, irm_lambda, irm_anneal, rex_beta.
        network (nn.Cell): images to logits.
        num_groups (int): number of distributions, the clean one included.

    Returns:
        TrainStep: its `optimizer.learning_rate` is a Parameter, to be set at every epoch.
    """
    weights = network.trainable_params()
    # As a group of parameters: given a plain list, nn.SGD spares those named gamma and beta from weight decay, and
    # PyTorch does not.
    optimizer = nn.SGD([{"params": weights, "weight_decay": args.weight_decay}], learning_rate=args.lr,
                       momentum=args.momentum, nesterov=args.nesterov)
    objective = OBJECTIVES[args.objective].create(args, num_groups)
    perturbation = PERTURBATIONS[args.perturbation].create(args, optimizer.parameters)
    return create_train_step(network, objective, perturbation, optimizer, args.num_sub_batches)
