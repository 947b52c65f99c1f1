"""The settings of a run, `config.json` in its folder."""
import contextlib
import glob
import os

from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_json
from utils.options import with_new_names
from utils.runtime.distributed import world_size
from utils.shared_options import DEVICE_OPTIONS

# These options may change when a run is resumed. Results do not depend on them, but for the device and its precision.
OVERRIDABLE_ON_RESUME = ("resume", "data_dir", "corrupted_from", "num_workers", "show_progress", "verbose",
                         *DEVICE_OPTIONS, "compile_cache", "keep_last", "checkpoint_every")

# Results depend on these folders. A resumed run may have them in another place, but with the same names.
FOLDER_OPTIONS = ("test_corrupted", "filelist_dir")

# Entries of `config.json` about the machine and the program, as `utils.records.machine.machine` gives them.
MACHINE_KEYS = ("device", "mindspore", "processors", "code")

FAILED = "failed.json"  # file in the folder of a run, with the reason why the run has failed

NEWEST = "newest"  # the value of `--resume` without a folder: the newest run of the settings on the command line

# Old runs have no such options in their settings. These values describe the behaviour of old runs.
LEGACY_DEFAULTS = {"train_on": "poisson", "sampler": "replacement", "crop": "none", "crop_area": None,
                   "rand_augment": None, "mixup": None, "label_smoothing": None, "accumulate": None,
                   "amp": None, "optimizer": "sgd", "clip_norm": 0.0, "weight_decay_on": "all", "sync_bn": False,
                   "warmup": None, "final_lr": None, "init_checkpoint": None, "init_sha256": None,
                   "stage_one_sha256": None, "split_sha256": None}


def write_run_settings(path, settings, title, given, **machine):
    """Write the settings of a run to a JSON file.

    Args:
        path (str): the file.
        settings (dict): the settings.
        title (str): title of the method.
        given (dict): the options that the command line names.
        machine: further entries about the machine. The number of workers that train together is added to them.
    """
    write_json(path, {**settings, "title": title, "given": given, "world_size": world_size(), **machine})


def has_same_basename(before, now):
    """Whether two paths may be one folder in two places: the last parts are the same, and neither path is None."""
    return None not in (before, now) and os.path.basename(before) == os.path.basename(now)


def path_independent(given):
    """Return the given options (dict) that results depend on, with folders by name alone.

    The folder of the data sets is left out, except with `-d folder`, where it is the data set itself.
    """
    folders = (*FOLDER_OPTIONS, "data_dir") if given.get("dataset") == "folder" else FOLDER_OPTIONS
    return {option: os.path.basename(value) if option in folders else value for option, value in given.items()
            if option in folders or option not in OVERRIDABLE_ON_RESUME or option == "fast_math" and value}


# The types of entries of `config.json` that are not options, or that are read without the table of options.
CONFIG_TYPES = {
    "given": dict, "title": str, "classes": list, "images_sha256": dict, "fingerprints": dict, "dataset": str,
    "corruption": str, "model": str, "num_severity": int, "method": str, "seed": int, "data_dir": str,
    "test_corrupted": str, "filelist_dir": str, "image_size": int, "eval_batch_size": int, "total_epoch": int,
    "split": str}
MAY_BE_NONE = ("images_sha256", "test_corrupted", "filelist_dir", "image_size", "split")


def is_run_config(content):
    """Whether the content of a `config.json` is of a run; a file of another program may lie beside weights, too."""
    return isinstance(content, dict) and {"dataset", "model", "method"} <= content.keys()


def read_settings(folder):
    """Return the settings in a run's folder, a dict; None if they are missing, or of another program.

    Raises:
        UserError: the settings are damaged.
    """
    path = os.path.join(folder, "config.json")
    if not os.path.isfile(path):
        return None
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path}: damaged; put the old file back, or name another run")
    config = with_new_names(config)
    if "workers" in config:  # the earlier name
        config["world_size"] = config.pop("workers")
    if not is_run_config(config):
        return None
    if isinstance(config.get("given"), dict):
        config["given"] = with_new_names(config["given"])
    for option, kind in CONFIG_TYPES.items():
        if option not in config or config[option] is None and option in MAY_BE_NONE:
            continue
        value = config[option]
        is_damaged = not isinstance(value, kind) or isinstance(value, bool) or kind is int and value < 0
        if is_damaged or option == "classes" and not all(isinstance(name, str) for name in value):
            raise UserError(f"{path}: damaged, it has {option} {value!r}; put the old file back, or name "
                            "another run")
    return config


def newest_run(log_dir, values, given):
    """Return the newest run with the settings of the command line.

    If the command line names more epochs than any of these runs has, the newest run with fewer epochs is returned. This
    run then becomes longer.

    Args:
        log_dir (str): the folder with the folders of runs.
        values (dict): all options to their values.
        given (dict): the options that the command line names.

    Returns:
        str: folder of the run.

    Raises:
        UserError: there is no such run.
    """
    def is_same(config):
        first = config.get("given", {})
        options = {*path_independent(first), *path_independent(given)} - {"total_epoch", "log_dir"}
        return all(
            values.get(option) in (config.get(option), first.get(option)) or
            option in (*FOLDER_OPTIONS, "data_dir") and has_same_basename(config.get(option), values[option])
            for option in options)
    matches = {}
    for path in glob.glob(os.path.join(glob.escape(log_dir), "*", "config.json")):
        with contextlib.suppress(UserError):  # a damaged run cannot be resumed
            config = read_settings(os.path.dirname(path))
            if config is None or not is_same({**LEGACY_DEFAULTS, **config}):
                continue
            epochs, total_epoch = config.get("total_epoch", 0), values["total_epoch"]
            if epochs == total_epoch or epochs < total_epoch and "total_epoch" in given:
                matches[os.path.dirname(path)] = epochs == total_epoch, os.path.getmtime(path)
    if not matches:
        raise UserError(f"--resume: no run in {log_dir} has these settings; name its folder, or leave --resume out to "
                        "begin one")
    return max(matches, key=matches.get)


def resumed_settings(folder, defaults, given, check=None):
    """Return the settings of an earlier run, to resume it.

    Args:
        folder (str): the run's folder.
        defaults (dict): all options to their values on this command line, for options that the run did not have yet.
        given (dict): the options that the command line names.
        check (callable or None): function of the run's settings, completed, and their file. It raises an error if the
            settings are damaged.

    Returns:
        dict: the run's settings, with the given options of `OVERRIDABLE_ON_RESUME` and `FOLDER_OPTIONS`, a larger
        number of epochs if it is given, and the run's own split.

    Raises:
        UserError: there is no run, or a given option differs from the run's option.
    """
    config = read_settings(folder)
    if config is None:
        raise UserError(f"--resume {folder}: no run with a config.json is there; name a run's folder, LOG_DIR/NAME")
    earlier = {**LEGACY_DEFAULTS, "crop": "reflect_pad"} if config.get("augment_data") else LEGACY_DEFAULTS
    config = {**earlier, **config}
    if check is not None:
        check({**defaults, **config}, os.path.join(folder, "config.json"))
    first_given = config.pop("given", {})  # some options are rewritten before they are used
    for option, value in given.items():
        is_same_folder = option in FOLDER_OPTIONS and has_same_basename(config.get(option), value)
        is_free = option in OVERRIDABLE_ON_RESUME or is_same_folder
        is_longer = option == "total_epoch" and value > config["total_epoch"]
        is_parent = option == "log_dir" and os.path.abspath(value) == os.path.dirname(os.path.abspath(folder))
        if is_free or is_longer or is_parent:
            config[option] = value
        elif value not in (config.get(option), first_given.get(option)):
            flag = f"--no-{option}" if value is False else f"--{option}"
            advice = ", give more" if option == "total_epoch" else ""
            raise UserError(f"{flag}: the run in {folder} has {config.get(option)}; leave the option out{advice}, or "
                            "start a new run without --resume")
    config["split"] = os.path.join(folder, "split.csv")
    config["device_id"] = given.get("device_id")  # a number of one machine, and of one process
    config["device_target"] = given.get("device_target") or config.get("device")  # None if 'auto' chose the device
    settings = {**defaults, **config}
    settings.pop("num_per_class", None)  # the split has both
    return {**settings, "num_val": None, "val_fraction": None}
