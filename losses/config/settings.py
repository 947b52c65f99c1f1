"""From what a user asks for to settings that leave nothing open."""
import numbers
from dataclasses import dataclass, fields

from dataset.poisson import TRAIN_ON
from losses.config.recipes import RECIPES
from losses.methods import (
    CROPS,
    DATA_STRATEGIES,
    METHOD_OPTIONS,
    METHODS,
    OBJECTIVES,
    OPTIMIZERS,
    PERTURBATIONS,
    SAMPLERS,
    SAMPLINGS,
    WEIGHT_DECAY_FILTERS,
    default_for_dataset,
    default_options,
)
from losses.schedules import SCHEDULES, warmup_epochs
from utils.cli import FLOAT32_MAX
from utils.errors import UserError
from utils.runtime import distributed


@dataclass(frozen=True)
class MethodConfig:
    """A method and how it is trained. Fields and the keys of `options` are named as the options of `main.py`.

    Attributes:
        method, objective, perturbation (str): keys of the tables in `losses/methods.py`.
        recipe (str): a key of `losses.config.recipes.RECIPES`.
        total_epoch, batch_size, lr, schedule, warmup, final_lr, optimizer, momentum, nesterov, clip_norm, weight_decay,
            decay, num_sub_batches, sync_bn: the training's; None where the schedule or the optimizer does not read it.
        train_on (str): a key of `TRAIN_ON`; of no effect where a table says which images are trained on.
        draw, crop, sampling (str): keys of `SAMPLERS`, `CROPS`, `SAMPLINGS`.
        options (dict): the options that the parts of the method read, to their values.
    """

    method: str
    objective: str
    perturbation: str
    recipe: str
    total_epoch: int
    batch_size: int
    lr: float
    schedule: str
    warmup: str | None
    final_lr: float | None
    optimizer: str
    momentum: float | None
    nesterov: bool | None
    clip_norm: float
    weight_decay: float
    decay: str
    num_sub_batches: int
    sync_bn: bool
    train_on: str
    draw: str
    crop: str
    sampling: str
    options: dict

    @classmethod
    def of(cls, values):
        """Settings from the values of all options (dict), as `flat` gives them."""
        defaults = default_options(values["method"], values["objective"], values["perturbation"])
        own = {field.name: values[field.name] for field in fields(cls) if field.name != "options"}
        options = {option: values[option] for option in defaults}
        # An option is None, too, where the run was begun before there was such an option.
        options.update({option: default_for_dataset(defaults[option], values.get("dataset", "cifar10"))
                        for option, value in options.items() if value is None})
        return cls(**own, options=options)

    def flat(self):
        """All options to their values, None for those that the method does not read."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "options"}
        return {**own, **dict.fromkeys(METHOD_OPTIONS), **self.options}

    @property
    def data(self):
        """Name of what is done to the data, a key of `DATA_STRATEGIES`."""
        return METHODS[self.method].data

    @property
    def step_options(self):
        """The options that the objective and the perturbation read, to their values."""
        names = {**OBJECTIVES[self.objective].defaults, **PERTURBATIONS[self.perturbation].defaults}
        return {option: self.options[option] for option in names}

    @property
    def training(self):
        """What a recipe sets, to its values, but for what the optimizer or the schedule does not read."""
        values = {option: getattr(self, option) for option in TRAINING_OPTIONS}
        return {option: value for option, value in values.items() if value is not None}

    @property
    def optimizer_options(self):
        """The options that the optimizer reads, to their values, but for which weights weight decay is for."""
        return {option: getattr(self, option) for option in OPTIMIZERS[self.optimizer].defaults if option != "decay"}

    @property
    def schedule_options(self):
        """The options that the schedule reads, to their values."""
        return {option: getattr(self, option) for option in SCHEDULES[self.schedule].defaults}

    @property
    def passes(self):
        """Forward and backward passes of a step."""
        parts = OBJECTIVES[self.objective], PERTURBATIONS[self.perturbation]
        return 2 if any(part.second_pass for part in parts) else 1

    @property
    def title(self):
        """The method's name, or the pair that replaces it; --distribution_agnostic makes the method of that name."""
        row, agnostic = METHODS[self.method], METHODS["sharpdro_agnostic"]
        if (self.objective, self.perturbation) == (row.objective, row.perturbation):
            return self.method
        if self.method == "sharpdro" and (self.objective, self.perturbation) == (agnostic.objective,
                                                                                 agnostic.perturbation):
            return "sharpdro_agnostic"
        pair = f"{self.objective} x {self.perturbation}"
        return pair if self.data == "plain" else f"{self.method} {pair}"


CHOICES = {"method": METHODS, "objective": OBJECTIVES, "perturbation": PERTURBATIONS, "recipe": RECIPES,
           "sampling": SAMPLINGS, "schedule": SCHEDULES, "optimizer": OPTIMIZERS, "decay": WEIGHT_DECAY_FILTERS,
           "train_on": TRAIN_ON, "draw": SAMPLERS, "crop": CROPS,
           "risk": ("mean", "worst_case"), "group_loss": ("batch", "last_seen", "validation"),
           "worst_case": ("weights", "argmax"), "ood_weights": ("scaled", "plain"), "aug_severity": ("uniform", "rare")}
RELEASE_ALIASES = ("is_adaptive", "distribution_agnostic", "risk")
LEAST = 1.2e-38  # positive number of float32 that is not rounded to 0 on some devices
# What has options of its own, to its table.
TRAINING_PARTS = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
TRAINING_OPTIONS = tuple(dict.fromkeys([*RECIPES["sharpdro"].training, *(
    option for table in TRAINING_PARTS.values() for row in table.values() for option in row.defaults)]))
OPTIONS = ("objective", "perturbation", "recipe", "sampling", *RELEASE_ALIASES, *TRAINING_OPTIONS, *METHOD_OPTIONS)
# An option that acts where another has one value alone: the other, the value, and what is said where it has not.
DEPENDENT_OPTIONS = {
    "step_size": ("worst_case", "weights", "moves weights over distributions, and --worst_case argmax chooses one; "
                  "leave one of them out"),
    "group_every": ("group_loss", "validation", "is about --group_loss validation; leave it out, or give that, too"),
}


def resolve(method="sharpdro", dataset="cifar10", sync_perturbation=None, **given):
    """Fill in what is not given from the tables.

    Args:
        method (str): a key of `METHODS`.
        dataset (str): some defaults depend on it.
        sync_perturbation (bool or None): of several workers, whether their ascents are one; where it is false, each has
            sub-batches of its own.
        given: options of `OPTIONS`, to their values.

    Returns:
        MethodConfig

    Raises:
        UserError: an unknown option or name, options that exclude each other, or one that has no effect.
    """
    for option, value in {"method": method, **given}.items():
        if option != "method" and option not in OPTIONS:
            raise UserError(f"{option}: unknown; there are method, {', '.join(OPTIONS)}")
        if option in CHOICES and value not in CHOICES[option]:
            raise UserError(f"--{option} {value}: unknown; there are {', '.join(CHOICES[option])}")
    row = METHODS[method]
    objective, perturbation = _resolve_components(given.get("objective", row.objective),
                                                  given.get("perturbation", row.perturbation), given)
    recipe = given.get("recipe", row.recipe)
    own = RECIPES[recipe].methods.get(method, {})
    values = _resolve_training(recipe, own, dataset, given)
    if perturbation == "none" and "num_sub_batches" not in given:
        values["num_sub_batches"] = 1
    if values["num_sub_batches"] == 1 and distributed.world_size() == 1 and "sync_bn" not in given:
        values["sync_bn"] = False
    if sync_perturbation is not None:
        _check_ascents(sync_perturbation, perturbation, values["num_sub_batches"])
        if not sync_perturbation:
            values["num_sub_batches"] = distributed.world_size()
    if values["nesterov"] and values["momentum"] == 0:
        if "nesterov" in given:
            raise UserError("--nesterov: is a form of momentum, and --momentum is 0; leave one of them out")
        values["nesterov"] = False
    if "crop" not in given and values["crop"] == "resized" and values["train_on"] != "clean":
        values["crop"] = "none"  # corrupted images are cropped before they are corrupted
    if "draw" not in given and (values["sampling"] == "balanced" or DATA_STRATEGIES[row.data].repeats):
        values["draw"] = "replacement"
    defaults = default_options(method, objective, perturbation)
    if perturbation == row.perturbation:
        defaults.update({option: value for option, value in own.items() if option in defaults})
    options = {option: given.get(option, default_for_dataset(value, dataset)) for option, value in defaults.items()}
    settings = MethodConfig(method, objective, perturbation, recipe, options=options, **values)
    _check(settings, given)
    if DATA_STRATEGIES[row.data].stage_one and options["stage_one"] is None and options["stage_one_epochs"] is None:
        options["stage_one_epochs"] = max(1, values["total_epoch"] // 10)
    return settings


def _check_ascents(sync_perturbation, perturbation, sub_batches):
    """Refuse a word about the ascents of several workers where it has no effect."""
    flag = "--sync_perturbation" if sync_perturbation else "--no-sync_perturbation"
    if distributed.world_size() == 1:
        raise UserError(f"{flag}: is about the ascents of several workers, and there is one; leave it out")
    if "rho" not in PERTURBATIONS[perturbation].defaults:
        raise UserError(f"{flag}: is about ascents, and --perturbation {perturbation} is none; leave it out")
    if sub_batches > 1:
        raise UserError(f"{flag}: each of {sub_batches} sub-batches has an ascent of its own; leave it out, or give "
                        "--num_sub_batches 1")


def check_workers(settings, batch_size=None):
    """Make sure that the workers that train together can share a batch.

    Args:
        settings (MethodConfig): of the training.
        batch_size (int or None): images in a batch, if that is known.

    Raises:
        UserError: they cannot.
    """
    count, parts = distributed.world_size(), settings.num_sub_batches
    if count == 1:
        return
    if (batch_size or count) % count:
        raise UserError(f"-b {batch_size}: is the batch of all {count} workers, who do not divide it; give a multiple "
                        "of their number")
    if parts == 1 and "sigma" in PERTURBATIONS[settings.perturbation].defaults:
        raise UserError(f"--num_sub_batches 1: {count} workers have a noise each; give --num_sub_batches {count}, or "
                        "a multiple of that")
    if parts > 1 and parts % count:
        raise UserError(f"--num_sub_batches {parts}: cannot be shared by {count} workers; give a multiple of their "
                        "number, or train with as many workers as divide it")


def used_by(table, option):
    """Names of the rows of a table whose `defaults` have an option."""
    return [name for name, row in table.items() if option in row.defaults]


def chosen_name(part, given, recipe):
    """Name of the optimizer or the schedule (`part`, a key of `TRAINING_PARTS`) that is given, or is the recipe's."""
    return given.get(part, RECIPES[recipe].training[part])


def _resolve_training(recipe, own, dataset, given):
    """The training settings: those that are given, or else the recipe's for the method (`own`), or for all; of an
    optimizer or a schedule that takes the place of the recipe's, its own defaults; None for options that these two do
    not read.
    """
    training = RECIPES[recipe].training
    values = {option: default_for_dataset(value, dataset) for option, value in training.items()}
    values.update({option: value for option, value in own.items() if option in values})
    for part, table in TRAINING_PARTS.items():
        name = chosen_name(part, given, recipe)
        defaults = table[name].defaults
        values = {**defaults, **values} if name == training[part] else {**values, **defaults}
        values.update({option: None for row in table.values() for option in row.defaults if option not in defaults})
    values.update({option: value for option, value in given.items() if option in values}, sampling=given.get(
        "sampling", "uniform"))
    return values


def _resolve_components(objective, perturbation, given):
    """Replace an objective and a perturbation by the variants that are asked for."""
    agnostic, risk = given.get("distribution_agnostic", False), given.get("risk", "mean")
    if given.get("is_adaptive", False):
        if perturbation not in ("l2", "adaptive"):
            raise UserError(f"--is_adaptive: scales an l2 ascent, not {perturbation}; use --perturbation l2")
        perturbation = "adaptive"
    if agnostic and risk == "worst_case":
        raise UserError("--risk worst_case: needs known distributions; leave out --distribution_agnostic")
    is_agnostic = agnostic and objective == "sharpdro_agnostic" and "risk" not in given  # said twice
    if (agnostic or "risk" in given) and objective != "sharpdro" and not is_agnostic:
        flag = "--distribution_agnostic" if agnostic else f"--risk {risk}"
        raise UserError(f"{flag}: is a variant of sharpdro, not of {objective}; use --method sharpdro")
    if agnostic:
        objective = "sharpdro_agnostic"
    elif risk == "worst_case":
        # With both terms over Q (Eq. 10, 12), their sum is the Q-weighted loss at the perturbed weights.
        objective = "group_dro"
    return objective, perturbation


def takes_effect(option, options):
    """Whether an option of a method does anything beside the values of all its options (dict)."""
    if option not in DEPENDENT_OPTIONS:
        return True
    other, value, _ = DEPENDENT_OPTIONS[option]
    return options[other] == value


def _check(settings, given):
    """Refuse an option that is given and not read, and parts of which one makes another useless."""
    unused = [option for option in given if option in METHOD_OPTIONS and option not in settings.options]
    if unused:
        users = ", ".join(name for name in METHODS if unused[0] in default_options(name))
        raise UserError(f"--{unused[0]}: {settings.title} does not use it, of the methods only {users}; leave it out")
    for part, table in TRAINING_PARTS.items():
        name = getattr(settings, part)
        for option in given:
            users = used_by(table, option)
            if users and name not in users:
                raise UserError(f"--{option}: --{part} {name} does not use it, only {', '.join(users)}; leave it out")
    for option, value in {**vars(settings), **settings.options}.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if is_number and not (value == 0 or LEAST <= value <= FLOAT32_MAX):
            raise UserError(f"--{option} {value}: is no number of float32, in which networks are trained; give one "
                            f"from {LEAST} to {FLOAT32_MAX}")
    if not settings.lr:
        raise UserError("--lr 0: trains nothing; give a number above 0")
    if "irm_anneal" in given and settings.options["irm_lambda"] == 1:
        raise UserError(f"--irm_anneal {given['irm_anneal']}: lambda is 1 before and after; leave it out, or give "
                        "--irm_lambda, too")
    if settings.warmup is not None:
        warmup_epochs(settings.warmup, 1)  # refuses what is no length
    if settings.final_lr is not None and settings.final_lr > settings.lr:
        raise UserError(f"--final_lr {settings.final_lr}: is above --lr {settings.lr}, from which it falls; give less")
    if "decay" in given and settings.weight_decay == 0:
        raise UserError(f"--decay {settings.decay}: there is no weight decay; leave it out, or give --weight_decay")
    if "sync_bn" in given and settings.num_sub_batches == distributed.world_size() == 1:
        flag = "--sync_bn" if settings.sync_bn else "--no-sync_bn"
        raise UserError(f"{flag}: is about several sub-batches, and there is one; leave it out, or give "
                        "--num_sub_batches")
    if "stage_one" in given and "stage_one_epochs" in given:
        raise UserError("--stage_one_epochs: no first model is trained where --stage_one names one; leave one out")
    for option, (_, _, reason) in DEPENDENT_OPTIONS.items():
        if option in given and not takes_effect(option, settings.options):
            raise UserError(f"--{option}: {reason}")
    if settings.options.get("group_loss") == "validation" and DATA_STRATEGIES[settings.data].sets_groups:
        raise UserError(f"--group_loss validation: validation images have severities, not the environments of "
                        f"{settings.method}; leave it out")
    if DATA_STRATEGIES[settings.data].sets_groups and not OBJECTIVES[settings.objective].reads_groups:
        readers = ", ".join(name for name, part in OBJECTIVES.items() if part.reads_groups)
        raise UserError(f"--objective {settings.objective}: does not look at the environments that {settings.method} "
                        f"finds; use one of {readers}")
    if settings.draw == "permutation" and settings.sampling == "balanced":
        raise UserError("--draw permutation: passes over every image once, and --sampling balanced draws those of rare "
                        "severities more often; leave out one of them")
    if settings.draw == "permutation" and DATA_STRATEGIES[settings.data].repeats:
        raise UserError(f"--draw permutation: passes over every image once, and {settings.method} draws some images "
                        "more often; leave it out")
    if settings.objective == "sharpdro_agnostic" and settings.sampling == "balanced":
        raise UserError("--sampling balanced: uses the severities that distribution-agnostic training does without; "
                        "leave it out")
