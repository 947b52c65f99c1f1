"""How a method treats the training data before they reach its step."""
import sys

import numpy as np

from losses.components import OBJECTIVES
from losses.training.stage_one import error_set, infer_environments
from utils.reports.run import report_stage_one


def inverse_frequency(counts):
    """The chances with which `--aug_severity rare` draws severities s = 1, 2, ...: (1 / n_s) over the sum of them all.

    Args:
        counts (numpy.ndarray): int (S - 1,), the numbers n_s of training images; none counts as one.

    Returns:
        numpy.ndarray: float64 (S - 1,).
    """
    rarity = 1 / np.maximum(counts, 1)
    return rarity / rarity.sum()


def apply_data_strategy(method, data, corruption, seed, folder, first_logits):
    """What the batches of a method's training have that others do not.

    Args:
        method (MethodConfig): the method.
        data (dataset.data.ExperimentData): its training images.
        corruption (str): with which `half_corrupted` corrupts where the option `aug_corruption` is not given.
        seed (int): of the inferred environments.
        folder (RunFolder): gets tables of what a stage one finds.
        first_logits (callable): gives a first model's logits for the training images, float32 (n, K).

    Returns:
        dict: arguments of `dataset.batches.TrainBatches`.
    """
    split = data.split
    # An objective that does without the distributions is not told of them.
    treated = {} if OBJECTIVES[method.objective].reads_groups else {"groups": np.zeros_like(split.severities)}
    if method.data == "half_corrupted":
        treated["corruption"] = method.options["aug_corruption"] or corruption
        if method.options["aug_severity"] == "rare":
            treated["chances"] = inverse_frequency(split.counts[1:])
    elif method.data == "error_set":
        labels = data.train_labels
        found = error_set(first_logits(), labels)
        report_stage_one(folder, method.data, "error", split, labels, found)
        if not found.any():
            print("warning: the first model makes no error, so that jtt is erm; fewer --stage_one_epochs leave some",
                  file=sys.stderr)
        treated["repeats"] = np.where(found, method.options["jtt_lambda"], 1)
    elif method.data == "environments":
        labels = data.train_labels
        probability = infer_environments(first_logits(), labels, seed)
        found = probability > 0.5
        report_stage_one(folder, method.data, "environment_1", split, labels, found, probability=probability)
        treated["groups"] = found.astype(np.int32)
    return treated
