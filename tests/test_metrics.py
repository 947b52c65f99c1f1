"""Metrics against values worked out by hand, and against values of other libraries."""
import numpy as np
import pytest

from corruptions.evaluation.metrics import (
    corruption_error,
    expected_calibration_error,
    log_softmax,
    negative_log_likelihood,
    scores,
)


def test_negative_log_likelihood_by_hand():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    result = negative_log_likelihood(np.log(probabilities), [0, 2])
    assert result == pytest.approx((np.log(2) + np.log(10)) / 2, rel=1e-15)


def two_classes(confidences):
    confidences = np.array(confidences)
    return np.stack([confidences, 1 - confidences], axis=1)


def test_calibration_error_by_hand():
    """Five bins of width 0.2: two samples in (0.4, 0.6], none right; three in (0.8, 1], two right."""
    probabilities = two_classes([0.55, 0.59, 0.81, 0.9, 0.99])
    error = expected_calibration_error(probabilities, np.array([1, 1, 0, 1, 0]), bins=5)
    assert error == pytest.approx(2 / 5 * abs(0 - 0.57) + 3 / 5 * abs(2 / 3 - 0.9), rel=1e-12)


def test_a_bin_holds_its_upper_edge():
    """0.6 shares the bin of 0.5, where the two cancel, and 0.8 that of 0.7; 1 is in the last bin."""
    probabilities = two_classes([0.5, 0.6, 0.7, 0.8, 1])
    error = expected_calibration_error(probabilities, np.array([0, 1, 0, 1, 0]), bins=5)
    assert error == pytest.approx((abs(1 - 1.1) + abs(1 - 1.5) + 0) / 5, rel=1e-12)


@pytest.mark.parametrize("certain, labels, expected", [(1, [0, 0], 0), (1, [1, 1], 1), (0.5, [0, 1], 0)])
def test_calibration_error_at_its_ends(certain, labels, expected):
    assert expected_calibration_error(two_classes([certain, certain]), np.array(labels)) == expected


# Of sklearn.metrics.log_loss (1.9.1) and torchmetrics' multiclass_calibration_error (1.9.0, norm l1, float32 inside).
@pytest.mark.parametrize("samples, classes, scale, accuracy, nll, ece_15, ece_10", [
    (500, 10, 2, 0.666, 1.8921627381239896, 0.2342839390, 0.2342839539),
    (300, 100, 6, 0.59, 6.903821757128503, 0.2681423724, 0.2651425898),
])
def test_scores_are_those_of_other_libraries(samples, classes, scale, accuracy, nll, ece_15, ece_10):
    rng = np.random.RandomState(classes)
    logits = (scale * rng.standard_normal((samples, classes))).astype(np.float32)
    labels = np.where(rng.random_sample(samples) < 0.6, logits.argmax(1), rng.randint(0, classes, samples))
    result = scores(logits, labels)
    assert result.accuracy == accuracy
    assert result.nll == pytest.approx(nll, rel=1e-13)
    assert result.ece == pytest.approx(ece_15, abs=1e-7)
    assert expected_calibration_error(np.exp(log_softmax(logits)), labels, 10) == pytest.approx(ece_10, abs=1e-7)
    order = rng.permutation(samples)
    assert scores(logits[order], labels[order]) == pytest.approx(result, rel=1e-12)


def test_large_logits_do_not_overflow():
    result = scores(np.array([[3e38, 0], [0, -3e38], [1e4, 0]], np.float32), np.array([0, 0, 1]))
    assert result == pytest.approx((2 / 3, 1e4 / 3, 1 / 3))


def test_many_small_terms_are_added_in_double_precision():
    logits = np.zeros((200_000, 2), np.float32)
    logits[:, 0] = 5
    exact = np.log1p(np.exp(-5))
    assert scores(logits, np.zeros(200_000, np.int32)).nll == pytest.approx(exact, rel=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_show(bad):
    assert not np.isfinite(scores(np.array([[bad, 0]], np.float32), np.array([1])).nll)


def test_corruption_error_is_a_ratio_of_sums():
    assert corruption_error([0.1, 0.2, 0.3, 0.4, 0.5], [0.5] * 5) == pytest.approx(0.6)
    assert corruption_error([0, 0, 0, 0, 0.1], [0, 0, 0, 0, 0.2]) == 0.5
