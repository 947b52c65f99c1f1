"""Numbers that describe a mini-batch or an evaluation."""
from typing import NamedTuple

import numpy as np


class SeverityResult(NamedTuple):
    """What an evaluation finds at one severity.

    Attributes:
        accuracy (float): share of images that are classified right, 0..1; nan where there is no image.
        loss (float): mean cross-entropy; nan where there is no image.
        images (int): number of images.
        gradient_norm (float or None): l2 norm of the mean loss's gradient; None where it was not asked for.
    """

    accuracy: float
    loss: float
    images: int
    gradient_norm: float | None = None


def group_means(values, groups, num_groups):
    """Mean of `values` (N,) for each distribution index in `groups` (N,), and the counts; 0 where the count is 0.

    Returns:
        tuple: float64 (num_groups,) means, int64 (num_groups,) counts.
    """
    counts = np.bincount(groups, minlength=num_groups)
    sums = np.bincount(groups, weights=values, minlength=num_groups)
    return sums / np.maximum(counts, 1), counts


BINS = 15  # of the calibration error
SEVERITY_LEVELS = {"none": (0,), "mild": (1, 2, 3), "severe": (4, 5)}  # as DAMP groups them (Trinh 2024, Fig. 2)


class CalibrationScores(NamedTuple):
    """What an evaluation finds on one array of images.

    Attributes:
        accuracy (float): share of images that are classified right, 0..1.
        nll (float): mean negative log-likelihood of the labels, in nats.
        ece (float): expected calibration error, 0..1.
    """

    accuracy: float
    nll: float
    ece: float


def scores(logits, labels):
    """The `CalibrationScores` of logits (N, K) and labels int (N,), N at least 1; not finite where logits are not."""
    log_probabilities = log_softmax(logits)
    return CalibrationScores(float((np.argmax(logits, axis=1) == labels).mean()),
                             negative_log_likelihood(log_probabilities, labels),
                             expected_calibration_error(np.exp(log_probabilities), labels))


def log_softmax(logits):
    """Logarithms of the softmax of logits (N, K), in float64; no logit is too large for it."""
    with np.errstate(invalid="ignore"):  # of an infinite logit; the result says nan
        shifted = logits - np.max(logits, axis=1, keepdims=True).astype(np.float64)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def negative_log_likelihood(log_probabilities, labels):
    """Mean over samples of -log p(label).

    Args:
        log_probabilities (numpy.ndarray): (N, K), N at least 1.
        labels (numpy.ndarray): int (N,).

    Returns:
        float: in nats, 0 or more.
    """
    return float(-np.take_along_axis(log_probabilities, np.asarray(labels)[:, None], axis=1).mean(dtype=np.float64))


def expected_calibration_error(probabilities, labels, bins=BINS):
    """How far confidence is from accuracy: sum over bins b of n_b / N |accuracy_b - confidence_b| (Guo 2017, Eq. 3).

    A sample's confidence is its largest probability. The bins are equally wide, and bin m = 1..M holds confidences in
    ((m - 1) / M, m / M], as Guo's; one without samples adds nothing.

    Args:
        probabilities (numpy.ndarray): (N, K), N at least 1.
        labels (numpy.ndarray): int (N,).
        bins (int): M.

    Returns:
        float: 0..1.
    """
    _, hits, confidences = calibration_bins(probabilities, labels, bins)
    return float(np.abs(hits - confidences).sum() / len(labels))


def calibration_bins(probabilities, labels, bins=BINS):
    """Contents of each bin of confidence; arguments as in `expected_calibration_error`.

    Returns:
        tuple of numpy.ndarray: (M,) number of samples, number of those that are classified right, sum of confidences.
    """
    confidences = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    number = np.searchsorted(np.arange(1, bins) / bins, confidences, side="left")
    return tuple(np.bincount(number, weights, minlength=bins) for weights in (None, hits, confidences))


def corruption_error(errors, baseline_errors):
    """Sum over severities of a network's errors under one corruption over that of a baseline (Hendrycks 2019; DAMP,
    Eq. 27): below 1 where the network is better. The baseline makes at least one error.
    """
    return float(np.sum(errors, dtype=np.float64) / np.sum(baseline_errors, dtype=np.float64))
