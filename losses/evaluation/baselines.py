"""The baseline of the corruption errors of an evaluation: a network, a stored evaluation, or the published AlexNet."""
import os
import sys

from corruptions.evaluation import alexnet
from corruptions.evaluation.baseline import Baseline
from corruptions.evaluation.record import CLEAN
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, require_writable_folder
from losses.evaluation.network import evaluate_network
from models import find_model
from utils.fingerprint import first_difference
from utils.records.trained import find_trained

ALEXNET = "alexnet"  # the only --baseline that is not a path


def locate_baseline(path, dataset):
    """Return a baseline as `TrainedNetwork`, or its record if `path` is an evaluation, or None for `ALEXNET`.

    Raises:
        UserError: the baseline is missing, or belongs to another data set than `dataset`.
    """
    if path == ALEXNET:
        if dataset != alexnet.DATASET:
            raise UserError(f"--baseline {path}: its errors are published for {alexnet.DATASET}, not for {dataset}; "
                            f"name a run of {dataset} (a folder of that name is ./{path})")
        return None
    if path.endswith(".json") and not os.path.isdir(path):
        if not os.path.isfile(path):
            raise UserError(f"--baseline {path}: no such file; name a run, a checkpoint, or the JSON file of an "
                            "evaluation")
        content = read_json(path)
        reference = settings = content if isinstance(content, dict) else {}
    else:
        reference = find_trained("--baseline", path)
        settings = reference.config
    if settings.get("dataset", dataset) != dataset:
        raise UserError(f"--baseline {path}: has results on {settings['dataset']}, not on {dataset}; name a baseline "
                        "on the same data set")
    return reference


def load_baseline(path, reference, model, test, is_shown=True):
    """Return the `Baseline` from the result of `locate_baseline`.

    If it has no stored evaluation, it is evaluated, and the table is printed if `is_shown` is true.

    Raises:
        UserError: the baseline cannot be evaluated, or its evaluation used other images, classes or corruptions.
    """
    if path == ALEXNET:
        if test.source.classes != alexnet.CLASSES:
            raise UserError(f"--baseline {path}: its errors are published for {alexnet.CLASSES} classes, "
                            f"and {test.source.name} has {test.source.classes} here; name a run with the same classes")
        return Baseline.of_alexnet(test.names, test.severities)
    if isinstance(reference, dict):
        baseline = Baseline.of_record(path, reference, test.names, test.severities)
        check_baseline(path, reference, test)
        return baseline
    model = reference.setting("model", reference.config.get("model", model))
    find_model(model, f"{path}: is of ")
    record = test.stored(reference, model)
    if record is None and reference.checkpoint is None:
        raise UserError(f"--baseline {path}: has neither a checkpoint nor an evaluation of {', '.join(test.names)} on "
                        "these test images; name another")
    if record is None:
        require_writable_folder("--baseline", reference.folder)
        record = evaluate_network(reference, model, test, is_shown=is_shown)
    return Baseline.of_record(path, record, test.names, test.severities)


def check_baseline(path, record, test):
    """Check that the evaluation in a JSON file used the images of an `EvaluationSet`.

    Raises:
        UserError: the evaluation used other images.
    """
    stored = record.get("fingerprints")
    if stored is None and "images" in record:  # which only `corruptions.benchmark` writes
        raise UserError(f"--baseline {path}: comes from corruptions.benchmark, which does not record the same hashes "
                        "of images; name a run or a checkpoint")
    if stored is None:
        print(f"warning: --baseline {path}: an earlier version wrote it, without saying which images it measured",
              file=sys.stderr)
        return
    difference = first_difference(stored, test.fingerprints)
    if difference is not None:
        name, changed = difference
        images = "test images" if name == CLEAN else f"images of {name}"
        raise UserError(f"--baseline {path}: was evaluated on other {images} ({changed}); name its run")
