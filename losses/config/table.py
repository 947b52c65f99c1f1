"""The options of main.py, one row each. Their choices and defaults come from the tables of methods and recipes.

The parser, the settings of a method, the check of a saved `config.json` and the key of compiled steps follow from these
rows. The options of objectives, perturbations and data strategies are in `losses/components.py`.
"""
import argparse
import os
from dataclasses import replace
from fractions import Fraction
from functools import partial

from corruptions import ALIASES, CORRUPTIONS, SETS
from corruptions.severities import SEVERITIES
from corruptions.utils import cli
from dataset import SOURCE_OPTIONS, SOURCES, datasets_list
from dataset.corrupted import STORAGE_MODES
from dataset.poisson import TRAIN_ON
from dataset.sampling import CROP_AREA, CROP_MODES, INTERPOLATIONS, SAMPLERS, SAMPLINGS
from losses.components import DATA_STRATEGIES, OBJECTIVES, OPTIMIZERS, PERTURBATIONS, WEIGHT_DECAY_FILTERS
from losses.config.published import recipes_list
from losses.config.recipes import RECIPES, format_value
from losses.methods import METHOD_OPTIONS, METHODS, methods_list
from losses.schedules import SCHEDULES
from models import FAMILIES, MODELS, find_model, models_list
from utils.metrics import SHARPNESS_IMAGES, SHARPNESS_RHO
from utils.options import Option, OptionGroup, choice, new_value
from utils.records.settings import NEWEST
from utils.shared_options import DEVICE, DEVICE_OPTIONS, data_options

# These parts of a training have options of their own.
TRAINING_PARTS = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}


def severity(text):
    """An argument type: a severity, 1 to 5."""
    if text not in map(str, SEVERITIES):
        raise argparse.ArgumentTypeError(f"{text!r} is no severity, which are {', '.join(map(str, SEVERITIES))}")
    return int(text)


def epsilon(text):
    """An argument type: the strength of an attack, 0 to 1, as a number or a fraction such as 2/255."""
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1, such as 2/255")
    return value


def _component_default(option):
    """Return the default of an option of methods, as text; several defaults are listed with their methods or parts."""
    defaults = {name: part.defaults[option] for table in (OBJECTIVES, PERTURBATIONS)
                for name, part in table.items() if option in part.defaults}
    # No option chooses the data strategy, so the text names the methods with this strategy.
    defaults.update({name: DATA_STRATEGIES[row.data].defaults[option] for name, row in METHODS.items()
                     if option in DATA_STRATEGIES[row.data].defaults})
    defaults.update({name: row.defaults[option] for name, row in METHODS.items() if option in row.defaults})
    if not any(value is not None for value in defaults.values()):  # the help explains it
        return ""
    if len(set(map(str, defaults.values()))) == 1:
        return f" (default: {next(iter(defaults.values()))})"
    texts = []
    for name, value in defaults.items():
        values = value if isinstance(value, dict) else {"": value}
        texts += [f"{number} for {name}{dataset and ' on ' + dataset}" for dataset, number in values.items()]
    return f" (default: {', '.join(texts)})"


def _recipe_default(option):
    """Return the default of an option of the training, as text.

    The text has the defaults of the two general recipes, and the defaults with an optimizer or a schedule that replaces
    the recipe's.
    """
    values = {name: format_value(recipe.training[option]) for name, recipe in RECIPES.items()
              if not recipe.benchmark and option in recipe.training}
    texts = [f"{value} of recipe {name}" for name, value in values.items()]
    if len(set(values.values())) == 1:
        texts = [next(iter(values.values()))]
    for part, table in TRAINING_PARTS.items():
        rows = {name: format_value(row.defaults[option]) for name, row in table.items() if option in row.defaults}
        if len(rows) == 1 and not values:  # the option's help names the row
            return f" (default: {next(iter(rows.values()))})"
        texts += [f"{value} with --{part} {name}" for name, value in rows.items() if value not in values.values()]
    return f" (default: {', '.join(texts)})"


def _training_option(name, help, kind=str, **more):
    """Return an option with its default from the recipe."""
    return Option(name, help + _recipe_default(name), kind, is_grid=True, **more)


def _training_choice(name, table, before="", **more):
    """Return an option with its default from the recipe, for names from a table, with the summary of each name."""
    return _training_option(name, before + cli.listing(table), choices=table, metavar="NAME", **more)


DATA = data_options(SOURCES, datasets_list, CORRUPTIONS, STORAGE_MODES, SETS, ALIASES)
DATA.options.append(Option("split", "table of severities to use instead of drawing one: split.csv of an earlier run or "
                           "of dataset/prepare_dataset.py", metavar="FILE"))
DATA.options.extend([
    Option("mean", "mean of the channels red, green and blue, or one for all, of values in 0..1, with which images are "
           "normalised (default: that of the data set)", cli.share, metavar="X", nargs="+"),
    Option("std", "their standard deviation, likewise", cli.positive_share, metavar="X", nargs="+"),
    choice("interpolation", INTERPOLATIONS, "-d folder, imagenet: how images are scaled (default: bilinear)")])

NETWORK = OptionGroup("network and device", [
    Option("model", f"network: {', '.join(MODELS)}, {FAMILIES}; list says what they are",
           cli.or_list(models_list, cli.validated_by(find_model)), "wideresnet", metavar="NAME", short="-m",
           is_grid=True),
    *DEVICE])

METHOD = OptionGroup("method", [
    Option("method", f"{', '.join(METHODS)}; list explains them and their parts", cli.or_list(methods_list), "sharpdro",
           METHODS, "NAME", is_grid=True),
    choice("objective", OBJECTIVES, "what is minimised, instead of the method's", is_grid=True, in_graph=True),
    choice("perturbation", PERTURBATIONS, "where the gradient is taken, instead of the method's", is_grid=True,
           in_graph=True),
    Option("sampling", cli.listing(SAMPLINGS), default="uniform", choices=SAMPLINGS, metavar="NAME", is_grid=True),
    Option("distribution_agnostic", "the release's name for --method sharpdro_agnostic", bool, False),
    Option("is_adaptive", "scale the l2 ascent by the weights, as the release", bool, False),
], "A method is an objective x a perturbation of the weights, some on data that are treated first. An option that it "
   "does not read is an error.")

# Several components read the same option, and the help lists each option once, with its default.
_ROWS = {option.name: option for table in (PERTURBATIONS, OBJECTIVES, DATA_STRATEGIES)
         for component in table.values() for option in component.options}
COMPONENTS = OptionGroup("options of some methods", [
    *(replace(option, help=option.help + _component_default(option.name), is_grid=True) for option in _ROWS.values()),
    choice("risk", ("mean", "worst_case"), "sharpdro, sharpdro_agnostic: first term, the mean loss (the release), or "
           "weighted like the second (the paper's Eq. 10 and 12)", default="mean", is_grid=True)])

_USERS = {recipe: [name for name, method in METHODS.items() if method.recipe == recipe] for recipe in RECIPES}

TRAINING = OptionGroup("training", [
    Option("recipe", "settings of a published experiment, which any option overrides; those with a / set data set and "
           f"network, too (in a --variant they do not): {', '.join(RECIPES)}; list shows what they set and the "
           "published numbers (default: " + "; ".join(f"{recipe} for {', '.join(users)}"
                                                      for recipe, users in _USERS.items() if users) +
           "; a comparison takes sharpdro for all)", cli.or_list(recipes_list), choices=RECIPES, metavar="NAME"),
    _training_option("total_epoch", "epochs", cli.positive_int, metavar="N"),
    _training_option("batch_size", "training images in a batch, of all workers together", cli.positive_int, metavar="N",
                     short="-b", in_graph=True),
    _training_option("lr", "learning rate, the highest of the schedule", cli.positive_float),
    _training_choice("schedule", SCHEDULES),
    _training_option("warmup", "cosine: epochs or steps in which the learning rate first rises from a thousandth of "
                     "--lr, such as 5epochs or 10000steps", metavar="LENGTH"),
    _training_option("final_lr", "cosine: learning rate at the end", cli.non_negative_float),
    _training_choice("optimizer", OPTIMIZERS, in_graph=True),
    _training_option("momentum", "of sgd", cli.fraction, in_graph=True),
    Option("nesterov", "Nesterov's momentum, of sgd" + _recipe_default("nesterov"), bool, in_graph=True),
    _training_option("clip_norm", "scale the gradient of a batch, before weight decay, down to this norm where it is "
                     "longer; 0 leaves it", cli.non_negative_float, metavar="C", in_graph=True),
    _training_option("weight_decay", "l2 penalty on weights", cli.non_negative_float, in_graph=True),
    _training_choice("weight_decay_on", WEIGHT_DECAY_FILTERS, "what weight decay is for. ", in_graph=True),
    _training_option("num_sub_batches", "parts of a batch, each with its own perturbation; 1 where there is none",
                     cli.positive_int, metavar="M", in_graph=True),
    Option("sync_perturbation", "several workers of msrun climb along the gradient of the whole batch (default), or "
           "each along that of its own part, as with as many --num_sub_batches", bool),
    Option("sync_bn", "BatchNorm's statistics are those of all sub-batches together, each seen through its own "
           "weights, and of all workers" + _recipe_default("sync_bn"), bool, in_graph=True),
    _training_choice("train_on", TRAIN_ON),
    _training_choice("sampler", SAMPLERS),
    _training_choice("crop", CROP_MODES, "training images are flipped, and cropped. ", kind=partial(new_value, "crop")),
    Option("crop_area", "--crop random_resized: least and largest area of the part, as shares of the image (default: "
           f"{format_value(list(CROP_AREA))})", cli.positive_share, metavar="A", nargs=2),
    Option("rand_augment", "RandAugment: N operations of strength M on every training image, such as 2 10 (default: "
           "none; 0 0 switches off a recipe's)", cli.non_negative_int, metavar="N M", nargs=2),
    Option("mixup", "mix every training image with another of its batch; L is the weight of the image itself and of "
           "its label, 0.5 or more (default: none; 1 switches off a recipe's)", cli.positive_share, metavar="L",
           in_graph=True),
    Option("accumulate", "cut a batch into N parts that go through the network one after the other; the gradient is "
           "that of the whole batch, the memory that of a part, and forward passes double (default: 1)",
           cli.positive_int, metavar="N", in_graph=True),
    Option("amp", "mixed precision: float16 convolutions and products, with dynamic loss scaling; evaluations stay "
           "float32", bool, in_graph=True),
    Option("label_smoothing", "spread a share S of every label over all classes (default: none)", cli.fraction,
           metavar="S", in_graph=True),
    Option("augment_data", "the release's name for --crop reflect_pad", bool, False),
], "Defaults are those of the recipe.")

RUN = OptionGroup("run and records", [
    Option("config", "JSON or YAML file of options, such as a config.json", metavar="FILE"),
    Option("log_dir", "folder for the folders of runs", default="./logs", metavar="DIR"),
    Option("desc", "first part of the name of the run's folder", default="none"),
    Option("resume", "resume the run in FOLDER from its newest checkpoint, with its own settings, or, without "
           "FOLDER, with the newest run of these settings in --log_dir; a larger --total_epoch makes it longer",
           metavar="FOLDER", nargs="?", const=NEWEST),
    Option("init_checkpoint", "start from the weights in FILE: a .ckpt, or of PyTorch a state_dict in a .pth or "
           ".safetensors; a classifier for other classes starts afresh. The first model of jtt and eiil starts from "
           "them, too", cli.existing_file, metavar="FILE"),
    Option("eval_every", "evaluate after every N-th epoch, and after the last", cli.positive_int, 1, metavar="N"),
    Option("eval_batch_size", "images in a batch of an evaluation", cli.positive_int, 128, metavar="N"),
    Option("log_train", "write a row of train.csv at every N-th batch of an epoch, and at its last", cli.positive_int,
           100, metavar="N"),
    Option("log_sharpness", "after every N-th epoch and the last, measure how much the loss of "
           f"{SHARPNESS_IMAGES} test images of each severity rises within {SHARPNESS_RHO} of the weights",
           cli.positive_int, metavar="N"),
    Option("record_norm", "measure the norm of the loss's gradient at each severity (gradnorm_k), which makes "
           "evaluations take four times as long", bool, False),
    Option("tensorboard", "write TensorBoard's format, too, into the run's folder tensorboard", bool, False),
    Option("keep_last", "there is a checkpoint after every epoch; keep the N newest, from which --resume starts",
           cli.positive_int, 2, metavar="N"),
    Option("checkpoint_every", "a checkpoint at every N-th batch of an epoch, too", cli.positive_int, metavar="N"),
    Option("save_step", "keep the checkpoint after the first epoch and after every N-th epoch from there, too",
           cli.positive_int, 50, metavar="N"),
    Option("keep_epochs", "keep the checkpoints after these epochs, too, counted from 0", cli.non_negative_int, [],
           metavar="N", nargs="+"),
    Option("save_last", "keep the newest one as last_model.ckpt, too", bool, False),
    Option("save_best", "keep the one with the best validation accuracy as best_model.ckpt, too", bool, False),
    choice("best_by", ("mean", "worst"), "--save_best: the mean accuracy over severities, or that at the worst one",
           default="mean"),
    Option("compile_cache", "keep the compiled step in DIR, so that the next run with the same settings starts sooner",
           os.path.abspath, metavar="DIR"),
], "utils/README.md lists the files that a run leaves.")

COMPARISON = OptionGroup("comparison", [
    Option("variant", "a row beside those of --method, with options of its own; repeat it for more", default=[],
           metavar="'NAME: OPTIONS'", is_repeatable=True),
    Option("jobs", "runs at a time, each in a process of its own; does not change results", cli.workers, 1,
           metavar="J"),
], "Of all values of options that have several, and of variants. Given again, the same command resumes it.")

EVALUATION = OptionGroup("evaluation of trained networks", [
    Option("evaluate", "instead of training, evaluate the run in the folder RUN, a file RUN with weights (as in "
           "--init_checkpoint; -m and -d say what one without a config.json is), or every run of the comparison in the "
           "folder RUN, on clean test images and those of -c (here by default common) at severities 1 to 5; "
           "evaluation_SET.json and .csv are written beside it", metavar="RUN"),
    Option("baseline", "--evaluate: what corruption errors are relative to, such as a run of erm: a run, a checkpoint, "
           "the evaluation_SET.json of one, or, on imagenet, the word alexnet for AlexNet's published errors, which "
           "with -c common gives the mCE of the papers (a folder of that name is ./alexnet)", metavar="RUN"),
    Option("test_corrupted", "test on published corrupted images, such as CIFAR-10-C or ImageNet-C, in place of those "
           "made here; with --evaluate, -c takes the names that are in DIR, by default all. dataset/README.md lists "
           "the layouts", os.path.abspath, metavar="DIR"),
    Option("severity", "--evaluate: severities of corrupted images (default: 1 2 3 4 5)", severity, metavar="S",
           nargs="+"),
    Option("test_images", "--evaluate: another test set instead, DIR/CLASS/FILE, such as ImageNet-A, -R or -Sketch; "
           "its folders are matched with the classes by name", os.path.abspath, metavar="DIR"),
    Option("class_map", "--test_images: JSON file of folder names to lists of the classes that are right, names or "
           "numbers, as ImageNet-D has", cli.existing_file, metavar="FILE"),
    Option("predict", "--evaluate: classify all images below DIR instead, labelled or not", os.path.abspath,
           metavar="DIR"),
    Option("output", "--predict: CSV file for the five most probable classes of each image", os.path.abspath,
           metavar="FILE", short="-o"),
    Option("class_names", "--test_images, --predict: file with the name of a class in each line, for weights without a "
           "config.json", cli.existing_file, metavar="FILE"),
    Option("fgsm", "--evaluate: the clean test images instead, changed by up to EPSILON, of values in 0..1, along the "
           "sign of the loss's gradient; such as 2/255", epsilon, metavar="EPSILON", nargs="+"),
])

OPTION_GROUPS = (DATA, NETWORK, METHOD, COMPONENTS, TRAINING, RUN, COMPARISON, EVALUATION)
OPTIONS = {option.name: option for group in OPTION_GROUPS for option in group.options}
# Options that have an effect only beside one value of another option, to that option, the value, and the error text.
DEPENDENT_OPTIONS = {option.name: option.requires for option in OPTIONS.values() if option.requires}
# These settings of a training are part of its compiled step.
GRAPH_OPTIONS = tuple(option.name for option in OPTIONS.values() if option.in_graph)
# Options that have an effect with --evaluate: those of every evaluation, and for each option that chooses an evaluation
# its others. None stands for the evaluation on corrupted images.
SHARED_EVALUATION_OPTIONS = ("evaluate", "dataset", "model", *SOURCE_OPTIONS, "eval_batch_size", "num_workers",
                             "show_progress", *DEVICE_OPTIONS)
EVALUATIONS = {None: ("baseline", "corruption", "data_dir", "corrupted_from", "test_corrupted", "severity"),
               "test_images": ("test_images", "class_map", "class_names"),
               "predict": ("predict", "output", "class_names"),
               "fgsm": ("fgsm", "data_dir")}
EVALUATION_OPTIONS = tuple(dict.fromkeys([*SHARED_EVALUATION_OPTIONS, *(
    option for options in EVALUATIONS.values() for option in options)]))
# Options that have an effect with --evaluate alone.
EVALUATION_ONLY = ("baseline", "severity", "test_images", "class_map", "predict", "output", "class_names", "fgsm")
# Options of the training that most recipes leave out; None stands for none, or for the default.
EXTRA_TRAINING_OPTIONS = ("crop_area", "rand_augment", "mixup", "label_smoothing", "accumulate", "amp")
RELEASE_ALIASES = ("is_adaptive", "distribution_agnostic", "risk")
TRAINING_OPTIONS = tuple(dict.fromkeys([*RECIPES["sharpdro"].training, *EXTRA_TRAINING_OPTIONS, *(
    option for table in TRAINING_PARTS.values() for row in table.values() for option in row.defaults)]))
# The options that define a method, besides its name; `resolve` takes them.
METHOD_ARGUMENTS = ("objective", "perturbation", "recipe", "sampling", *RELEASE_ALIASES, *TRAINING_OPTIONS,
                    *METHOD_OPTIONS)


def used_by(table, option):
    """Return the names of the rows of a table that have an option in their `defaults`."""
    return [name for name, row in table.items() if option in row.defaults]


def chosen_name(part, given, recipe):
    """Return the given name of an optimizer or a schedule (`part`, a key of `TRAINING_PARTS`), else the recipe's."""
    return given.get(part, RECIPES[recipe].training[part])


def takes_effect(option, options):
    """Whether an option of a method has an effect beside the values of all options of the method (dict)."""
    if option not in DEPENDENT_OPTIONS:
        return True
    decisive, value, _ = DEPENDENT_OPTIONS[option]
    return options[decisive] == value
