"""The parts of methods, one row each: objectives, perturbations of the weights, and data strategies.

A row has the defaults of the options that it reads, and the command line's rows of these options.
"""
from collections.abc import Callable
from dataclasses import dataclass, field

from corruptions import ALIASES, CORRUPTIONS, SETS
from corruptions.utils import cli
from utils.lazy import import_on_call
from utils.options import Option, choice
from utils.runtime.distributed import rank_and_world_size

VALIDATION_BATCH = 128  # images of each severity for an update by validation losses; never --eval_batch_size


@dataclass(frozen=True)
class Component:
    """An objective or a perturbation that can be chosen by name.

    Attributes:
        create (callable): for an objective, (num_groups, **options) to a cell; for a perturbation, (weights, seed,
            number of sub-batches, **options) to a cell or None.
        summary (str): description for the help.
        defaults (dict): options that the component reads, to their defaults. A default that depends on the data set is
            a dict. Its key 'cifar10' stands for all data sets that the dict does not name.
        needs_second_pass (bool): whether the component needs a pass at the weights before its own pass.
        reads_groups (bool): for an objective, whether it reads the samples' distributions.
        options (tuple of Option): the command line's rows of these options. A row that several components read may
            stand in any of them.
    """

    create: Callable
    summary: str
    defaults: dict = field(default_factory=dict)
    needs_second_pass: bool = False
    reads_groups: bool = False
    options: tuple = ()


def _ascent(scales):
    """Return a function that creates an ascent. Its ball scales with a weight if `scales(name)` is true."""
    def create(weights, seed, parts, rho):
        from losses.perturbations import GradientAscent
        return GradientAscent(rho, tuple(scales(weight.name) for weight in weights))
    return create


def _noise(is_multiplicative):
    def create(weights, seed, parts, sigma):
        from utils.runtime.device import hash_dtype
        from losses.perturbations import GaussianNoise
        return GaussianNoise(sigma, is_multiplicative, weights, seed, parts, rank_and_world_size(), hash_dtype())
    return create


def _objective(name):
    return import_on_call("losses.objectives", name)


def _perturbation(name):
    return import_on_call("losses.perturbations", name)


GROUP_WEIGHT_OPTIONS = (
    choice("worst_case", ("weights", "argmax"), "how the worst severity is found. weights: by weights q that "
           "move toward large losses (authors' code); argmax: the one with the largest loss (paper, Algorithm 1)"),
    Option("step_size", "step of the weights q toward large losses", cli.non_negative_float,
           requires=("worst_case", "weights", "moves weights over distributions, and --worst_case argmax chooses one; "
                     "leave one of them out")),
    choice("group_loss", ("batch", "last_seen", "validation"), "losses that move the weights q. batch: of the batch, "
           "0 for a missing severity (authors' code); last_seen: of the last batch with the severity; validation: of "
           "two thirds of the validation images"),
    Option("group_update_every", f"--group_loss validation: measure {VALIDATION_BATCH} images of each severity after "
           "every N-th batch", cli.positive_int, metavar="N",
           requires=("group_loss", "validation", "needs --group_loss validation; leave it out, or give that, too")),
    Option("group_adjustment", "add C / sqrt(n) to the loss of a severity with n training images before q "
           "moves", cli.non_negative_float, metavar="C"))
GROUP_WEIGHT_DEFAULTS = {"worst_case": "weights", "step_size": 0.01, "group_loss": "batch", "group_update_every": 50,
                         "group_adjustment": 0.0}

OOD_WEIGHT_DEFAULTS = {"ood_weights": "scaled"}
OOD_WEIGHT_OPTIONS = (choice("ood_weights", ("scaled", "plain"), "sharpdro_agnostic: how lost confidence "
                             "becomes weights. scaled: to 0..1 in each batch, then to mean 1; plain: only to mean 1 "
                             "(paper, Eq. 12)"),)

OBJECTIVES = {
    "mean": Component(lambda num_groups: _objective("Mean")(), "mean loss"),
    "group_dro": Component(_objective("GroupDRO"), "losses at all severities, weighted toward the worst",
                           GROUP_WEIGHT_DEFAULTS, reads_groups=True, options=GROUP_WEIGHT_OPTIONS),
    "irm": Component(_objective("IRM"), "losses at all severities + squared derivative by a factor on the logits",
                     {"irm_lambda": 1.0, "irm_anneal": 500}, reads_groups=True, options=(
                         Option("irm_lambda", "weight of irm's penalty; above 1 it also divides the objective",
                                cli.non_negative_float),
                         Option("irm_anneal", "number of first batches in which irm's penalty has weight 1",
                                cli.non_negative_int, metavar="N"))),
    "rex": Component(_objective("REx"), "losses at all severities + their variance", {"rex_beta": 1.0},
                     reads_groups=True, options=(
                         Option("rex_beta", "weight of rex's variance; above 1 it also divides the objective",
                                cli.non_negative_float),)),
    "sharpdro": Component(_objective("WorstGroupSharpness"),
                          "mean loss + sharpness, weighted toward the worst severity",
                          GROUP_WEIGHT_DEFAULTS, needs_second_pass=True, reads_groups=True),
    "sharpdro_agnostic": Component(lambda num_groups, ood_weights: _objective("AgnosticSharpness")(ood_weights),
                                   "mean loss + sharpness, weighted toward samples that lose confidence",
                                   OOD_WEIGHT_DEFAULTS, needs_second_pass=True, options=OOD_WEIGHT_OPTIONS),
    "ood_weighted": Component(lambda num_groups, ood_weights: _objective("OODWeightedRisk")(ood_weights),
                              "loss at the perturbed weights, weighted toward samples that lose confidence",
                              OOD_WEIGHT_DEFAULTS, needs_second_pass=True),
}

AGNOSTIC_OBJECTIVES = ("sharpdro_agnostic", "ood_weighted")  # these do without the severities

RHO = {"rho": 0.05}
RHO_OPTIONS = (Option("rho", "radius of the ascent to the perturbed weights", cli.non_negative_float),)
SIGMA_OPTIONS = (Option("sigma", "standard deviation of the noise on the weights", cli.non_negative_float),)

PERTURBATIONS = {
    "none": Component(lambda weights, seed, parts: None, "gradient at the weights"),
    "l2": Component(_ascent(lambda name: False), "ascent of length --rho along the gradient", RHO,
                    needs_second_pass=True, options=RHO_OPTIONS),
    "sign": Component(lambda weights, seed, parts, rho: _perturbation("SignAscent")(rho),
                      "ascent by --rho along the gradient's sign", RHO, needs_second_pass=True),
    "adaptive": Component(_ascent(lambda name: True), "l2 ascent scaled by the weights", RHO, needs_second_pass=True),
    "asam": Component(_ascent(_perturbation("is_weight_or_gamma")),
                      "l2 ascent scaled by the weights, biases not scaled",
                      {"rho": {"cifar10": 1.0, "cifar100": 2.0}}, needs_second_pass=True),
    "multiplicative": Component(_noise(True), "weights times normal noise of --sigma around 1",
                                {"sigma": {"cifar10": 0.2, "cifar100": 0.1}}, options=SIGMA_OPTIONS),
    "additive": Component(_noise(False), "weights plus normal noise of --sigma", {"sigma": 0.01}),
}


def num_passes(objective, perturbation):
    """Return the number of forward and backward passes of a step with an objective and a perturbation (names)."""
    parts = OBJECTIVES[objective], PERTURBATIONS[perturbation]
    return 2 if any(part.needs_second_pass for part in parts) else 1


@dataclass(frozen=True)
class DataStrategy:
    """A treatment of the training data before they reach a step.

    Attributes:
        summary (str): description for the help.
        defaults (dict): options that the strategy reads, to their defaults; the option's help explains None.
        stage_one (bool): whether the strategy uses another model, which is trained first.
        replaces_groups (bool): whether the strategy gives the samples groups other than the distributions.
        oversamples (bool): whether the strategy draws some images more often than others.
        options (tuple of Option): as in `Component`.
    """

    summary: str
    defaults: dict = field(default_factory=dict)
    stage_one: bool = False
    replaces_groups: bool = False
    oversamples: bool = False
    options: tuple = ()


STAGE_ONE_DEFAULTS = {"stage_one": None, "stage_one_epochs": None}
STAGE_ONE_OPTIONS = (
    Option("stage_one_epochs", "jtt, eiil: epochs of the first model (default: a tenth of --total_epoch, so that it "
           "still makes errors)", cli.positive_int, metavar="T"),
    Option("stage_one", "jtt, eiil: checkpoint of a first model with the same network, data and seed, such as "
           "stage_one/last_model.ckpt of an earlier run", cli.existing_file, metavar="FILE"))

DATA_STRATEGIES = {
    "plain": DataStrategy("images as they were drawn"),
    "error_set": DataStrategy("images that a first model (stage one) gets wrong are drawn --jtt_lambda times as often",
                              {**STAGE_ONE_DEFAULTS, "jtt_lambda": 10}, stage_one=True, oversamples=True, options=(
                                  *STAGE_ONE_OPTIONS,
                                  Option("jtt_lambda", "jtt: factor by which misclassified images are drawn more "
                                         "often", cli.positive_int, metavar="N"))),
    "environments": DataStrategy("two environments, inferred with a first model (stage one), take the place of the "
                                 "distributions", STAGE_ONE_DEFAULTS, stage_one=True, replaces_groups=True),
    "half_corrupted": DataStrategy("half of every batch is corrupted with --aug_corruption at severities drawn as "
                                   "--aug_severity says, which with --train_on poisson comes on top of the severities "
                                   "that images have",
                                   {"aug_corruption": None, "aug_severity": "uniform"}, options=(
                                       Option("aug_corruption", "corrupt_aug, rare_aug: corruption of half of each "
                                              "batch (default: the value of -c)",
                                              cli.names(CORRUPTIONS, SETS, aliases=ALIASES), metavar="NAME"),
                                       choice("aug_severity", ("uniform", "rare"), "severities of corrupt_aug and "
                                              "rare_aug. uniform: equally often; rare: the rarer a severity is in "
                                              "training, the more often"))),
}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that can be chosen by name.

    Attributes:
        create (callable): (weights, mask of the weights that weight decay applies to, **options) to a cell.
        summary (str): description for the help.
        defaults (dict): options that the optimizer reads, to their defaults if the recipe has another optimizer.
    """

    create: Callable
    summary: str
    defaults: dict


# The betas and eps of adamw are not options, because all published experiments have the same values.
OPTIMIZERS = {
    "sgd": Optimizer(import_on_call("losses.optimizers", "sgd"),
                     "gradient descent with --momentum; weight decay is added to the gradient",
                     {"lr": 0.1, "weight_decay": 5e-4, "weight_decay_on": "all", "momentum": 0.9, "nesterov": False}),
    "adamw": Optimizer(import_on_call("losses.optimizers", "AdamW"),
                       "Adam with betas 0.9 and 0.999 and decoupled weight decay",
                       {"lr": 0.001, "weight_decay": 0.1, "weight_decay_on": "kernels"}),
}

WEIGHT_DECAY_FILTERS = {
    "all": "all weights",
    "kernels": "weights of convolutions and dense layers only",
}
