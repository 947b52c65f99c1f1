"""Scores of one network on clean and on corrupted test images."""
import os
import sys

import numpy as np
from tqdm import tqdm

from corruptions import COMMON
from corruptions.evaluation.record import CLEAN, averages, heading, row, to_dict, write_evaluation
from corruptions.severities import SEVERITIES
from corruptions.utils.errors import UserError
from dataset.pipeline import iterate_arrays
from losses.config.published_run import published_row
from losses.evaluation.evaluation_set import corruption_set_name
from losses.evaluation.predict import describe_network, evaluate_arrays
from models.loading import load_network
from utils.records.evaluation import network_title, stored_scores
from utils.records.reading import read_results
from utils.reports.page import PAGE
from utils.reports.run import run_title, write_run_page

# The ten corruptions of the published set ImageNet-C-bar.
IMAGENET_C_BAR = ("blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout",
                  "cocentric_sine_waves", "inverse_sparkles", "perlin_noise", "plasma_noise",
                  "single_frequency_greyscale", "sparkles")


def evaluate_network(trained, model, test, baseline=None, stored=None, is_shown=True):
    """Evaluate a network, print its table row by row, and write its records.

    Args:
        trained (TrainedNetwork): a trained network with a checkpoint.
        model (str): name of the network, as in `models.find_model`.
        test (EvaluationSet): images of the evaluation.
        baseline (Baseline or None): baseline of the corruption errors.
        stored (dict or None): an evaluation of the same network on the same images; its numbers are used.
        is_shown (bool): whether to print the table, and what is to be known about the checkpoint.

    Returns:
        dict: content of the JSON file.

    Raises:
        UserError: the checkpoint is damaged, belongs to another network, or gives numbers that are not finite.
    """
    network, weights = load_network(model, test.source.classes, trained.checkpoint)
    description = describe_evaluation(trained, model, test, weights.epochs)
    names, path = test.names, trained.file(f"evaluation_{description['file_tag']}")

    def show(text):
        if is_shown:
            tqdm.write(text)  # above the progress bar
            sys.stdout.flush()
    if is_shown:
        warn_if_unfinished(trained, weights.epochs)
    for note in weights.notes:
        show(f"{trained.checkpoint}: {note}")
    if stored is not None:
        show(f"\nevaluated before; remove {trained.file('evaluation_*.json')} to evaluate again")
    show(heading(f"{description['set']} on {test.source.name}, {description['test_images']} test images: {model}, "
                 f"{network_title(description)}", description, names, baseline))
    scores = {}
    for name, rows in scores_by_corruption(network, test) if stored is None else stored_scores(stored, names):
        require_finite([score.nll for score in rows], trained.checkpoint)
        scores[name] = rows
        show(row(name, rows, description, names, baseline))
    record = to_dict(description, *scores.pop(CLEAN), scores, baseline)
    show(averages(record))
    published = published_errors(trained.config, model, test, weights.epochs)
    if published is not None:
        record["published"] = compare_with_published(record, published)
        differences = "  ".join(f"{value:+.2f}" for value in record["published"]["difference"])
        show(f"published error (%), {published.title}: {'  '.join(published.texts())}\n"
             f"measured - published (percentage points): {differences}")
    if baseline is None and stored is not None and set(stored["corrupted"]) == set(scores):
        record.update({key: stored[key] for key in ("corruption_error",) if key in stored})  # of an earlier baseline
    write_evaluation(path, record)
    show("")
    if update_page(trained):
        show(f"report: {trained.file(PAGE)}")
    show(f"results are in {path}.json and .csv")
    return record


def describe_evaluation(trained, model, test, epochs):
    """Return the part of a record that says what is evaluated, without results; arguments as in `evaluate_network`."""
    tag, title = corruption_set_name(test.names, test.published, test.severities)
    return {"set": title, "dataset": test.source.name, "test_images": len(test.source.labels["test"]),
            "test_corrupted": test.published and test.published.name, "severities": list(test.severities),
            "file_tag": tag, "fingerprints": {name: values.to_dict() for name, values in test.fingerprints.items()},
            **describe_network(model, test.source),
            "checkpoint": os.path.basename(trained.checkpoint), "checkpoint_sha256": trained.sha256, "epochs": epochs}


def warn_if_unfinished(trained, epochs):
    """Print a warning if the newest checkpoint of a run, after `epochs` epochs, is not its last one."""
    planned = trained.config.get("total_epoch", epochs)
    if os.path.isdir(trained.path) and epochs is not None and epochs < planned:
        print(f"warning: {trained.path}: the newest checkpoint is after {epochs} of {planned} epochs; --resume trains "
              "the others", file=sys.stderr)


def compare_with_published(record, published):
    """Return the entry `published` of a record (dict) from its errors and a `losses.config.published.Published`."""
    measured = [100 * error for error in record["by_severity"]["error"]]
    return {"source": published.title, "error": published.numbers, "std": published.deviations,
            "difference": published.differences(measured)}


def update_page(trained):
    """Write the page of a run again, which shows its evaluations, too. Return whether there is a run with results."""
    results = read_results(trained.path)
    if results is None:
        return False
    settings = {"title": trained.config.get("method"), **trained.config}  # an earlier version stored no title
    write_run_page(trained.path, run_title(*(settings[option] for option in ("title", "dataset", "corruption"))),
                   results)
    return True


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
