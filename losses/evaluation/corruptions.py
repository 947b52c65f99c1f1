"""Evaluation of a trained network under many corruptions, from a run's folder or a checkpoint to the records.

It is separate from the run. The settings of the run name the network and the data.
"""
import os
import sys

from corruptions.evaluation import alexnet
from corruptions.evaluation.baseline import Baseline
from corruptions.evaluation.record import CLEAN
from corruptions.utils.errors import FAILURES, UserError, reason_of
from corruptions.utils.files import read_json, require_writable_folder
from corruptions.utils.signals import defer_signals
from dataset import (
    SOURCE_DEFAULTS,
    SOURCE_OPTIONS,
    SOURCES,
    load_source,
    require_source_option,
    source_options,
)
from losses.config.table import OPTIONS
from losses.evaluation.network import evaluate_network, load_evaluation_set
from models import check_image_size, find_model
from models.loading import load_network
from models.weight_files import read_options
from utils.fingerprint import first_difference
from utils.options import validate_values
from utils.records.reading import is_finished, planned_runs, read_record, require_not_failed
from utils.records.settings import FOLDER_OPTIONS, has_same_basename
from utils.records.trained import TrainedNetwork, find_trained
from utils.reports.summary import write_evaluation_table

ALEXNET = "alexnet"  # the only --baseline that is not a path


@defer_signals()
def evaluate_runs(path, **options):
    """Evaluate a network, or the networks of all runs of a comparison.

    In a comparison, a run that fails does not stop the other runs.

    Args:
        path (str): as in `evaluate_run`, or the folder of a comparison.
        options: further options of `evaluate_run`.

    Returns:
        bool: whether all evaluations succeeded.

    Raises:
        UserError: as in `evaluate_run`, for a single network.
        Interrupted: a signal has stopped the evaluation between two batches; stored evaluations are not repeated.
    """
    baseline = options.get("baseline")
    done, runs = evaluate_each(path, lambda run: evaluate_run(run, **options), baseline)
    if done and runs != [path]:
        evaluated = [run for run in runs if run in done]
        records, evaluations = [read_record(run) for run in evaluated], [done[run] for run in evaluated]
        print("\n" + write_evaluation_table(path, records, evaluations))
    return len(done) == len(runs)


def evaluate_each(path, evaluate, baseline=None):
    """Evaluate a network, or the networks of all runs of a comparison, of which one that fails does not stop others.

    Args:
        path (str): as in `evaluate_runs`.
        evaluate (callable): function from the path of a network to its result.
        baseline (str or None): run that goes first.

    Returns:
        tuple: the networks that were evaluated, a dict of paths to results; the list of all paths.

    Raises:
        UserError: the evaluation of a single network has failed.
    """
    runs = planned_runs(path)
    if runs == [path]:
        return {path: evaluate(path)}, runs
    done, is_other = {}, lambda run: baseline is None or os.path.realpath(run) != os.path.realpath(baseline)
    for number, run in enumerate(sorted(runs, key=is_other), 1):
        print(f"\nrun {number} of {len(runs)}: {run}", flush=True)
        try:
            require_not_failed(run)
            if not is_finished(run):
                raise UserError(f"{run}: this run has not ended; resume it with the command of the comparison")
            done[run] = evaluate(run)
        except FAILURES as error:
            print(f"failed: {reason_of(error)}", flush=True)
    return done, runs


def evaluate_run(path, corruptions=None, baseline=None, model=None, dataset=None, data_dir=None, eval_batch_size=None,
                 num_workers=1, show_progress=False, corrupted_from="auto", test_corrupted=None, severities=None,
                 **options):
    """Evaluate a network on clean and corrupted test images, print a table, and write JSON and CSV beside it.

    Args:
        path (str): folder of a run, which stands for its newest checkpoint, or a file with weights, as in
            `models.weight_files.read_weights`.
        corruptions (str, list of str or None): one or more keys of `corruptions.CORRUPTIONS`, or names of corruptions
            in `test_corrupted`; None takes the common corruptions, or all in `test_corrupted`.
        baseline (str or None): baseline of the corruption errors: a run, a checkpoint, the JSON file of an evaluation,
            or `ALEXNET`. A run or a checkpoint is evaluated first if it has no evaluation on the same corruptions and
            test images.
        model, dataset (str or None): network and data set of a checkpoint without a config.json beside it.
        data_dir (str or None): folder of the data sets; None takes the run's folder, or else ./data.
        eval_batch_size (int or None): images in a batch; None takes the run's batch size, or else 128.
        num_workers (int): number of processes, or for arrays threads, that read or make images.
        show_progress (bool): whether to show the progress bar even if the output is not a terminal.
        corrupted_from (str): source of the corrupted images, a key of `dataset.corrupted.STORAGE_MODES`.
        test_corrupted (str or None): folder of published corrupted images to use instead, as in `find_published`.
        severities (list of int or None): severities of the corrupted images, each 1 to 5; None takes all that there
            are.
        options: values of `dataset.SOURCE_OPTIONS`, for a checkpoint without a config.json beside it.

    Returns:
        dict: content of the JSON file.

    Raises:
        UserError: a file is missing or damaged, or options do not fit the network or the data.
    """
    trained, model, dataset = find_network(path, model, dataset)
    require_writable_folder("--evaluate", trained.folder)
    reference = None if baseline is None else locate_baseline(baseline, dataset)

    source, data_dir = load_test_images(trained, model, dataset, data_dir, options)
    test = load_evaluation_set(source, data_dir, corruptions,
                               trained.eval_batch_size(eval_batch_size), num_workers, show_progress, corrupted_from,
                               test_corrupted, severities)
    load_network(model, test.source.classes, trained.checkpoint)  # finds a wrong checkpoint now
    is_itself = os.path.realpath(trained.checkpoint) == os.path.realpath(getattr(reference, "checkpoint", None) or "")
    relative_to = None
    if baseline is not None:
        if isinstance(reference, TrainedNetwork):
            own = load_source(dataset, data_dir, **run_options(reference, dataset, {} if reference.config else options))
            own.check_run(reference.config, reference.path)
            test_of_reference = load_evaluation_set(own, data_dir, test.names, test.batch_size, num_workers,
                                                    show_progress, corrupted_from, test_corrupted, test.severities)
        else:
            test_of_reference = test
        relative_to = load_baseline(baseline, reference, model, test_of_reference, not is_itself)
    return evaluate_network(trained, model, test, relative_to, test.stored(trained, model))


def find_network(path, model=None, dataset=None):
    """Return the `TrainedNetwork` at a path, with a checkpoint, and the names of its network and its data set.

    Arguments and errors are as in `evaluate_run`.
    """
    trained = find_trained("--evaluate", path)
    model = trained.setting("model", model)
    find_model(model, f"{trained.path}: is of ")
    dataset = trained.setting("dataset", dataset, SOURCES)
    if trained.checkpoint is None:
        require_not_failed(path)
        raise UserError(f"--evaluate {path}: has no checkpoint; --resume it, which leaves one after every epoch")
    return trained, model, dataset


def load_test_images(trained, model, dataset, data_dir, options):
    """Load the data set of a trained network, and check that it is the one that the network was tested on.

    Args:
        trained (TrainedNetwork): the network.
        model, dataset (str): names of its network and of its data set.
        data_dir (str or None): folder of the data sets; None takes the run's folder, or else ./data.
        options (dict): values of `dataset.SOURCE_OPTIONS` on the command line.

    Returns:
        tuple: the data set (ImageDataset); the folder of the data sets (str).

    Raises:
        UserError: the data set is missing, or of other images than the run's, or does not fit the network.
    """
    data_dir = data_dir or trained.config.get("data_dir", os.path.abspath("./data"))
    source = load_source(dataset, data_dir, **run_options(trained, dataset, options))
    source.check_run(trained.config, trained.path)
    if trained.zoo_fingerprint not in (None, source.test_fingerprint.to_dict()):
        print(f"warning: {trained.path}: the accuracy in models/README.md is of other test images of {dataset}",
              file=sys.stderr)
    check_image_size(model, *source.image_size)
    return source, data_dir


def run_options(trained, dataset, given):
    """Return the values of `dataset.SOURCE_OPTIONS` that a network was trained with, and the present paths of folders.

    For a network without a config.json, return the options that its file keeps, and the given ones.

    Raises:
        UserError: a given option differs from the training.
    """
    given = {**dict.fromkeys(SOURCE_OPTIONS), **given}
    trained_options = source_options(trained.config)
    stored = {option: value for option, value in trained_options.items() if value is not None}
    validate_values([OPTIONS[option] for option in SOURCE_OPTIONS], stored, trained.path)
    if not trained.config:
        kept = read_options(trained.checkpoint)
        validate_values([OPTIONS[option] for option in SOURCE_OPTIONS], kept, trained.path)
        trained_options = {**given, **{option: value for option, value in source_options(kept).items()
                                       if value is not None and dataset in SOURCE_OPTIONS[option]}}
    for option, value in given.items():
        known = trained_options[option] or SOURCE_DEFAULTS[option]
        if value is None:
            continue
        require_source_option(dataset, option)
        if option in FOLDER_OPTIONS and has_same_basename(known, value):
            trained_options[option] = value
        elif value != known:
            raise UserError(f"--{option} {_words(value)}: {trained.path} was trained with {_words(known)}; leave the "
                            "option out")
    return {**given, **trained_options}


def _words(value):
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


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


