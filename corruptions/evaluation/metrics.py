"""Metrics of an evaluation: accuracy, likelihood, calibration, corruption error."""
from typing import NamedTuple

import numpy as np

BINS = 15  # number of bins of the calibration error
ROUNDING = 1e-9  # a sum of errors below this is 0; one image of a million is more
SEVERITY_LEVELS = {"none": (0,), "mild": (1, 2, 3), "severe": (4, 5)}  # as DAMP groups them (Trinh 2024, Fig. 2)


class CalibrationScores(NamedTuple):
    """The result of an evaluation on one array of images.

    Attributes:
        accuracy (float): share of images that are classified correctly, 0..1.
        nll (float): mean negative log-likelihood of the labels, in nats.
        ece (float): expected calibration error, 0..1.
    """

    accuracy: float
    nll: float
    ece: float


def scores(logits, labels):
    """Return the `CalibrationScores` of logits (N, K) and labels int (N,), N at least 1.

    Scores are not finite if logits are not.
    """
    log_probabilities = log_softmax(logits)
    return CalibrationScores(float((np.argmax(logits, axis=1) == labels).mean()),
                             negative_log_likelihood(log_probabilities, labels),
                             expected_calibration_error(np.exp(log_probabilities), labels))


def log_softmax(logits):
    """Return the logarithm of the softmax of logits (N, K), in float64. Large logits do not overflow."""
    with np.errstate(invalid="ignore"):  # an infinite logit needs no warning, because the result is nan
        shifted = logits - np.max(logits, axis=1, keepdims=True).astype(np.float64)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def negative_log_likelihood(log_probabilities, labels):
    """Return the mean over samples of -log p(label).

    Args:
        log_probabilities (numpy.ndarray): (N, K), N at least 1.
        labels (numpy.ndarray): int (N,).

    Returns:
        float: in nats, 0 or more.
    """
    chosen = np.take_along_axis(log_probabilities, np.asarray(labels)[:, None], axis=1)
    return float(0 - chosen.mean(dtype=np.float64))  # 0, not -0, for a perfect classifier


def expected_calibration_error(probabilities, labels, bins=BINS):
    """Return the expected calibration error: sum over bins b of n_b / N |accuracy_b - confidence_b| (Guo 2017, Eq. 3).

    It measures how far confidence is from accuracy. The confidence of a sample is its largest probability. The bins are
    equally wide, and bin m = 1..M holds confidences in ((m - 1) / M, m / M], as in Guo 2017. An empty bin adds nothing.

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
    """Return the contents of each confidence bin. Arguments are as in `expected_calibration_error`.

    Returns:
        tuple of numpy.ndarray: (M,) number of samples, number of correctly classified samples, sum of confidences.
    """
    confidences = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    number = np.searchsorted(np.arange(1, bins) / bins, confidences, side="left")
    return tuple(np.bincount(number, weights, minlength=bins) for weights in (None, hits, confidences))


def corruption_error(errors, baseline_errors):
    """Return the corruption error of a network relative to a baseline (Hendrycks 2019; DAMP, Eq. 27).

    It is the sum of the network's errors over the severities of one corruption, divided by the same sum for the
    baseline. It is below 1 if the network is better. The baseline makes at least one error.
    """
    return float(np.sum(errors, dtype=np.float64) / np.sum(baseline_errors, dtype=np.float64))


def relative_corruption_error(errors, clean_error, baseline_errors, baseline_clean_error):
    """Return the relative corruption error of a network (Hendrycks 2019, Sec. 4.1).

    It is the corruption error of what a corruption adds to the error on clean images. It is below 1 if the network
    loses less accuracy than the baseline.

    Args:
        errors, baseline_errors (array_like): errors, 0..1, at the severities of one corruption.
        clean_error, baseline_clean_error (float): errors on clean images, 0..1.

    Returns:
        float or None: the ratio; None if the corruption adds nothing to the errors of the baseline, up to rounding.
    """
    added, baseline_added = (np.sum(np.subtract(values, clean, dtype=np.float64))
                             for values, clean in ((errors, clean_error), (baseline_errors, baseline_clean_error)))
    return float(added / baseline_added) if baseline_added > ROUNDING else None
