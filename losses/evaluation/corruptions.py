"""A trained network under many corruptions, from a run's folder or a checkpoint to its records. It stands beside the
run, whose settings say which network and data they were.
"""
import os
import sys

from dataset import (
    SOURCE_DEFAULTS,
    SOURCE_OPTIONS,
    SOURCES,
    load_source,
    require_source_option,
    source_options,
)
from losses.evaluation.network import evaluate_network, load_evaluation_set
from models import check_image_size, find_model
from models.weights import load_network
from utils.errors import UserError
from utils.files import read_json, require_writable_folder
from utils.fingerprint import first_difference
from utils.records import alexnet
from utils.records.evaluation import (
    CLEAN,
    Baseline,
)
from utils.records.reading import is_finished, planned_runs, read_record, require_not_failed
from utils.records.settings import FOLDER_OPTIONS, has_same_basename
from utils.records.trained import TrainedNetwork, find_trained
from utils.reports.summary import write_evaluation_table
from utils.runtime.signals import defer_signals
from utils.shared_options import DEVICE_OPTIONS

# The options of main.py that have an effect here.
EVALUATION_OPTIONS = ("evaluate", "baseline", "corruption", "dataset", "model", "data_dir", "corrupted",
                      "test_corrupted", *SOURCE_OPTIONS, "eval_batch_size", "num_workers", "show_progress",
                      *DEVICE_OPTIONS)

ALEXNET = "alexnet"  # the --baseline that is no run


def add_evaluation_arguments(parser):
    """The options that ask for an evaluation instead of a training."""
    group = parser.add_argument_group("evaluation of trained networks")
    add = group.add_argument
    add("--evaluate", metavar="RUN", default=None,
        help="instead of training, evaluate the run in the folder RUN, a file RUN with weights (as of "
             "--init_checkpoint; -m and -d say what one without a config.json is), or every run of the comparison in "
             "the folder RUN, on clean test images and those of -c (here by default common) at severities 1 to 5; "
             "evaluation_SET.json and .csv are written beside it")
    add("--baseline", metavar="RUN", default=None,
        help="--evaluate: what corruption errors are relative to, such as a run of erm: a run, a checkpoint, the "
             "evaluation_SET.json of one, or, on imagenet, the word alexnet for AlexNet's published errors, which with "
             "-c common gives the mCE of the papers (a folder of that name is ./alexnet)")
    add("--test_corrupted", metavar="DIR", type=os.path.abspath, default=None,
        help="test on published corrupted images, such as CIFAR-10-C or ImageNet-C, in place of those made here; with "
             "--evaluate, -c takes the names that are in DIR, by default all. dataset/README.md lists the layouts")


@defer_signals()
def evaluate_runs(path, **options):
    """Evaluate a network, or those of all runs of a comparison, of which one that fails does not stop the others.

    Args:
        path (str): as in `evaluate_run`, or the folder of a comparison.
        options: others of `evaluate_run`.

    Returns:
        bool: whether all went well.

    Raises:
        UserError: as `evaluate_run`, for a single network.
        Interrupted: a signal has stopped it, between two batches; evaluations that were written are not made again.
    """
    runs = planned_runs(path)
    if runs == [path]:
        evaluate_run(path, **options)
        return True
    baseline, done = options.get("baseline"), {}
    runs.sort(key=lambda run: baseline is None or os.path.realpath(run) != os.path.realpath(baseline))  # it comes first
    for number, run in enumerate(runs, 1):
        print(f"\nrun {number} of {len(runs)}: {run}", flush=True)
        try:
            require_not_failed(run)
            if not is_finished(run):
                raise UserError(f"{run}: this run has not ended; go on with the command of the comparison")
            done[run] = evaluate_run(run, **options)
        except UserError as error:
            print(f"failed: {error}", flush=True)
    if done:
        evaluated = [run for run in planned_runs(path) if run in done]
        records, evaluations = [read_record(run) for run in evaluated], [done[run] for run in evaluated]
        print("\n" + write_evaluation_table(path, records, evaluations))
    return len(done) == len(runs)


def evaluate_run(path, corruptions=None, baseline=None, model=None, dataset=None, data_dir=None, eval_batch_size=None,
                 num_workers=1, show_progress=False, corrupted="auto", test_corrupted=None, **options):
    """Evaluate a network on clean and corrupted test images, print a table, and write JSON and CSV beside it.

    Args:
        path (str): folder of a run, of which the newest checkpoint is taken, or a file with weights, as in
            `models.weight_files.read_weights`.
        corruptions (str, list of str or None): one or more keys of `corruptions.CORRUPTIONS`, or names that are in
            `test_corrupted`; None takes the common ones, or all that are there.
        baseline (str or None): what corruption errors are relative to: a run or a checkpoint, which is evaluated first
            where it has no evaluation of the same corruptions and test images, the JSON of an evaluation, or `ALEXNET`.
        model, dataset (str or None): what a checkpoint is that has no config.json beside it.
        data_dir (str or None): folder of the data sets; None takes the run's, or else ./data.
        eval_batch_size (int or None): images in a batch; None takes the run's, or else 128.
        num_workers (int): threads that read or make images.
        show_progress (bool): show the progress bar even where the output is no terminal.
        corrupted (str): where corrupted images come from, a key of `dataset.corrupted.STORAGE_MODES`.
        test_corrupted (str or None): folder of published corrupted images in place of such, as in `find_published`.
        options: of `dataset.SOURCE_OPTIONS`, for a checkpoint that has no config.json beside it.

    Returns:
        dict: what the JSON holds.

    Raises:
        UserError: something is missing or damaged, or does not fit.
    """
    trained = find_trained("--evaluate", path)
    model = trained.setting("model", model)
    find_model(model, f"{trained.path}: is of ")
    dataset = trained.setting("dataset", dataset, SOURCES)
    if trained.checkpoint is None:
        require_not_failed(path)
        raise UserError(f"--evaluate {path}: has no checkpoint; --resume it, which leaves one after every epoch")
    require_writable_folder("--evaluate", trained.folder)
    reference = None if baseline is None else locate_baseline(baseline, dataset)

    data_dir = data_dir or trained.config.get("data_dir", os.path.abspath("./data"))
    source = load_source(dataset, data_dir, **run_options(trained, dataset, options))
    for one in (trained, reference):
        if isinstance(one, TrainedNetwork):
            source.check_run(one.config, one.path)
    check_image_size(model, *source.image_size)
    test = load_evaluation_set(source, data_dir, corruptions,
                               eval_batch_size or trained.config.get("eval_batch_size", 128), num_workers,
                               show_progress, corrupted, test_corrupted)
    load_network(model, test.source.classes, trained.checkpoint)  # to find a wrong one now
    is_itself = os.path.realpath(trained.checkpoint) == os.path.realpath(getattr(reference, "checkpoint", None) or "")
    relative_to = None if baseline is None else load_baseline(baseline, reference, model, test, not is_itself)
    return evaluate_network(trained, model, test, relative_to, test.stored(trained, model))


def run_options(trained, dataset, given):
    """The options of `dataset.SOURCE_OPTIONS` that a network was trained with, folders where they lie now, or, of one
    without a config.json, those that are given.

    Raises:
        UserError: the two differ.
    """
    if not trained.config:
        return given
    own = source_options(trained.config)
    for option, value in given.items():
        known = own[option] or SOURCE_DEFAULTS[option]
        if value is None:
            continue
        require_source_option(dataset, option)
        if option in FOLDER_OPTIONS and has_same_basename(known, value):
            own[option] = value
        elif value != known:
            raise UserError(f"--{option} {value}: {trained.path} was trained with {known}; leave the option out")
    return {**given, **own}


def locate_baseline(path, dataset):
    """A baseline as `TrainedNetwork`, or as the record of its evaluation where `path` is that; None of `ALEXNET`.

    Raises:
        UserError: it is not there, or of another data set than `dataset`.
    """
    if path == ALEXNET:
        if dataset != alexnet.DATASET:
            raise UserError(f"--baseline {path}: its published errors are of {alexnet.DATASET}, not of {dataset}; name "
                            f"a run of {dataset} (a folder of that name is ./{path})")
        return None
    if os.path.isfile(path) and path.endswith(".json"):
        content = read_json(path)
        found = settings = content if isinstance(content, dict) else {}
    else:
        found = find_trained("--baseline", path)
        settings = found.config
    if settings.get("dataset", dataset) != dataset:
        raise UserError(f"--baseline {path}: is of {settings['dataset']}, not of {dataset}; name one of the same data "
                        "set")
    return found


def load_baseline(path, reference, model, test, is_shown=True):
    """The `Baseline` that `locate_baseline` has found; evaluated where its evaluation is not there, which is printed if
    `is_shown`.

    Raises:
        UserError: it cannot be evaluated, or its evaluation is of other images, classes or corruptions.
    """
    if path == ALEXNET:
        if test.source.classes != alexnet.CLASSES:
            raise UserError(f"--baseline {path}: its published errors are of {alexnet.CLASSES} classes, and "
                            f"{test.source.name} has {test.source.classes} here; name a run of the same classes")
        return Baseline.of_alexnet(test.names, test.severities)
    if isinstance(reference, dict):
        found = Baseline.of_record(path, reference, test.names, test.severities)
        check_baseline(path, reference, test)
        return found
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
    """Make sure that the evaluation in a JSON file was of the images of an `EvaluationSet`.

    Raises:
        UserError: it was of others.
    """
    stored = record.get("fingerprints")
    if stored is None:
        print(f"warning: --baseline {path}: an earlier version wrote it, and it does not say which images it is of",
              file=sys.stderr)
        return
    found = first_difference(stored, test.fingerprints)
    if found is not None:
        name, changed = found
        images = "test images" if name == CLEAN else f"images of {name}"
        raise UserError(f"--baseline {path}: was evaluated on other {images} ({changed}); name the run that it is of")


