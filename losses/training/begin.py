"""The settings of a run in its folder: written when it begins, compared when it resumes."""
from corruptions.utils.files import read_json, write_json
from models.stacked import model_has_batch_norm
from utils.records.machine import machine, machine_text
from utils.records.settings import write_run_settings
from utils.runtime import distributed


def begin_or_resume(folder, data, config, given, device):
    """Write the split and the settings of a new run; for a run that has begun, note what is different now.

    Args:
        folder (RunFolder): folder of the run.
        data (dataset.data.ExperimentData): data with the split.
        config (RunConfig): settings of the run.
        given (dict): the options that the command line names.
        device (str): device on which the run begins or resumes.
    """
    stored = read_json(folder.file("config.json"))
    if stored is not None:
        note_differences(folder, stored, config, device)
        return
    data.write_split(folder.file("split.csv"))
    values = {**config.to_dict(), "classes": list(data.source.class_names),
              "fingerprints": {name: identity.to_dict() for name, identity in data.fingerprints.items()},
              "train_on": data.split.train_on}  # as in `run`
    write_run_settings(folder.file("config.json"), values, config.method.title, given, **machine(device))


def note_differences(folder, stored, config, device):
    """Warn if a run resumes with other workers or on another machine, and store the number of epochs of a longer run.

    `stored` is its `config.json` (dict); the others are as in `begin_or_resume`.
    """
    method, world_size = config.method, distributed.world_size()
    before = stored.get("world_size", stored.get("workers", 1))  # its earlier name
    each = [what for what, depends in (
        ("BatchNorm takes the statistics", not method.sync_bn and model_has_batch_norm(config.model)),
        ("--crop random_resized draws the crops", method.crop == "random_resized")) if depends]
    if before != world_size and each:
        folder.log(f"warning: the number of workers was {before} and is {world_size} now: {' and '.join(each)} of each "
                   "one's part of a batch, so that from here on the run is another than it would have been")
    now = {**machine(device), "fast_math": config.fast_math}
    first, now = machine_text({**now, **stored}), machine_text(now)
    if first != now:
        folder.log(f"warning: the run began on {first} and resumes on {now}, which may give other numbers, so that "
                   "from here on the run may differ from an uninterrupted one")
    if stored["total_epoch"] < method.total_epoch:
        folder.log(f"{method.total_epoch} epochs in place of {stored['total_epoch']}, with the learning rates "
                   "of so many from here on")
        longer = {"total_epoch": method.total_epoch}
        write_json(folder.file("config.json"), {**stored, **longer, "given": {**stored.get("given", {}), **longer}})
