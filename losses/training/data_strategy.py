"""The treatment of the training data by a method, before they reach its step."""
import sys

import numpy as np

from losses.components import OBJECTIVES
from losses.training.stage_one import error_set, infer_environments
from utils.reports.run import report_stage_one


def inverse_frequency(counts):
    """Return the probabilities of severities s = 1, 2, ... with `--aug_severity rare`: 1 / n_s over the sum of all.

    Args:
        counts (numpy.ndarray): int (S - 1,), the numbers n_s of training images; 0 counts as 1.

    Returns:
        numpy.ndarray: float64 (S - 1,).
    """
    rarity = 1 / np.maximum(counts, 1)
    return rarity / rarity.sum()


def apply_data_strategy(method, data, corruption, seed, folder, first_logits):
    """Return the arguments of the training batches that a method's data strategy sets.

    Args:
        method (MethodConfig): the method.
        data (dataset.data.ExperimentData): the data with the training images.
        corruption (str): corruption of `half_corrupted` if the option `aug_corruption` is not given.
        seed (int): seed of the inferred environments.
        folder (RunFolder): folder of the run, which gets tables of the results of a stage one.
        first_logits (callable): function that returns a first model's logits for the training images, float32 (n, K).

    Returns:
        dict: arguments of `dataset.batches.TrainBatches`.
    """
    split = data.split
    # An objective that does not read the distributions gets one group for all samples.
    batch_options = {} if OBJECTIVES[method.objective].reads_groups else {"groups": np.zeros_like(split.severities)}
    if method.data == "half_corrupted":
        batch_options["corruption"] = method.options["aug_corruption"] or corruption
        if method.options["aug_severity"] == "rare":
            batch_options["probabilities"] = inverse_frequency(split.counts[1:])
    elif method.data == "error_set":
        labels = data.train_labels
        mask = error_set(first_logits(), labels)
        report_stage_one(folder, method.data, "error", split, labels, mask)
        if not mask.any():
            print("warning: the first model makes no error, so that jtt is erm; fewer --stage_one_epochs leave some",
                  file=sys.stderr)
        batch_options["repeats"] = np.where(mask, method.options["jtt_lambda"], 1)
    elif method.data == "environments":
        labels = data.train_labels
        probability = infer_environments(first_logits(), labels, seed)
        mask = probability > 0.5
        report_stage_one(folder, method.data, "environment_1", split, labels, mask, probability=probability)
        batch_options["groups"] = mask.astype(np.int32)
    return batch_options
