"""Stage one of JTT and EIIL: the error set against its definition, the environments against the known optimum."""
import numpy as np
import pytest
from scipy.special import expit, log_softmax

from losses.training.stage_one import derivative_by_factor, error_set, infer_environments


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.standard_normal((3000, 5)), rng.integers(0, 5, 3000)
    logits[np.arange(3000), labels] += 2 * rng.random(3000)
    return logits.astype(np.float32), labels


def test_error_set():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 4.0]])
    np.testing.assert_array_equal(error_set(logits, np.array([0, 2, 2])), [False, True, False])


def test_derivative_is_that_of_the_loss(example):
    logits, labels = example

    def loss(factor):
        return -log_softmax(factor * logits.astype(float), 1)[np.arange(len(labels)), labels]
    numeric = (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(derivative_by_factor(logits, labels), numeric, atol=1e-8)


def penalty(probability, derivative):
    """The penalty that EIIL maximises: mean over both environments of the squared mean derivative."""
    return ((probability * derivative).mean() ** 2 + ((1 - probability) * derivative).mean() ** 2) / 2


def test_environments_reach_the_optimum(example):
    """The penalty is convex in each probability, so its maximum puts the samples with a positive derivative into one
    environment and the others into the other.
    """
    probability = infer_environments(*example, seed=0)
    derivative = derivative_by_factor(*example)
    best = penalty(derivative > 0, derivative)
    assert penalty(probability, derivative) > 0.99 * best
    clear = np.abs(derivative) > 0.05
    agreement = ((probability > 0.5) == (derivative > 0))[clear]
    assert clear.sum() > 2000 and (agreement.all() or not agreement.any())


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_toward_environments_are_those_of_adam(example, steps):
    derivative, w = derivative_by_factor(*example), np.random.default_rng(0).standard_normal(len(example[1]))
    first, second = 0, 0
    for step in range(1, steps + 1):
        q = expit(w)
        gradient = (derivative * (2 * q - 1)).mean() * derivative * q * (1 - q) / len(w)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient ** 2
        w = w + 0.001 * first / (1 - 0.9 ** step) / (np.sqrt(second / (1 - 0.999 ** step)) + 1e-8)
    np.testing.assert_allclose(infer_environments(*example, seed=0, steps=steps), expit(w), rtol=1e-9)


def test_environments_repeat_and_depend_on_the_seed(example):
    item, two, second = (infer_environments(*example, seed=seed, steps=50) for seed in (0, 0, 1))
    np.testing.assert_array_equal(item, two)
    assert np.abs(item - second).max() > 0.1


def test_environments_of_another_order_of_samples(example):
    """A permuted start gives permuted environments: no sample's place matters."""
    logits, labels = example
    order = np.random.default_rng(1).permutation(len(labels))
    start = np.random.default_rng(0).standard_normal(len(labels))

    class Permuted:
        def standard_normal(self, size):
            return start[order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed: Permuted())
        permuted = infer_environments(logits[order], labels[order], seed=0, steps=50)
    np.testing.assert_allclose(permuted, infer_environments(logits, labels, seed=0, steps=50)[order], rtol=1e-9)
