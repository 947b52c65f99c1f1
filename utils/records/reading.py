"""Readers of the records that runs have written."""
import csv
import hashlib
import json
import os
import sys
from dataclasses import dataclass, replace

import numpy as np

from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, safe_filename
from utils.records.settings import (
    FAILED,
    FOLDER_OPTIONS,
    LEGACY_DEFAULTS,
    MACHINE_KEYS,
    OVERRIDABLE_ON_RESUME,
    read_settings,
)

PLAN_FILE = "comparison.json"  # the runs of a comparison, in its folder
SETTING_KEYS = ("dataset", "corruption", "model", "num_severity")

# Settings in which averaged runs may differ, besides OVERRIDABLE_ON_RESUME: the seed, the machine, settings of how a
# run is named, evaluated and stored, and settings that follow from other settings.
AVERAGED_OVER = ("seed", "log_dir", "desc", "variant", "jobs", "evaluate", "baseline", "eval_every", "eval_batch_size",
                 "log_train", "log_sharpness", "record_norm", "tensorboard", "save_step", "keep_epochs", "save_last",
                 "save_best", "best_by", *MACHINE_KEYS, "given", "title", "classes", "is_adaptive",
                 "distribution_agnostic", "risk", "augment_data", "init_checkpoint", "stage_one", "images_sha256",
                 "fingerprints")


@dataclass(frozen=True)
class FinishedRun:
    """The records of a run that has ended.

    Attributes:
        path (str): folder of the run.
        name (str): its row in a comparison, or its method. If several runs are read together, the name also has the
            settings, other than the seed, in which they differ.
        config, results (dict): content of `config.json` and `results.json`.
    """

    path: str
    name: str
    config: dict
    results: dict

    @property
    def setting(self):
        """Data set, corruption, network and number of severities. Runs of the same setting are compared."""
        return tuple(self.config[option] for option in SETTING_KEYS)

    def table(self, name):
        """Return the columns of a CSV file of the run: a dict of float64 arrays, nan where a cell is empty.

        Raises:
            UserError: the file is missing, or is not a table of numbers.
        """
        path = os.path.join(self.path, name)
        try:
            with open(path, newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
            cells = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(len(rows), len(header))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: missing or damaged; name another run, or run this one again") from error
        return dict(zip(header, cells.T, strict=True))


def read_record(path, name=None):
    """Read a run's folder and return a `FinishedRun`.

    `name` is as in `FinishedRun`. By default it is the name that the run has in its comparison.

    Raises:
        UserError: the folder does not belong to a run that has ended.
    """
    config, results = read_settings(path), read_results(path)
    if config is None or not {*SETTING_KEYS, "method", "seed"} <= set(config):
        raise UserError(f"{path}: not the folder of a run, which has a config.json; name LOG_DIR/NAME")
    require_not_failed(path)
    if results is None:
        raise UserError(f"{path}: this run has not ended; resume it with main.py --resume {path}")
    folder, run_folder = os.path.split(os.path.abspath(path))
    names = {run["folder"]: run["name"] for run in stored_plan(folder)}
    return FinishedRun(path, name or names.get(run_folder) or config.get("title", config["method"]), config, results)


def failure(folder):
    """Return as text why the run in a folder has failed, or None if it has not failed."""
    stored = read_json(os.path.join(folder, FAILED))
    return str(stored.get("reason")) if isinstance(stored, dict) else None


def require_not_failed(folder):
    """Raise a `UserError` if the run in a folder has failed."""
    reason = failure(folder)
    if reason is not None:
        raise UserError(f"{folder}: this run has failed ({reason}); begin another")


def read_results(folder):
    """Return the results in a run's folder, a dict, or None if they must be written again.

    This is so if they are missing or damaged, or if they cover fewer epochs than the run now has.
    """
    results, config = read_json(os.path.join(folder, "results.json")), read_settings(folder) or {}
    try:
        severities = len(results["train_images"])
        columns = [results[part][metric] for part in ("val", "test") for metric in ("accuracy", "loss", "images")]
        numbers = [results["epochs"], *results["train_images"], *(value for column in columns for value in column
                                                                  if value is not None)]
        is_whole = {*map(len, columns)} == {severities} and all(type(value) in (int, float) for value in numbers)
    except (LookupError, TypeError):
        return None
    return results if is_whole and results["epochs"] >= config.get("total_epoch", 0) else None


def is_finished(path, total_epoch=None):
    """Whether the run in a folder has ended, after at least `total_epoch` epochs if that is given.

    The results are written last, so they show that the run has ended.
    """
    results = read_results(path)
    return results is not None and (total_epoch is None or results["epochs"] >= total_epoch)


def obstacle(folder):
    """Return as text why the run in a folder has no results, such as 'has not ended', or None if it has some."""
    reason = failure(folder)
    if reason is not None:
        return f"has failed ({reason})"
    return None if is_finished(folder) else "has not ended"


def stored_plan(folder):
    """Return the runs of the comparison in a folder; empty if there is no comparison.

    Returns:
        list of dict: `name` of the run's row (str), `folder` of the run (str), and its options `given` (dict).

    Raises:
        UserError: the plan is damaged.
    """
    path = os.path.join(folder, PLAN_FILE)
    plan = read_json(path) if os.path.exists(path) else []
    if not isinstance(plan, list) or not all(
            isinstance(run, dict) and isinstance(run.get("name"), str) and isinstance(run.get("given"), dict)
            and _is_name(run.get("folder")) for run in plan):
        raise UserError(f"{path}: damaged; remove it, and give the command of the comparison again")
    return plan


def _is_name(folder):
    """Whether a value is a plain folder name, and not a path to another place."""
    return isinstance(folder, str) and folder not in ("", ".", "..") and "/" not in folder and "\0" not in folder


def planned_runs(path):
    """Return the folders of the runs of a comparison. For any other folder, return the folder itself in a list."""
    return [os.path.join(path, run["folder"]) for run in stored_plan(path)] or [path]


def read_records(paths, shared=SETTING_KEYS, shown=()):
    """Read runs, and the finished runs of comparisons.

    Args:
        paths (list of str): folders of runs or comparisons.
        shared (tuple of str): settings that must be the same for all runs, unless `paths` is a single comparison.
        shown (tuple of str): settings that need not be in the names of the runs.

    Returns:
        list of FinishedRun: two runs with the same `shared` settings and the same name differ at most in the seed and
        in `shown`. A warning names two runs that do not even differ in these.

    Raises:
        UserError: a folder is neither a run nor a comparison, no run of a comparison has ended, a run is named twice,
            or the runs have different data or were tested on different images.
    """
    records = []
    for path in paths:
        runs = planned_runs(path)
        if runs != [path]:
            obstacles = {run: obstacle(run) for run in runs}
            for run, reason in obstacles.items():
                if reason is not None:
                    print(f"warning: {run}: is left out, it {reason}", file=sys.stderr)
            runs = [run for run, reason in obstacles.items() if reason is None]
        if not runs:
            raise UserError(f"{path}: none of its runs has ended; resume it with its command")
        records += [read_record(run) for run in runs]
    seen = set()
    for record in records:
        place = os.path.realpath(record.path)
        if place in seen:
            raise UserError(f"{record.path}: is named twice; name each run once")
        seen.add(place)
    if len(paths) > 1:
        first, *later_settings = [[str(record.config[option]) for option in shared] for record in records]
        for record, setting in zip(records[1:], later_settings, strict=True):
            if setting != first:
                raise UserError(f"{record.path}: its data ({', '.join(setting)}) are not those of "
                                f"{records[0].path} ({', '.join(first)}); draw them apart")
        tested = [os.path.basename(record.config.get("test_corrupted") or "") for record in records]
        for record, images in zip(records, tested, strict=True):
            if images != tested[0]:
                names = [name or "images made here" for name in (images, tested[0])]
                raise UserError(f"{record.path}: was tested on {names[0]}, {records[0].path} on {names[1]}; draw them "
                                "apart")
    return _named_apart(records, shared, shown)


def _named_apart(records, shared, shown):
    """Return the records with names that show the settings, other than the seed, in which they differ.

    The names are as in the result of `read_records`.
    """
    groups = {}
    for record in records:
        words = {f"{option}={record.config.get(option)}" for option in shown}
        name = " ".join(word for word in record.name.split(" ") if word not in words)
        groups.setdefault((name, *(str(record.config[option]) for option in shared)), []).append(record)
    names = {record.path: ", ".join([name, *texts]) for (name, *_), group in groups.items()
             for record, texts in zip(group, _differences(group, shown), strict=True)}
    records = [replace(record, name=names[record.path]) for record in records]
    first = {}
    for record in records:
        settings = (record.name, *(str(record.config.get(option)) for option in (*shared, *shown, "seed")))
        same = first.setdefault(settings, record)
        if same is not record:
            print(f"warning: {record.path}: has the settings and the seed of {same.path}; where seeds are averaged, "
                  "both count", file=sys.stderr)
    return records


def _differences(records, shown):
    """Return for each record a list of texts, such as 'lr 0.1', that distinguish it from records with other settings.

    The texts show only options that were given on the command line, if these are enough.
    """
    runs = [_compared(record.config, shown) for record in records]

    def several(options):
        return len({json.dumps([settings.get(option) for option in options]) for settings in runs})

    def differs(option):  # a run of an earlier version may lack the option, which does not count as a difference
        return len({json.dumps(settings[option]) for settings in runs if option in settings}) > 1
    different = [option for option in dict.fromkeys(option for settings in runs for option in settings)
                 if differs(option)]
    if not set(different) - {"recipe"}:  # a recipe only sets other options
        return [[] for _ in records]
    given = {option for record in records for option in record.config.get("given", {})}
    named = [option for option in different if option in given]
    if several(named) < several(different):
        named = [option for option in different if option != "recipe"]
    return [[_text(option, settings[option]) for option in named if settings.get(option) is not None]
            for settings in runs]


def _compared(config, shown):
    """Return the settings of a run (dict) that results depend on, without the seed and the settings in `shown`.

    Files are represented by their hashes, folders by their names.
    """
    config = {**LEGACY_DEFAULTS, **config, "fast_math": config.get("fast_math") or None}  # None and False are the same
    left_out = {*AVERAGED_OVER, *OVERRIDABLE_ON_RESUME, *shown} - {"fast_math"}
    hashes = {f"{part} images, hashed by an earlier version": sha256
              for part, sha256 in (config.get("images_sha256") or {}).items()}
    hashes.update({f"{part.replace('_', ' ')} images": _digest(fingerprint)
                   for part, fingerprint in (config.get("fingerprints") or {}).items()
                   if not (part.endswith("_corrupted") and "corruption" in shown)})
    if config["split_sha256"] is not None:
        left_out.add("split")
    return {**{option: os.path.basename(value) if option in FOLDER_OPTIONS and value else value
               for option, value in config.items() if option not in left_out},
            **hashes, "method": config.get("title", config["method"])}


def _digest(fingerprint):
    """Return the hash of the identity of a set of images: how it was made if that is known, else its pixels."""
    identity = {**fingerprint, "pixels": None} if fingerprint.get("made") else fingerprint
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _text(option, value):
    if isinstance(value, bool):
        return option if value else f"no-{option}"
    return f"{option} {value[:8] if isinstance(value, str) and len(value) == 64 else value}"


def by_setting(records, shared=SETTING_KEYS):
    """Return a dict of file name suffix to the records of one setting. A single setting has an empty suffix."""
    groups = {}
    for record in records:
        groups.setdefault(tuple(str(record.config[option]) for option in shared), []).append(record)
    if len(groups) == 1:
        return {"": records}
    return {"_" + safe_filename("_".join(setting)): group for setting, group in groups.items()}


def first_of_each_name(records):
    """Return the first record of each name."""
    first = {}
    for record in records:
        first.setdefault(record.name, record)
    return list(first.values())
