"""The methods, one row each: a method is an objective x a perturbation of the weights.

The command line's help and its defaults are made from these tables.
"""
from collections.abc import Callable
from dataclasses import dataclass, field

import mindspore.nn as nn

from losses import objectives, perturbations
from losses.step import create_train_step
from utils import device


@dataclass(frozen=True)
class Part:
    """An objective or a perturbation that can be asked for by name.

    Attributes:
        create (callable): of an objective, (args, num_groups) to a cell; of a perturbation, (args, weights) to a cell
            or None.
        summary (str): what it is, for the help.
        options (tuple of str): the options that it reads.
        defaults (dict): those of a perturbation's options whose default depends on the data set, to the default for
            each; 'cifar10' stands for all that are not named.
        second_pass (bool): it needs a pass at the weights before the one that it is about.
        reads_groups (bool): of an objective, whether it looks at the samples' distributions.
    """

    create: Callable
    summary: str
    options: tuple = ()
    defaults: dict = field(default_factory=dict)
    second_pass: bool = False
    reads_groups: bool = False


def _last_seen(args):
    return args.group_loss == "last_seen"


def _ascent(scaled):
    return lambda args, weights: perturbations.L2Ascent(args.rho, tuple(scaled(weight.name) for weight in weights))


def _noise(multiplicative):
    return lambda args, weights: perturbations.Noise(args.sigma, multiplicative, weights, args.seed, device.rank())


OBJECTIVES = {
    "mean": Part(lambda args, groups: objectives.Mean(), "mean loss"),
    "group_dro": Part(lambda args, groups: objectives.GroupDRO(groups, args.step_size, _last_seen(args)),
                      "losses of the distributions, weighted toward the worst", ("step_size", "group_loss"),
                      reads_groups=True),
    "irm": Part(lambda args, groups: objectives.IRM(groups, args.irm_lambda, args.irm_anneal),
                "losses of the distributions + squared derivative by a factor on the logits",
                ("irm_lambda", "irm_anneal"), reads_groups=True),
    "rex": Part(lambda args, groups: objectives.REx(groups, args.rex_beta),
                "losses of the distributions + their variance", ("rex_beta",), reads_groups=True),
    "sharpdro": Part(lambda args, groups: objectives.WorstGroupSharpness(groups, args.step_size, _last_seen(args)),
                     "mean loss + sharpness, weighted toward the worst distribution", ("step_size", "group_loss"),
                     second_pass=True, reads_groups=True),
    "sharpdro_agnostic": Part(lambda args, groups: objectives.AgnosticSharpness(),
                              "mean loss + sharpness, weighted toward samples that lose confidence",
                              second_pass=True),
}

RHO = {"rho": {"cifar10": 0.05}}

PERTURBATIONS = {
    "none": Part(lambda args, weights: None, "gradient at the weights"),
    "l2": Part(_ascent(lambda name: False), "ascent of length --rho along the gradient", ("rho",), RHO,
               second_pass=True),
    "sign": Part(lambda args, weights: perturbations.SignAscent(args.rho), "ascent by --rho along the gradient's sign",
                 ("rho",), RHO, second_pass=True),
    "adaptive": Part(_ascent(lambda name: True), "l2 ascent scaled by the weights", ("rho",), RHO, second_pass=True),
    "asam": Part(_ascent(perturbations.is_scale), "l2 ascent scaled by the weights, biases not scaled", ("rho",),
                 {"rho": {"cifar10": 1.0, "cifar100": 2.0}}, second_pass=True),
    "multiplicative": Part(_noise(True), "weights times normal noise of --sigma around 1", ("sigma",),
                           {"sigma": {"cifar10": 0.2, "cifar100": 0.1}}),
    "additive": Part(_noise(False), "weights plus normal noise of --sigma", ("sigma",), {"sigma": {"cifar10": 0.01}}),
}


@dataclass(frozen=True)
class Treatment:
    """What is done to the training data before they reach a step.

    Attributes:
        summary (str): for the help.
        options (tuple of str): the options that it reads.
        stage_one (bool): it asks another model, which is trained first.
        sets_groups (bool): it gives the samples other groups than the distributions.
    """

    summary: str
    options: tuple = ()
    stage_one: bool = False
    sets_groups: bool = False


DATA = {
    "plain": Treatment("images as they were drawn"),
    "error_set": Treatment("images that a first model (stage one) gets wrong are drawn --jtt_lambda times as often",
                           ("jtt_lambda", "stage_one", "stage_one_epochs"), stage_one=True),
    "environments": Treatment("two environments, inferred with a first model (stage one), take the place of the "
                              "distributions", ("stage_one", "stage_one_epochs"), stage_one=True, sets_groups=True),
    "half_corrupted": Treatment("half of every batch, as it was drawn at its severities, is corrupted once more, with "
                                "--aug_corruption at random severities", ("aug_corruption",)),
}

SAMPLINGS = {
    "uniform": "training images are drawn with equal chance",
    "balanced": "every distribution is drawn with equal chance",
}

# Training settings of the two papers' experiments: option to its default.
RECIPES = {
    "sharpdro": {"total_epoch": 200, "batch_size": 100, "lr": 0.1, "schedule": "step", "nesterov": False,
                 "weight_decay": 5e-4, "num_sub_batches": 1},
    "damp": {"total_epoch": 300, "batch_size": 128, "lr": 0.1, "schedule": "linear", "nesterov": True,
             "weight_decay": 5e-4, "num_sub_batches": 8},
}


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        objective (str): a key of `OBJECTIVES`.
        perturbation (str): a key of `PERTURBATIONS`.
        source (str): where the method comes from.
        own_defaults (dict): where the method's default differs from its perturbation's, as in `Part`.
        data (str): a key of `DATA`.
        recipe (str): a key of `RECIPES`.
    """

    objective: str
    perturbation: str
    source: str
    own_defaults: dict = field(default_factory=dict)
    data: str = "plain"
    recipe: str = "sharpdro"

    @property
    def passes(self):
        """Forward and backward passes of a step."""
        return 2 if OBJECTIVES[self.objective].second_pass or PERTURBATIONS[self.perturbation].second_pass else 1

    @property
    def cost(self):
        """Passes per step, and whether a stage one comes first, as text."""
        return f"{self.passes} + stage one" if DATA[self.data].stage_one else str(self.passes)

    def defaults(self, perturbation=None):
        """Option to its default for each data set, as in `Part`, with the method's perturbation or another."""
        own = self.own_defaults if perturbation in (None, self.perturbation) else {}
        return {**PERTURBATIONS[perturbation or self.perturbation].defaults, **own}


METHODS = {
    "erm": Method("mean", "none", "empirical risk minimisation"),
    "irm": Method("irm", "none", "Arjovsky 2019"),
    "rex": Method("rex", "none", "Krueger 2021"),
    "group_dro": Method("group_dro", "none", "Sagawa 2020"),
    "sam": Method("mean", "l2", "Foret 2021", {"rho": {"cifar10": 0.045, "cifar100": 0.06}}, recipe="damp"),
    "asam": Method("mean", "asam", "Kwon 2021, as in Trinh 2024", recipe="damp"),
    "sharpdro": Method("sharpdro", "l2", "Huang 2023"),
    "jtt": Method("mean", "none", "Liu 2021", data="error_set"),
    "eiil": Method("irm", "none", "Creager 2021", data="environments"),
    "damp": Method("mean", "multiplicative", "Trinh 2024", recipe="damp"),
    "daap": Method("mean", "additive", "Trinh 2024, Algorithm 3", recipe="damp"),
    "corrupt_aug": Method("mean", "none", "Trinh 2024, Algorithm 2", data="half_corrupted", recipe="damp"),
}


def used_options(objective, perturbation, data):
    """The options that an objective, a perturbation and a treatment of the data (keys of the tables) read."""
    return {*OBJECTIVES[objective].options, *PERTURBATIONS[perturbation].options, *DATA[data].options}


def users(option):
    """The methods that read an option."""
    return [name for name, row in METHODS.items() if option in used_options(row.objective, row.perturbation, row.data)]


def methods_table():
    """The methods as a Markdown table, the one in the README."""
    lines = ["| `--method` | objective | perturbation | data | passes | defaults on CIFAR-10 / CIFAR-100 | `--recipe` "
             "| source |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, method in METHODS.items():
        defaults = ", ".join(f"`--{option}` " + " / ".join(map(str, values.values()))
                             for option, values in method.defaults().items())
        lines.append(f"| `{name}` | {method.objective} | {method.perturbation} | {method.data} | {method.cost} "
                     f"| {defaults} | {method.recipe} | {method.source} |")
    return "\n".join(lines) + "\n"


def recipes_table():
    """The recipes as a Markdown table, the one in the README."""
    options = RECIPES["sharpdro"]
    lines = ["| `--recipe` | " + " | ".join(f"`--{option}`" for option in options) + " |",
             "| --- " * (len(options) + 1) + "|"]
    for name, values in RECIPES.items():
        cells = (("no", "yes")[value] if isinstance(value, bool) else value for value in values.values())
        lines.append(f"| `{name}` | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


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
