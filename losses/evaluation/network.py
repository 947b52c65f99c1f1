"""Scores of one network on clean and on corrupted test images."""
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tqdm import tqdm

from corruptions import COMMON, CORRUPTIONS
from corruptions.evaluation.record import CLEAN, averages, file_tag, heading, row, to_dict, write_evaluation
from corruptions.severities import SEVERITIES
from corruptions.table import set_title, set_words
from corruptions.utils.errors import UserError
from dataset.corrupted import open_corrupted
from dataset.find_published import find_published
from dataset.fingerprints import joint_fingerprint
from dataset.pipeline import iterate_arrays
from dataset.published import CorruptedTestSet
from dataset.sources.base import ImageDataset
from losses.config.published_run import published_row
from losses.evaluation.predict import describe_network, evaluate_arrays
from models.loading import load_network
from utils.records.evaluation import network_title, stored_evaluation, stored_scores
from utils.records.reading import read_results
from utils.reports.page import PAGE
from utils.reports.run import run_title, write_run_page

# The ten corruptions of the published set ImageNet-C-bar.
IMAGENET_C_BAR = ("blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout",
                  "cocentric_sine_waves", "inverse_sparkles", "perlin_noise", "plasma_noise",
                  "single_frequency_greyscale", "sparkles")


@dataclass(frozen=True)
class EvaluationSet:
    """The images that networks are evaluated on, and settings of the evaluation.

    Attributes:
        source (ImageDataset): the data set.
        images (dict): `CLEAN` to a list of the clean images, each corruption to a list over the severities.
        batch_size, workers (int): images in a batch, processes that read or make images; do not change the result.
        show_progress (bool): whether to show the progress bar even if the output is not a terminal.
        severities (list of int): severities of the corrupted images.
        published (CorruptedTestSet or None): source of the corrupted images if they were not made here.
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
        """Return the stored evaluation of the trained network on these images, or None. `model` is its architecture."""
        network = describe_network(model, self.source)
        return stored_evaluation(trained, network, self.names, self.severities, self.fingerprints)


def load_evaluation_set(source, data_dir, corruptions, batch_size, workers, show_progress, corrupted_from="auto",
                        test_corrupted=None, severities=None):
    """Return the `EvaluationSet` of an `ImageDataset`. Images are read or made later.

    Other arguments are as in `evaluate_run`.
    """
    images = {CLEAN: [source.images["test"]]}
    chosen = [corruptions] if isinstance(corruptions, str) else corruptions
    if test_corrupted is not None:
        if corrupted_from != "auto":
            raise UserError(f"--corrupted_from {corrupted_from}: has no effect with --test_corrupted; leave it out")
        published = find_published(test_corrupted, source)
        print(published, flush=True)
        there = published.severities(chosen or published.places)
        lacking = [severity for severity in severities or () if severity not in there]
        if lacking:
            raise UserError(f"--severity {lacking[0]}: not all of these corruptions in {test_corrupted} have it; they "
                            f"have {', '.join(map(str, there))}")
        severities = severities or there
        names = [name for name in published.places if chosen is None or name in chosen]
        images.update({name: published.images(name, severities) for name in names})
        left_out = sorted({s for name in names for s in published.places[name]} - set(there))
        if left_out:
            print(f"warning: {test_corrupted}: not all of these corruptions have severity "
                  f"{', '.join(map(str, left_out))}, which is left out", file=sys.stderr)
        return EvaluationSet(source, images, batch_size, workers, show_progress, severities, published)
    severities = severities or SEVERITIES
    for name in CORRUPTIONS:
        if name in (chosen or COMMON):
            images[name] = open_corrupted(data_dir, source, "test", name, corrupted_from, severities)
    return EvaluationSet(source, images, batch_size, workers, show_progress, severities)


def corruption_set_name(names, published=None, severities=SEVERITIES):
    """Return the name of a set of corruptions in file names, and its title in texts, 'common (15 corruptions)'.

    Args:
        names (list of str): the corruptions.
        published (CorruptedTestSet or None): source of the images if they were not made here.
        severities (sequence of int): severities that are evaluated.
    """
    words = set_words(names)
    if published is not None:
        words = published.name if set(names) == set(published.places) else f"{words} of {published.name}"
    title = set_title(words, len(names))
    everything = SEVERITIES if published is None else published.severities(names)
    if list(severities) == list(everything):
        return file_tag(title), title
    return (f"{file_tag(title)}_severity{'+'.join(map(str, severities))}",
            f"{title}, severity {', '.join(map(str, severities))}")


def evaluate_network(trained, model, test, baseline=None, stored=None, is_shown=True):
    """Evaluate a network, print its table row by row unless `is_shown` is false, and write its records.

    Args:
        trained (TrainedNetwork): a trained network with a checkpoint.
        model (str): name of the network, as in `models.find_model`.
        test (EvaluationSet): images of the evaluation.
        baseline (Baseline or None): baseline of the corruption errors.
        stored (dict or None): an evaluation of the same network on the same images; its numbers are used.

    Returns:
        dict: content of the JSON file.

    Raises:
        UserError: the checkpoint is damaged, belongs to another network, or gives numbers that are not finite.
    """
    network, weights = load_network(model, test.source.classes, trained.checkpoint)
    epochs = weights.epochs
    planned = trained.config.get("total_epoch", epochs)
    if os.path.isdir(trained.path) and epochs is not None and epochs < planned:
        print(f"warning: {trained.path}: the newest checkpoint is after {epochs} of {planned} epochs; --resume trains "
              "the others", file=sys.stderr)
    tag, title = corruption_set_name(test.names, test.published, test.severities)
    description = {"set": title, "dataset": test.source.name, "test_images": len(test.source.labels["test"]),
                   "test_corrupted": test.published and test.published.name, "severities": list(test.severities),
                   "file_tag": tag,
                   "fingerprints": {name: values.to_dict() for name, values in test.fingerprints.items()},
                   **describe_network(model, test.source),
                   "checkpoint": os.path.basename(trained.checkpoint), "checkpoint_sha256": trained.sha256,
                   "epochs": epochs}
    for note in weights.notes:
        print(f"{trained.checkpoint}: {note}")
    if stored is not None and is_shown:
        print(f"\nevaluated before; remove {trained.file('evaluation_*.json')} to evaluate again")

    def show(text):
        if is_shown:
            tqdm.write(text)  # above the progress bar
            sys.stdout.flush()
    show(heading(f"{title} on {test.source.name}, {description['test_images']} test images: {model}, "
                 f"{network_title(description)}", description, test.names, baseline))
    values = {}
    for name, rows in scores_by_corruption(network, test) if stored is None else stored_scores(stored, test.names):
        require_finite([score.nll for score in rows], trained.checkpoint)
        values[name] = rows
        show(row(name, rows, description, test.names, baseline))
    record = to_dict(description, *values.pop(CLEAN), values, baseline)
    show(averages(record))
    published = published_errors(trained.config, model, test, epochs)
    if published is not None:
        measured = [100 * error for error in record["by_severity"]["error"]]
        record["published"] = {"source": published.title, "error": published.numbers, "std": published.deviations,
                               "difference": published.differences(measured)}
        differences = "  ".join(f"{value:+.2f}" for value in record["published"]["difference"])
        show(f"published error (%), {published.title}: {'  '.join(published.texts())}\n"
             f"measured - published (percentage points): {differences}")
    if baseline is None and stored is not None and set(stored["corrupted"]) == set(values):
        record.update({key: stored[key] for key in ("corruption_error",) if key in stored})  # of an earlier baseline
    write_evaluation(trained.file(f"evaluation_{tag}"), record)
    results = read_results(trained.path)
    show("")
    if results is not None:  # the page of a run shows its evaluations, too
        settings = {"title": trained.config.get("method"), **trained.config}  # an earlier version stored no title
        title = run_title(*(settings[option] for option in ("title", "dataset", "corruption")))
        write_run_page(trained.path, title, results)
        show(f"report: {trained.file(PAGE)}")
    show(f"results are in {trained.file(f'evaluation_{tag}')}.json and .csv")
    return record


def require_finite(values, checkpoint):
    """Raise a `UserError` that names the file `checkpoint` unless all numbers that its network gave are finite."""
    if not np.isfinite(values).all():
        raise UserError(f"{checkpoint}: gives numbers that are not finite; name an earlier checkpoint")


def published_errors(config, model, test, epochs):
    """Return the published errors of a trained network, averaged over the corruptions of its evaluation, or None.

    Args:
        config (dict): settings of its run; empty if there are none.
        model (str): name of the network.
        test (EvaluationSet): images of the evaluation.
        epochs (int or None): number of epochs that it was trained for; None takes the number in the settings.
    """
    corruptions = {frozenset(COMMON): "ImageNet-C", frozenset(IMAGENET_C_BAR): "ImageNet-C-bar"}.get(
        frozenset(test.names))
    if corruptions is None or list(test.severities) != list(SEVERITIES):
        return None
    # The corrupted images of the evaluation are not those that the run was tested on.
    values = {**config, "model": model, "test_corrupted": None}
    if epochs is not None:
        values["total_epoch"] = epochs
    return published_row(values, config.get("title"), corruptions)


def scores_by_corruption(network, test):
    """Yield each key of `test.images` with the list of `CalibrationScores` of its arrays, as soon as it is complete."""
    arrays = [images for image_arrays in test.images.values() for images in image_arrays]
    labels = test.source.labels["test"]
    streams = iterate_arrays(arrays, labels, test.source.mean, test.source.std, test.batch_size, test.workers)
    with tqdm(total=len(arrays) * len(labels), desc="evaluating", unit=" images", leave=False,
              disable=False if test.show_progress else None) as bar:
        results = evaluate_arrays(network, (with_progress(stream, bar) for stream in streams))
        for name, image_arrays in test.images.items():
            yield name, [next(results) for _ in image_arrays]


def with_progress(batches, bar):
    """Yield batches, and advance the progress bar by their images."""
    for batch in batches:
        yield batch
        bar.update(int(batch[2]))
