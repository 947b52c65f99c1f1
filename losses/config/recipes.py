"""Training settings of the published experiments, one row each."""
import textwrap
from dataclasses import dataclass, field

from losses.methods import default_for_dataset
from utils.options import option_words

SPLIT_OPTIONS = {"num_per_class", "num_val", "split"}  # the options that choose the training images


@dataclass(frozen=True)
class Recipe:
    """The settings of `--recipe`. Given options take precedence over a recipe.

    Attributes:
        title (str): name of the experiment, for the list.
        training (dict): options of the training to their defaults, as in `losses.components.Component`; other options
            have the default of the optimizer or schedule.
        benchmark (dict): `dataset` and `model`, if the recipe is for one data set and one network.
        methods (dict): methods to their own options in this experiment, which are dicts of options to defaults.
        data (dict): options of the data to their values, for the data set of the recipe.
    """

    title: str
    training: dict
    benchmark: dict = field(default_factory=dict)
    methods: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)

    def options_beside(self, given):
        """Return `benchmark` and, for its data set, `data`: what the recipe sets beside given options (dict).

        `val_fraction` is left out if given options choose the training images otherwise.
        """
        options = dict(self.benchmark)
        if given.get("dataset", options.get("dataset")) == options.get("dataset"):
            options |= self.data
        if SPLIT_OPTIONS & given.keys() or given.get("train_on", "clean") != "clean":
            options.pop("val_fraction", None)
        return options

    @property
    def settings(self):
        """The options that the recipe sets for every method, with the defaults of its data set, if it has one."""
        dataset = self.benchmark.get("dataset")
        training = {option: value if dataset is None else default_for_dataset(value, dataset)
                    for option, value in self.training.items()}
        return {**self.benchmark, **self.data, **training}


SHARPDRO = {"total_epoch": 200, "batch_size": 100, "lr": 0.1, "schedule": "step", "optimizer": "sgd", "nesterov": False,
            "clip_norm": 0.0, "weight_decay": 5e-4, "weight_decay_on": "all", "num_sub_batches": 1, "sync_bn": False,
            "train_on": "poisson", "sampler": "replacement", "crop": {"cifar10": "none", "imagenet": "random_resized"}}
DAMP = {**SHARPDRO, "total_epoch": 300, "batch_size": 128, "schedule": "linear", "nesterov": True, "num_sub_batches": 8,
        "sync_bn": True, "train_on": "clean", "sampler": "permutation",
        "crop": {"cifar10": "zero_pad", "imagenet": "random_resized"}}
IMAGENET = {**DAMP, "schedule": "cosine", "weight_decay_on": "kernels", "crop": "random_resized"}
VIT = {option: value for option, value in {**IMAGENET, "sync_bn": False, "crop_area": [0.05, 1.0]}.items()
       if option != "nesterov"}
ADVANCED = {"rand_augment": [2, 10], "mixup": 0.8}  # the authors' `advanced_augmentation`
VIT_16 = {**VIT, "batch_size": 1024, "lr": 0.001, "warmup": "10000steps", "final_lr": 0.0, "optimizer": "adamw",
          "clip_norm": 1.0, "weight_decay": 0.1}
ALL_IMAGES = {"val_fraction": 0.0}  # as in the authors' configurations; they tuned with a tenth for validation
BICUBIC = {**ALL_IMAGES, "interpolation": "bicubic"}
VIT_DATA = {**BICUBIC, "mean": [0.5], "std": [0.5]}
NO_SYNC_BN = {"sync_bn": False}  # as in the authors' configurations of SAM and ASAM for these two networks


def _sharpdro(dataset, tables):
    """Return an experiment of Huang 2023; its ablation trains SAM with the rho of SharpDRO."""
    return Recipe(f"Huang 2023, {tables}", SHARPDRO, {"dataset": dataset, "model": "wideresnet"},
                  {"sam": {"rho": 0.05}})


def _damp(title, training, dataset, model, damp, sam, asam, data=ALL_IMAGES):
    """Return an experiment of Trinh 2024, with each method's own options."""
    return Recipe(f"Trinh 2024, {title}", training, {"dataset": dataset, "model": model},
                  {"damp": damp, "sam": sam, "asam": asam}, data)


RECIPES = {
    "sharpdro": Recipe("Huang 2023, for any data set and network", SHARPDRO),
    "damp": Recipe("Trinh 2024 as on CIFAR, for any data set and network", DAMP),
    "sharpdro/cifar10": _sharpdro("cifar10", "Tables 1, 2 and 3"),
    "sharpdro/cifar100": _sharpdro("cifar100", "Tables 1 and 2"),
    "sharpdro/imagenet30": _sharpdro("imagenet30", "Tables 1 and 2"),
    "damp/cifar10": _damp("Figures 2, 3 and 4", DAMP, "cifar10", "resnet18_cifar",
                          {"sigma": 0.2}, {"rho": 0.045}, {"rho": 1.0}),
    "damp/cifar100": _damp("Figures 1, 2 and 3", DAMP, "cifar100", "resnet18_cifar",
                           {"sigma": 0.1}, {"rho": 0.06}, {"rho": 2.0}),
    "damp/tinyimagenet": _damp("Figures 2, 3 and 5", {**DAMP, "total_epoch": 150, "weight_decay": 2.5e-4},
                               "tinyimagenet", "preactresnet18", {"sigma": 0.2}, {"rho": 0.2, **NO_SYNC_BN},
                               {"rho": 3.0, **NO_SYNC_BN}),
    "damp/imagenet": _damp("Table 1",
                           {**IMAGENET, "total_epoch": 90, "batch_size": 2048, "lr": 0.8, "warmup": "5epochs",
                            "final_lr": 8e-4, "weight_decay": 1e-4},
                           "imagenet", "resnet50_damp", {"sigma": 0.1}, {"rho": 0.05, **NO_SYNC_BN},
                           {"rho": 1.5, **NO_SYNC_BN}, BICUBIC),
    "damp/imagenet-vit_s16": _damp("Table 2", {**VIT_16, "total_epoch": 200}, "imagenet", "vit_s16", {"sigma": 0.25},
                                   {"rho": 0.6, "total_epoch": 100}, {"rho": 3.0, "total_epoch": 100}, VIT_DATA),
    "damp/imagenet-vit_s16-advanced": _damp("configurations advancedaug", {**VIT_16, **ADVANCED, "total_epoch": 500},
                                            "imagenet", "vit_s16", {"sigma": 0.1}, {"rho": 0.015, "total_epoch": 300},
                                            {"rho": 0.4, "total_epoch": 300}, VIT_DATA),
    "damp/imagenet-vit_b16-advanced": _damp("configurations advancedaug", {**VIT_16, **ADVANCED, "total_epoch": 300},
                                            "imagenet", "vit_b16", {"sigma": 0.15}, {"rho": 0.025, "total_epoch": 150},
                                            {"rho": 0.6, "total_epoch": 150}, VIT_DATA),
}


def format_value(value):
    """Return a default, or a value, as text: 'yes', 'zero_pad (imagenet: random_resized)', '20 50'."""
    if isinstance(value, dict):
        rest = ", ".join(f"{dataset}: {default}" for dataset, default in value.items() if dataset != "cifar10")
        return f"{value['cifar10']} ({rest})"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def option_texts(options):
    """Return options (dict) as texts, such as '--keep_epochs 20 50'; a dict of defaults is as in `format_value`."""
    return [" ".join(option_words(option, format_value(value) if isinstance(value, dict) else value))
            for option, value in options.items()]


def wrapped(texts):
    """Return the texts one after the other in lines of 80 characters; no text is broken."""
    lines = textwrap.wrap(" ".join(text.replace(" ", "\0") for text in texts), 80, initial_indent="  ",
                          subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def recipes_table():
    """Return the recipes for the README, in Markdown: a table of the experiments, then a block of the options."""
    lines, block = ["| `--recipe` | experiment | for one method |", "| --- | --- | --- |"], []
    for name, recipe in RECIPES.items():
        by_method = "; ".join(f"{method} `{' '.join(option_texts(options))}`"
                              for method, options in recipe.methods.items())
        lines.append(f"| `{name}` | {recipe.title} | {by_method} |")
        family, is_special, _ = name.partition("/")
        general = RECIPES[family].training if is_special else {}
        dataset = recipe.benchmark.get("dataset")
        sets = {option: value for option, value in recipe.settings.items()
                if option not in general or default_for_dataset(general[option], dataset) != value}
        block += [f"{name}: as {family}, and" if is_special else f"{name}:", *wrapped(option_texts(sets))]
    return "\n".join([*lines, "", "```", *block, "```"]) + "\n"
