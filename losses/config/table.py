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
from models.zoo import weight_file
from utils.metrics import SHARPNESS_IMAGES, SHARPNESS_RHO
from utils.options import Option, OptionGroup, choice, new_value
from utils.records.settings import NEWEST
from utils.shared_options import DEVICE, DEVICE_OPTIONS, data_options

# These parts of a training have options of their own.
TRAINING_PARTS = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}


def severity(text):
    """An argument type: a severity, 1 to 5."""
    if text not in map(str, SEVERITIES):
        raise argparse.ArgumentTypeError(f"{text!r} is not a severity; choose from {', '.join(map(str, SEVERITIES))}")
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
    """Return the default of an option of methods, as text."""
    defaults = {name: part.defaults[option] for table in (OBJECTIVES, PERTURBATIONS)
                for name, part in table.items() if option in part.defaults}
    # No option chooses the data strategy, so these are the defaults of the methods with this strategy.
    defaults.update({name: DATA_STRATEGIES[row.data].defaults[option] for name, row in METHODS.items()
                     if option in DATA_STRATEGIES[row.data].defaults})
    defaults.update({name: row.defaults[option] for name, row in METHODS.items() if option in row.defaults})
    if not any(value is not None for value in defaults.values()):  # the help explains it
        return ""
    is_one = len(set(map(str, defaults.values()))) == 1
    return f" (default: {next(iter(defaults.values())) if is_one else 'see --method list'})"


def _recipe_default(option):
    """Return the default of an option of the training, as text: the value of the recipe `sharpdro`.

    If this recipe has no value, it is the default of the only optimizer or schedule that reads the option.
    """
    rows = [row for table in TRAINING_PARTS.values() for row in table.values() if option in row.defaults]
    values = RECIPES["sharpdro"].training
    return f" (default: {format_value(values[option] if option in values else rows[0].defaults[option])})"


def _training_option(name, help, kind=str, **more):
    """Return an option with its default from the recipe."""
    return Option(name, help + _recipe_default(name), kind, is_grid=True, **more)


def _training_choice(name, table, before="", **more):
    """Return an option with its default from the recipe, for names from a table, with the summary of each name."""
    return _training_option(name, before + cli.listing(table), choices=table, metavar="NAME", **more)


DATA = data_options(SOURCES, datasets_list, CORRUPTIONS, STORAGE_MODES, SETS, ALIASES)
DATA.options.append(Option("split", "table with the severity of each training image: split.csv of an earlier run or of "
                           "dataset/prepare_dataset.py", os.path.abspath, metavar="FILE"))
DATA.options.extend([
    Option("mean", "mean of the channels red, green and blue, or one value for all, to normalise images with values in "
           "0..1 (default: of the data set)", cli.share, metavar="X", nargs="+"),
    Option("std", "standard deviation of the channels, like --mean", cli.std_share, metavar="X", nargs="+"),
    choice("interpolation", INTERPOLATIONS, "-d folder, imagenet: how images are scaled (default: bilinear)")])

NETWORK = OptionGroup("network", [
    Option("model", f"network: {', '.join(MODELS)}, {FAMILIES}; list explains them",
           cli.or_list(models_list, cli.validated_by(find_model)), "wideresnet", metavar="NAME", short="-m",
           is_grid=True)])

METHOD = OptionGroup("method", [
    Option("method", f"{', '.join(METHODS)}; list explains them and their parts", cli.or_list(methods_list), "sharpdro",
           METHODS, "NAME", is_grid=True),
    choice("objective", OBJECTIVES, "another objective than the method's", is_grid=True, in_graph=True),
    choice("perturbation", PERTURBATIONS, "another perturbation of the weights than the method's", is_grid=True,
           in_graph=True),
    Option("sampling", "how training images are drawn. " + cli.listing(SAMPLINGS), default="uniform",
           choices=SAMPLINGS, metavar="NAME", is_grid=True),
    choice("risk", ("mean", "worst_case"), "sharpdro, sharpdro_agnostic: the first term. mean: the mean loss (authors' "
           "code); worst_case: weighted like the second term (paper, Eq. 10 and 12)", default="mean", is_grid=True),
    Option("distribution_agnostic", "the same as --method sharpdro_agnostic", bool, False),
    Option("is_adaptive", "scale the ascent of sharpdro by the weights (authors' ASAM variant)", bool, False),
], "A method joins an objective and a perturbation of the weights. An option that the method does not read is an "
   "error.")

# Several components read the same option, and the help lists each option once, with its default.
_ROWS = {option.name: option for table in (PERTURBATIONS, OBJECTIVES, DATA_STRATEGIES)
         for component in table.values() for option in component.options}
COMPONENTS = OptionGroup("options of some methods", [
    replace(option, help=option.help + _component_default(option.name), is_grid=True) for option in _ROWS.values()])

TRAINING = OptionGroup("training", [
    Option("recipe", f"settings of a published experiment, which other options override: {', '.join(RECIPES)}. Recipes "
           "with a / also set data set and network. list shows all settings and the published numbers",
           cli.or_list(recipes_list), choices=RECIPES, metavar="NAME"),
    _training_option("total_epoch", "number of epochs", cli.positive_int, metavar="N"),
    _training_option("batch_size", "training images in a batch, of all workers together", cli.positive_int, metavar="N",
                     short="-b", in_graph=True),
    _training_option("lr", "learning rate, the highest of the schedule", cli.positive_float),
    _training_choice("schedule", SCHEDULES, "the learning rate. "),
    _training_option("warmup", "cosine: length of the rise from a thousandth of --lr, such as 5epochs or 10000steps",
                     metavar="LENGTH"),
    _training_option("final_lr", "cosine: learning rate at the end", cli.non_negative_float),
    _training_choice("optimizer", OPTIMIZERS, in_graph=True),
    _training_option("momentum", "momentum of sgd", cli.fraction, in_graph=True),
    Option("nesterov", "Nesterov's momentum for sgd" + _recipe_default("nesterov"), bool, in_graph=True),
    _training_option("clip_norm", "largest l2 norm of the gradient of a batch, before weight decay; 0 for no limit",
                     cli.non_negative_float, metavar="C", in_graph=True),
    _training_option("weight_decay", "l2 penalty on weights", cli.non_negative_float, in_graph=True),
    _training_choice("weight_decay_on", WEIGHT_DECAY_FILTERS, "weights with weight decay. ", in_graph=True),
    _training_option("num_sub_batches", "parts of a batch, each with a perturbation of its own", cli.positive_int,
                     metavar="M", in_graph=True),
    Option("sync_perturbation", "msrun: one ascent along the gradient of the whole batch (default), or one for each "
           "worker along the gradient of its part", bool),
    Option("sync_bn", "BatchNorm takes its statistics over all sub-batches and workers" + _recipe_default("sync_bn"),
           bool, in_graph=True),
    Option("accumulate", "take a batch in N parts to save memory. The gradient is the gradient of the whole batch, but "
           "BatchNorm takes the statistics of each part (default: 1)",
           cli.positive_int, metavar="N", in_graph=True),
    Option("amp", "mixed precision: float16 convolutions and products with dynamic loss scaling; evaluations stay "
           "float32", bool, in_graph=True),
    _training_choice("train_on", TRAIN_ON, "training images. "),
    _training_choice("sampler", SAMPLERS, "batches. "),
    _training_choice("crop", CROP_MODES, "augmentation; with --train_on poisson, imagenet has none by "
                     "default. ", kind=partial(new_value, "crop")),
    Option("crop_area", "--crop random_resized: least and largest area of the part, as fractions of the image "
           f"(default: {format_value(list(CROP_AREA))})", cli.positive_share, metavar="A", nargs=2),
    Option("rand_augment", "RandAugment with N operations of strength M on each training image, such as 2 10; 0 0 "
           "switches off the recipe's", cli.non_negative_int, metavar="N M", nargs=2),
    Option("mixup", "mix each training image with another one; L, from 0.5, is the weight of the image itself; 1 "
           "switches off the recipe's", cli.positive_share, metavar="L", in_graph=True),
    Option("label_smoothing", "fraction S of each label that is spread over all classes", cli.fraction,
           metavar="S", in_graph=True),
    Option("augment_data", "the same as --crop reflect_pad", bool, False),
], "Defaults are those of the recipe sharpdro; --recipe list shows the others. sam, asam, damp, daap and corrupt_aug "
   "have the recipe damp, but not in a comparison.")

RUN = OptionGroup("runs and records", [
    Option("config", "JSON or YAML file with options, such as a config.json", metavar="FILE"),
    Option("verbose", "print the accuracy at every severity after each epoch; the records always have it", bool, False),
    Option("log_dir", "folder for the folders of runs", default="./logs", metavar="DIR"),
    Option("desc", "first part of the name of the run's folder", cli.folder_name, default="none"),
    Option("resume", "continue the run in FOLDER from its newest checkpoint; without FOLDER, the newest run in "
           "--log_dir with the same settings. A larger --total_epoch makes the run longer",
           metavar="FOLDER", nargs="?", const=NEWEST),
    Option("init_checkpoint", "start from the weights in a .ckpt, in a state_dict of PyTorch (.pth, .safetensors), or "
           "of zoo:NAME (models/README.md), but no classifier of another size", weight_file, metavar="FILE"),
    Option("eval_every", "evaluate after every N-th epoch, and after the last", cli.positive_int, 1, metavar="N"),
    Option("eval_batch_size", "images in a batch of an evaluation", cli.positive_int, 128, metavar="N"),
    Option("log_train", "write a row of train.csv at every N-th batch of an epoch, and at its last", cli.positive_int,
           100, metavar="N"),
    Option("log_sharpness", "after every N-th epoch, and after the last, measure how much the loss of "
           f"{SHARPNESS_IMAGES} test images of each severity rises within {SHARPNESS_RHO} of the weights",
           cli.positive_int, metavar="N"),
    Option("record_norm", "measure the norm of the loss gradient at each severity; evaluations take four times as long",
           bool, False),
    Option("tensorboard", "also write TensorBoard files, into the folder tensorboard of the run", bool, False),
    Option("keep_last", "number of newest checkpoints to keep; there is one after each epoch", cli.positive_int, 2,
           metavar="N"),
    Option("checkpoint_every", "also save a checkpoint at every N-th batch of an epoch", cli.positive_int, metavar="N"),
    Option("save_step", "also keep the checkpoint of the first epoch and of every N-th epoch after it",
           cli.positive_int, 50, metavar="N"),
    Option("keep_epochs", "also keep the checkpoints of these epochs (first epoch = 0)", cli.non_negative_int, [],
           metavar="N", nargs="+"),
    Option("save_last", "also keep the checkpoint of the last whole epoch as last_model.ckpt", bool, False),
    Option("save_best", "also keep the checkpoint with the best validation accuracy as best_model.ckpt", bool, False),
    choice("best_by", ("mean", "worst"), "--save_best: accuracy of a model. mean: over severities; worst: at the worst "
           "severity", default="mean"),
    Option("compile_cache", "keep the compiled step in DIR, so that the next run with these settings starts sooner",
           os.path.abspath, metavar="DIR"),
], "utils/README.md lists the files that a run writes.")

COMPARISON = OptionGroup("comparison", [
    Option("variant", "a row beside those of --method, with options of its own; repeat it for more rows", default=[],
           metavar="'NAME: OPTIONS'", is_repeatable=True),
    Option("jobs", "number of runs at a time, each in its own process; does not change results", cli.workers, 1,
           metavar="J"),
], "A comparison has a run for each combination of values, and for each variant. The same command continues it.")

EVALUATION = OptionGroup("evaluation of trained networks", [
    Option("evaluate", "evaluate a trained network on clean and corrupted test images. RUN is the folder of a run or "
           "of a comparison, or weights, as for --init_checkpoint; -m and -d describe a file without a config.json. "
           "The default of -c is common here", metavar="RUN"),
    Option("baseline", "run, weights or evaluation_SET.json for relative corruption errors, such as a run of erm; on "
           "imagenet the word alexnet, which gives the published mCE with -c common", metavar="RUN"),
    Option("test_corrupted", "folder of published corrupted images, such as CIFAR-10-C or ImageNet-C "
           "(dataset/README.md). With --evaluate, -c is by default everything in DIR", os.path.abspath, metavar="DIR"),
    Option("severity", "severities of corrupted images (default: 1 2 3 4 5)", severity, metavar="S", nargs="+"),
    Option("test_images", "another test set, DIR/CLASS/FILE, such as ImageNet-A, -R or -Sketch; class folders are "
           "matched by name", os.path.abspath, metavar="DIR"),
    Option("class_map", "--test_images: JSON file of folder names to lists of right classes, as ImageNet-D has",
           cli.existing_file, metavar="FILE"),
    Option("predict", "classify all images below DIR, with or without labels", os.path.abspath, metavar="DIR"),
    Option("output", "--predict: CSV file for the five most probable classes of each image", os.path.abspath,
           metavar="FILE", short="-o"),
    Option("class_names", "--test_images, --predict: file with the name of one class per line, for weights without a "
           "config.json", cli.existing_file, metavar="FILE"),
    Option("fgsm", "attack the clean test images: change values in 0..1 by up to EPSILON along the sign of the loss "
           "gradient, such as 2/255", epsilon, metavar="EPSILON", nargs="+"),
], "These options need --evaluate; --test_corrupted also works in a training.")

OPTION_GROUPS = (METHOD, DATA, NETWORK, TRAINING, COMPONENTS, EVALUATION, COMPARISON, RUN,
                 OptionGroup("device", DEVICE))
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
# Options that have an effect with --evaluate alone.
EVALUATION_ONLY = tuple(dict.fromkeys(option for options in EVALUATIONS.values() for option in options
                                      if option not in ("corruption", "data_dir", "corrupted_from", "test_corrupted")))
# Options of the training that most recipes leave out; None stands for none, or for the default.
EXTRA_TRAINING_OPTIONS = ("crop_area", "rand_augment", "mixup", "label_smoothing", "accumulate", "amp")
AUTHORS_ALIASES = ("is_adaptive", "distribution_agnostic", "risk")
TRAINING_OPTIONS = tuple(dict.fromkeys([*RECIPES["sharpdro"].training, *EXTRA_TRAINING_OPTIONS, *(
    option for table in TRAINING_PARTS.values() for row in table.values() for option in row.defaults)]))
# The options that define a method, besides its name; `resolve` takes them.
METHOD_ARGUMENTS = ("objective", "perturbation", "recipe", "sampling", *AUTHORS_ALIASES, *TRAINING_OPTIONS,
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
