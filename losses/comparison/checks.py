"""Checks that a stored comparison has the runs and the images that the command asks for."""
import os

from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash
from dataset import SOURCE_OPTIONS
from losses.config.resolve import resume_config
from models.zoo import weight_path
from utils.options import with_new_names
from utils.records.reading import PLAN_FILE, stored_plan
from utils.records.settings import (
    FOLDER_OPTIONS,
    OVERRIDABLE_ON_RESUME,
    path_independent,
    read_settings,
)


def read_plan(folder, planned):
    """Return the entries of a stored plan, a list of dicts; empty if there is none.

    An entry that was written under earlier names of options or values has the present names. An entry whose row has
    another name now has that name, and its run keeps its folder.

    Args:
        folder (str): folder of the comparison.
        planned (list of RunSpec): the runs that the command asks for.

    Raises:
        UserError: the plan is damaged.
    """
    entries = []
    for entry in stored_plan(folder):
        given = with_new_names(entry["given"])
        names = [spec.name for spec in planned if path_independent(spec.given) == given]
        name = entry["name"] if entry["name"] in names or not names else names[0]
        entries.append({**entry, "given": given, "name": name})
    return entries


def check_plan(folder, planned, paths, stored):
    """Return the plan of the comparison, after a check that it contains the stored plan. A comparison may grow.

    Args:
        folder (str): folder of the comparison.
        planned (list of RunSpec): the runs that the command asks for.
        paths (list of str): their folders.
        stored (list of dict): the entries that `read_plan` returns.
    """
    plan = [{"name": entry.name, "folder": os.path.basename(path),
             "given": path_independent(entry.given)}
            for entry, path in zip(planned, paths, strict=True)]
    # Plans of earlier versions lack the name of the data folder.
    earlier = [{**entry, "given": {option: value for option, value in entry["given"].items() if option != "data_dir"}}
               for entry in plan]
    if any(entry not in plan and entry not in earlier for entry in stored):
        raise UserError(f"{folder}: holds a comparison of other runs or images (see {PLAN_FILE} there); repeat its "
                        "command, to which methods, seeds and variants may be added if it names --method and --seed, "
                        "or name another with --desc")
    if len(set(paths)) < len(paths):
        raise UserError("--variant: the names of two rows differ only in characters that a folder's name cannot "
                        "have; change one of them")
    return plan


def check_begun_options(planned, paths, stored):
    """Check that runs which have begun have the options of the command, if the stored plan does not vouch for them.

    The plan has been lost if it lacks a run that has begun. Then only names lead to the folders of the runs.
    """
    vouched_for = {entry["folder"] for entry in stored}
    for spec, path in zip(planned, paths, strict=True):
        config = None if os.path.basename(path) in vouched_for else read_settings(path)
        if config is None:
            continue
        begun, given = (path_independent(options) for options in (config.get("given", {}), spec.given))
        different = [f"--{option}" for option in {**begun, **given} if begun.get(option) != given.get(option)]
        if different:
            raise UserError(f"{path}: has begun with another value of {', '.join(different)}; repeat its command, or "
                            "name another comparison with --desc")


def check_files(folder, planned, configs):
    """Check that the files which begun runs have read are unchanged for the runs that begin now."""
    for option, sha256 in (("init_checkpoint", "init_sha256"), ("stage_one", "stage_one_sha256"),
                           ("split", "split_sha256")):
        paths = [weight_path(spec.given.get(option)) for spec in planned]
        now = {path: file_hash(path) for path in set(paths) if path is not None and os.path.isfile(path)}
        for path, config in zip(paths, configs, strict=True):
            stored = getattr(config, sha256)
            if stored not in (None, now.setdefault(path, stored)):
                raise UserError(f"--{option}: the file has changed since runs in {folder} began from it; put the "
                                "old file back, or name another comparison with --desc")


def check_begun_images(planned, paths, k, data, config):
    """Check that begun runs have the same images as run number `k`, if their options name the same images."""
    def named(spec):
        return [spec.given.get(option) for option in ("dataset", "data_dir", *SOURCE_OPTIONS)]
    for spec, path in zip(planned, paths, strict=True):
        stored = read_settings(path)
        if stored is None or named(spec) != named(planned[k]):
            continue
        names = ["train", "test"]
        if (stored["corruption"], stored["num_severity"]) == (config.corruption, config.num_severity):
            names = list(data.fingerprints)
        try:
            data.source.check_run(stored, path, **{name: data.fingerprints[name] for name in names})
        except UserError as error:
            raise UserError(f"{error}, or another comparison with --desc") from error


def stored_config(spec, config, path):
    """Return the settings of a run: if it has begun, its stored settings and its own split; otherwise `config`.

    Raises:
        UserError: the run has begun with other settings than this version gives it.
    """
    if not os.path.exists(os.path.join(path, "config.json")):
        return config
    stored = resume_config(path, config.to_dict(), resumable_options(spec))
    epochs, planned_epochs = stored.method.total_epoch, config.method.total_epoch
    if epochs != planned_epochs:
        raise UserError(f"{path}: has been continued to {epochs} epochs, and the comparison has {planned_epochs}; "
                        f"name another comparison with --desc, or give --total_epoch {epochs} there")
    begun = stored.method.to_dict()
    for option, value in config.method.to_dict().items():
        # The split of a begun run, which a table may have decided, has its own value of `train_on`.
        if option != "train_on" and begun[option] != value:
            raise UserError(f"{path}: another version has begun it with {option} {begun[option]}, and this version "
                            f"gives {value}; name another comparison with --desc")
    return stored


def resumable_options(spec):
    """Return the options of a planned run that may change when the run is resumed."""
    return {option: spec.given[option] for option in (*OVERRIDABLE_ON_RESUME, *FOLDER_OPTIONS) if option in spec.given}
