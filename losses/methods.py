"""The methods, one row each: a method is an objective x a perturbation of the weights, some on data that are treated.

The command line's help, the defaults and the README's tables are made from these tables.
"""
from collections.abc import Callable
from dataclasses import dataclass, field

from utils.runtime.device import hash_dtype
from losses import objectives, optimizers, perturbations
from utils.cli import two_columns
from utils.runtime.distributed import rank_and_world_size


@dataclass(frozen=True)
class Component:
    """An objective or a perturbation that can be asked for by name.

    Attributes:
        create (callable): of an objective, (num_groups, **options) to a cell; of a perturbation, (weights, seed, number
            of sub-batches, **options) to a cell or None.
        summary (str): what it is, for the help.
        defaults (dict): the options that it reads, to their defaults; a default that depends on the data set is a dict,
            in which 'cifar10' stands for all that are not named.
        second_pass (bool): it needs a pass at the weights before the one that it is about.
        reads_groups (bool): of an objective, whether it looks at the samples' distributions.
    """

    create: Callable
    summary: str
    defaults: dict = field(default_factory=dict)
    second_pass: bool = False
    reads_groups: bool = False


def _ascent(scaled):
    return lambda weights, seed, parts, rho: perturbations.GradientAscent(rho, tuple(scaled(w.name) for w in weights))


def _noise(multiplicative):
    return lambda weights, seed, parts, sigma: perturbations.GaussianNoise(sigma, multiplicative, weights, seed, parts,
                                                                           rank_and_world_size(), hash_dtype())


GROUP_WEIGHT_DEFAULTS = {"worst_case": "weights", "step_size": 0.01, "group_loss": "batch", "group_every": 50,
                         "group_adjustment": 0.0}

OBJECTIVES = {
    "mean": Component(lambda num_groups: objectives.Mean(), "mean loss"),
    "group_dro": Component(objectives.GroupDRO, "losses of the distributions, weighted toward the worst",
                           GROUP_WEIGHT_DEFAULTS, reads_groups=True),
    "irm": Component(objectives.IRM, "losses of the distributions + squared derivative by a factor on the logits",
                     {"irm_lambda": 1.0, "irm_anneal": 500}, reads_groups=True),
    "rex": Component(objectives.REx, "losses of the distributions + their variance", {"rex_beta": 1.0},
                     reads_groups=True),
    "sharpdro": Component(objectives.WorstGroupSharpness,
                          "mean loss + sharpness, weighted toward the worst distribution",
                          GROUP_WEIGHT_DEFAULTS, second_pass=True, reads_groups=True),
    "sharpdro_agnostic": Component(lambda num_groups, ood_weights: objectives.AgnosticSharpness(ood_weights),
                                   "mean loss + sharpness, weighted toward samples that lose confidence",
                                   {"ood_weights": "scaled"}, second_pass=True),
}

RHO = {"rho": 0.05}

PERTURBATIONS = {
    "none": Component(lambda weights, seed, parts: None, "gradient at the weights"),
    "l2": Component(_ascent(lambda name: False), "ascent of length --rho along the gradient", RHO, second_pass=True),
    "sign": Component(lambda weights, seed, parts, rho: perturbations.SignAscent(rho),
                      "ascent by --rho along the gradient's sign", RHO, second_pass=True),
    "adaptive": Component(_ascent(lambda name: True), "l2 ascent scaled by the weights", RHO, second_pass=True),
    "asam": Component(_ascent(perturbations.is_weight_or_gamma), "l2 ascent scaled by the weights, biases not scaled",
                      {"rho": {"cifar10": 1.0, "cifar100": 2.0}}, second_pass=True),
    "multiplicative": Component(_noise(True), "weights times normal noise of --sigma around 1",
                                {"sigma": {"cifar10": 0.2, "cifar100": 0.1}}),
    "additive": Component(_noise(False), "weights plus normal noise of --sigma", {"sigma": 0.01}),
}


@dataclass(frozen=True)
class DataStrategy:
    """What is done to the training data before they reach a step.

    Attributes:
        summary (str): for the help.
        defaults (dict): the options that it reads, to their defaults; None is explained in the option's help.
        stage_one (bool): it asks another model, which is trained first.
        sets_groups (bool): it gives the samples other groups than the distributions.
        repeats (bool): it draws some images more often than others.
    """

    summary: str
    defaults: dict = field(default_factory=dict)
    stage_one: bool = False
    sets_groups: bool = False
    repeats: bool = False


STAGE_ONE_OPTIONS = {"stage_one": None, "stage_one_epochs": None}

DATA_STRATEGIES = {
    "plain": DataStrategy("images as they were drawn"),
    "error_set": DataStrategy("images that a first model (stage one) gets wrong are drawn --jtt_lambda times as often",
                              {**STAGE_ONE_OPTIONS, "jtt_lambda": 10}, stage_one=True, repeats=True),
    "environments": DataStrategy("two environments, inferred with a first model (stage one), take the place of the "
                                 "distributions", STAGE_ONE_OPTIONS, stage_one=True, sets_groups=True),
    "half_corrupted": DataStrategy("half of every batch is corrupted with --aug_corruption at severities drawn as "
                                   "--aug_severity says, which with --train_on poisson comes on top of the severities "
                                   "that images have",
                                   {"aug_corruption": None, "aug_severity": "uniform"}),
}

SAMPLINGS = {
    "uniform": "training images are drawn with equal chance",
    "balanced": "every distribution is drawn with equal chance",
}

SAMPLERS = {
    "replacement": "every batch is drawn anew from all training images",
    "permutation": "an epoch passes over every training image once, in a random order, and leaves out the last "
                   "incomplete batch",
}

# What `dataset.batches.TrainBatches` knows to crop.
CROPS = {
    "none": "images as they are",
    "mirror": "at random after mirrored padding by 1/8",
    "zeros": "at random after padding by 4 with zeros",
    "resized": "a random part of the image, resized, for images in files",
}


@dataclass(frozen=True)
class Optimizer:
    """What moves the weights along a gradient, found by name.

    Attributes:
        create (callable): (weights, which of them weight decay is for, **options) to a cell.
        summary (str): what it is, for the help.
        defaults (dict): the options that it reads, to their defaults where the recipe has another optimiser.
    """

    create: Callable
    summary: str
    defaults: dict


# The betas and eps of adamw are no options: all published experiments have the same.
OPTIMIZERS = {
    "sgd": Optimizer(optimizers.sgd, "gradient descent with --momentum; weight decay is part of the gradient",
                     {"lr": 0.1, "weight_decay": 5e-4, "decay": "all", "momentum": 0.9, "nesterov": False}),
    "adamw": Optimizer(optimizers.AdamW, "Adam with betas 0.9 and 0.999; weight decay times the learning rate is taken "
                       "off the weights", {"lr": 0.001, "weight_decay": 0.1, "decay": "kernels"}),
}

WEIGHT_DECAY_FILTERS = {
    "all": "all weights",
    "kernels": "weights of convolutions and dense layers, not biases, nor scales and shifts of norms",
}


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        objective (str): a key of `OBJECTIVES`.
        perturbation (str): a key of `PERTURBATIONS`.
        source (str): where the method comes from.
        own_defaults (dict): where the method's default differs from those of its parts, as in `Component`; what its
            perturbation reads counts for this one alone.
        data (str): a key of `DATA_STRATEGIES`.
        recipe (str): a key of `losses.config.recipes.RECIPES`.
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
        return f"{self.passes} + stage one" if DATA_STRATEGIES[self.data].stage_one else str(self.passes)


METHODS = {
    "erm": Method("mean", "none", "empirical risk minimisation"),
    "irm": Method("irm", "none", "Arjovsky 2019"),
    "rex": Method("rex", "none", "Krueger 2021"),
    "group_dro": Method("group_dro", "none", "Sagawa 2020"),
    "sam": Method("mean", "l2", "Foret 2021", {"rho": {"cifar10": 0.045, "cifar100": 0.06}}, recipe="damp"),
    "asam": Method("mean", "asam", "Kwon 2021, as in Trinh 2024", recipe="damp"),
    "sharpdro": Method("sharpdro", "l2", "Huang 2023"),
    "sharpdro_agnostic": Method("sharpdro_agnostic", "l2", "Huang 2023, Eq. 11 and 12"),
    "jtt": Method("mean", "none", "Liu 2021", data="error_set"),
    "eiil": Method("irm", "none", "Creager 2021", data="environments"),
    "damp": Method("mean", "multiplicative", "Trinh 2024", recipe="damp"),
    "daap": Method("mean", "additive", "Trinh 2024, Algorithm 3", recipe="damp"),
    "corrupt_aug": Method("mean", "none", "Trinh 2024, Algorithm 2", data="half_corrupted", recipe="damp"),
    "rare_aug": Method("mean", "none", "here", {"aug_severity": "rare"}, data="half_corrupted"),
}


# Options that some methods read and others do not.
METHOD_OPTIONS = tuple(dict.fromkeys(option for table in (OBJECTIVES, PERTURBATIONS, DATA_STRATEGIES)
                                     for part in table.values() for option in part.defaults))


def default_options(method, objective=None, perturbation=None):
    """The options that a method's parts read, to their defaults as in `Component`, with its own objective and
    perturbation or others (keys of the tables).
    """
    row = METHODS[method]
    objective, perturbation = objective or row.objective, perturbation or row.perturbation
    data = DATA_STRATEGIES[row.data].defaults
    own = {option: value for option, value in row.own_defaults.items()
           if perturbation == row.perturbation or option in data}
    return {**OBJECTIVES[objective].defaults, **PERTURBATIONS[perturbation].defaults, **data, **own}


def default_for_dataset(value, dataset):
    """A default as it is for one data set."""
    return value.get(dataset, value["cifar10"]) if isinstance(value, dict) else value


def methods_list():
    """The methods and their parts as text, for a terminal."""
    rows = {name: f"{row.objective} x {row.perturbation}{'' if row.data == 'plain' else ' on ' + row.data}, "
                  f"passes: {row.cost}; {row.source}" for name, row in METHODS.items()}
    tables = {"methods (--method): objective x perturbation (on data), passes a step; source": rows,
              "objectives (--objective)": OBJECTIVES, "perturbations (--perturbation)": PERTURBATIONS,
              "data": DATA_STRATEGIES}
    return "\n\n".join(f"{title}\n{two_columns(table)}" for title, table in tables.items())


def methods_table():
    """The methods as a Markdown table, the one in the README."""
    lines = ["| `--method` | objective | perturbation | data | passes | defaults on CIFAR-10 / CIFAR-100 | `--recipe` "
             "| source |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, method in METHODS.items():
        perturbation = {**PERTURBATIONS[method.perturbation].defaults, **method.own_defaults}
        defaults = ", ".join(f"`--{option}` " + (" / ".join(map(str, value.values())) if isinstance(value, dict)
                                                 else str(value)) for option, value in perturbation.items())
        lines.append(f"| `{name}` | {method.objective} | {method.perturbation} | {method.data} | {method.cost} "
                     f"| {defaults} | {method.recipe} | {method.source} |")
    return "\n".join(lines) + "\n"
