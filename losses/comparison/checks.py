"""Whether a stored comparison is of the runs and the images that the command asks for."""
import os

from dataset import SOURCE_OPTIONS
from losses.training.run import RunConfig
from utils.errors import UserError
from utils.files import file_hash, read_json
from utils.records.reading import PLAN_FILE
from utils.records.settings import (
    FOLDER_OPTIONS,
    OVERRIDABLE_ON_RESUME,
    path_independent,
    read_settings,
    resumed_settings,
)


def _check_plan(folder, planned, paths):
    """What the comparison consists of, made sure that it is what was written down, or more: a comparison may grow."""
    plan = [{"name": one.name, "folder": os.path.basename(path),
             "given": path_independent(one.given)}
            for one, path in zip(planned, paths, strict=True)]
    stored = read_json(os.path.join(folder, PLAN_FILE)) or []
    # Those of before lack the folder's name.
    earlier = [{**one, "given": {option: value for option, value in one["given"].items() if option != "data_dir"}}
               for one in plan]
    if any(one not in plan and one not in earlier for one in stored):
        raise UserError(f"{folder}: holds a comparison of other runs or images (see {PLAN_FILE} there); repeat its "
                        "command, to which methods, seeds and variants may be added if it names --method and --seed, "
                        "or name another with --desc")
    if len(set(paths)) < len(paths):
        raise UserError("--variant: the names of two rows differ in signs alone that a folder's name cannot have; "
                        "change one of them")
    return plan


def _check_rows(folder, planned, values):
    """Make sure that the runs of a row, begun or not, differ in nothing but the seed."""
    first = {}
    for one, settings in zip(planned, values, strict=True):
        found = RunConfig.of(settings).method.flat()
        del found["train_on"]  # begun runs have that of their split, which a table decides
        wanted = first.setdefault((one.setting, one.name), found)
        for option, value in wanted.items():
            if found[option] != value:
                raise UserError(f"{folder}: of the runs of {one.name} some have {option} {value}, others "
                                f"{found[option]}, because another version began them; name another comparison with "
                                "--desc")


def _check_files(folder, planned, values):
    """Make sure that files which runs read when they began have not changed for those that begin now."""
    for option, sha256 in (("init_checkpoint", "init_sha256"), ("stage_one", "stage_one_sha256"),
                           ("split", "split_sha256")):
        now = {path: file_hash(path) for path in {one.given.get(option) for one in planned}
               if path is not None and os.path.isfile(path)}
        for one, settings in zip(planned, values, strict=True):
            path = one.given.get(option)
            if settings[sha256] not in (None, now.setdefault(path, settings[sha256])):
                raise UserError(f"--{option}: the file has changed since runs in {folder} began from it; put back what "
                                "it was, or name another comparison with --desc")


def _check_images(planned, paths, k, data, settings):
    """Make sure that the runs that have begun have the images that run number `k` would have, where their options name
    the same ones."""
    def named(one):
        return [one.given.get(option) for option in ("dataset", "data_dir", *SOURCE_OPTIONS)]
    for one, path in zip(planned, paths, strict=True):
        config = read_settings(path)
        if config is None or named(one) != named(planned[k]):
            continue
        names = ["train", "test"]
        if all(config[option] == settings[option] for option in ("corruption", "num_severity")):
            names = list(data.fingerprints)
        try:
            data.source.check_run(config, path, **{name: data.fingerprints[name] for name in names})
        except UserError as error:
            raise UserError(f"{error}, or another comparison with --desc") from error


def _stored_settings(one, settings, path, check):
    """The settings of a run: those that it began with, if it has begun, and its own split."""
    if not os.path.exists(os.path.join(path, "config.json")):
        return settings
    own = resumed_settings(path, settings, _resumable_options(one), check)
    if own["total_epoch"] != settings["total_epoch"]:
        raise UserError(f"{path}: has been made longer, {own['total_epoch']} epochs where the comparison has "
                        f"{settings['total_epoch']}; name another comparison with --desc, or give --total_epoch "
                        f"{own['total_epoch']} there")
    return own


def _resumable_options(one):
    """Of the options of a planned run those that may be others when it is resumed."""
    return {option: one.given[option] for option in (*OVERRIDABLE_ON_RESUME, *FOLDER_OPTIONS) if option in one.given}
