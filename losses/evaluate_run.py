"""A trained network under many corruptions, from a run's folder or a checkpoint to its records. It stands beside the
run, whose settings say which network and data they were.
"""
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tqdm import tqdm

from corruptions import COMMON, CORRUPTIONS, SETS
from dataset import (
    SOURCE_DEFAULTS,
    SOURCE_OPTIONS,
    SOURCES,
    load_source,
    require_source_option,
    source_options,
)
from dataset.corrupted import open_corrupted
from dataset.fingerprints import joint_fingerprint
from dataset.pipeline import iterate_arrays
from dataset.published import CorruptedTestSet, find_published
from dataset.source import ImageDataset
from models import check_image_size, find_model
from models.weights import load_network
from utils import alexnet
from utils.cli import DEVICE_OPTIONS, require_writable_folder
from utils.errors import UserError
from utils.evaluate import describe_network, evaluate_arrays
from utils.files import read_json
from utils.fingerprint import first_difference
from utils.records.evaluation import (
    CLEAN,
    SEVERITIES,
    Baseline,
    as_record,
    averages,
    file_tag,
    heading,
    row,
    stored_evaluation,
    stored_scores,
    write_evaluation,
)
from utils.records.reading import planned_runs, read_record, read_results, require_not_failed
from utils.records.report import is_finished, run_title, write_run_page
from utils.records.settings import FOLDER_OPTIONS, has_same_basename
from utils.records.summary import write_evaluation_table
from utils.records.trained import TrainedNetwork, find_trained
from utils.stopping import defer_signals

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


@dataclass(frozen=True)
class EvaluationSet:
    """What networks are evaluated on, and how.

    Attributes:
        source (ImageDataset): the data set.
        images (dict): `CLEAN` to a list of the clean images, each corruption to a list over the severities.
        batch_size, workers (int): images in a batch, threads that read or make images; do not change the result.
        show_progress (bool): show the progress bar even where the output is no terminal.
        severities (list of int): of the corrupted images.
        published (CorruptedTestSet or None): where they come from, if they were not made here.
    """

    source: ImageDataset
    images: dict
    batch_size: int
    workers: int
    show_progress: bool
    severities: Sequence[int] = SEVERITIES
    published: CorruptedTestSet | None = None

    @property
    def names(self):
        """The corruptions."""
        return [name for name in self.images if name != CLEAN]

    @cached_property
    def fingerprints(self):
        """`CLEAN` and each corruption to the `Fingerprint` of its images."""
        return {CLEAN: self.source.test_fingerprint,
                **{name: joint_fingerprint(self.images[name]) for name in self.names}}

    def stored(self, trained, model):
        """The stored evaluation of a network called `model` on these images, or None."""
        network = describe_network(model, self.source)
        return stored_evaluation(trained, network, self.names, self.severities, self.fingerprints)


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
            `models.weights.read_weights`.
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


def load_evaluation_set(source, data_dir, corruptions, batch_size, workers, show_progress, corrupted="auto",
                        test_corrupted=None):
    """The `EvaluationSet` of an `ImageDataset`; other arguments as in `evaluate_run`. Images are read or made later."""
    images = {CLEAN: [source.images["test"]]}
    chosen = [corruptions] if isinstance(corruptions, str) else corruptions
    if test_corrupted is not None:
        if corrupted != "auto":
            raise UserError(f"--corrupted {corrupted}: is about images made here, not --test_corrupted; leave it out")
        published = find_published(test_corrupted, source)
        print(published, flush=True)
        severities = published.severities(chosen or published.places)
        names = [name for name in published.places if chosen is None or name in chosen]
        images.update({name: published.images(name, severities) for name in names})
        left_out = sorted({s for name in names for s in published.places[name]} - set(severities))
        if left_out:
            print(f"warning: {test_corrupted}: not all of these corruptions have severity "
                  f"{', '.join(map(str, left_out))}, which is left out", file=sys.stderr)
        return EvaluationSet(source, images, batch_size, workers, show_progress, severities, published)
    for name in CORRUPTIONS:
        if name in (chosen or COMMON):
            images[name] = open_corrupted(data_dir, source, "test", name, corrupted)
    return EvaluationSet(source, images, batch_size, workers, show_progress)


def corruption_set_name(names, published=None):
    """What a set of corruptions is called: in the name of a file, and in a text, 'common (15 corruptions)'.

    Args:
        names (list of str): the corruptions.
        published (CorruptedTestSet or None): where their images come from, if they were not made here.
    """
    words = next((word for word, members in SETS.items() if set(members) == set(names)), ", ".join(names))
    if published is not None:
        words = published.name if set(names) == set(published.places) else f"{words} of {published.name}"
    title = f"{words} ({len(names)} corruption{'' if len(names) == 1 else 's'})"
    return file_tag(title), title


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


def evaluate_network(trained, model, test, baseline=None, stored=None, is_shown=True):
    """Evaluate a network, print its table row by row unless `is_shown` is false, and write its records.

    Args:
        trained (TrainedNetwork): with a checkpoint.
        model (str): name of the network, as in `models.find_model`.
        test (EvaluationSet): on what.
        baseline (Baseline or None): what corruption errors are relative to.
        stored (dict or None): an evaluation of the same network on the same images, whose numbers are taken.

    Returns:
        dict: what the JSON holds.

    Raises:
        UserError: the checkpoint is damaged, of another network, or gives numbers that are not finite.
    """
    network, weights = load_network(model, test.source.classes, trained.checkpoint)
    epochs = weights.epochs
    planned = trained.config.get("total_epoch", epochs)
    if os.path.isdir(trained.path) and epochs < planned:
        print(f"warning: {trained.path}: the newest checkpoint is of epoch {epochs} of {planned}; --resume it trains "
              "the others", file=sys.stderr)
    tag, title = corruption_set_name(test.names, test.published)
    about = {"set": title, "dataset": test.source.name, "test_images": len(test.source.labels["test"]),
             "test_corrupted": test.published and test.published.name, "severities": list(test.severities),
             "fingerprints": {name: found.to_dict() for name, found in test.fingerprints.items()},
             **describe_network(model, test.source),
             "checkpoint": os.path.basename(trained.checkpoint), "checkpoint_sha256": trained.sha256, "epochs": epochs}
    if weights.prefix:
        print(f"{trained.checkpoint}: {weights.about_prefix}")
    if stored is not None and is_shown:
        print("\nevaluated before; delete the evaluation_SET.json files of the run to have it done again")

    def show(text):
        if is_shown:
            tqdm.write(text)  # above the bar
            sys.stdout.flush()
    show(heading(about, test.names, baseline))
    found = {}
    for name, rows in scores_by_corruption(network, test) if stored is None else stored_scores(stored, test.names):
        if not all(np.isfinite(one.nll) for one in rows):
            raise UserError(f"{trained.checkpoint}: gives numbers that are not finite; name a checkpoint of before the "
                            "training went astray")
        found[name] = rows
        show(row(name, rows, about, test.names, baseline))
    record = as_record(about, *found.pop(CLEAN), found, baseline)
    show(averages(record))
    if baseline is None and stored is not None and set(stored["corrupted"]) == set(found):
        record.update({key: stored[key] for key in ("corruption_error",) if key in stored})  # of an earlier baseline
    write_evaluation(trained.file(f"evaluation_{tag}"), record)
    results = read_results(trained.path)
    if results is not None:  # its page shows evaluations, too
        title = run_title(*(trained.config[option] for option in ("title", "dataset", "corruption")))
        write_run_page(trained.path, title, results)
    show(f"\nresults are in {trained.file(f'evaluation_{tag}')}.json and .csv")
    return record


def scores_by_corruption(network, test):
    """Yield each key of `test.images` with the list of `CalibrationScores` of its arrays, as soon as they are done."""
    arrays = [images for several in test.images.values() for images in several]
    labels = test.source.labels["test"]
    streams = iterate_arrays(arrays, labels, test.source.mean, test.source.std, test.batch_size, test.workers)
    with tqdm(total=len(arrays) * len(labels), desc="evaluating", unit=" images", leave=False,
              disable=False if test.show_progress else None) as bar:
        found = evaluate_arrays(network, (with_progress(stream, bar) for stream in streams))
        for name, several in test.images.items():
            yield name, [next(found) for _ in several]


def with_progress(batches, bar):
    """Pass batches on, and move the bar by their images."""
    for batch in batches:
        yield batch
        bar.update(int(batch[2]))
