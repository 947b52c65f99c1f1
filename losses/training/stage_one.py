"""Subsets of the training images that a first model, trained with ERM, determines.

They are the error set of JTT and the environments of EIIL.
"""
import numpy as np
from scipy.special import expit, softmax

ENVIRONMENTS = 2  # number of environments that EIIL infers


def error_set(logits, labels):
    """Return a mask of the images that the first model gets wrong (JTT, Liu 2021).

    Args:
        logits (numpy.ndarray): float (N, K), the first model's logits.
        labels (numpy.ndarray): int (N,).

    Returns:
        numpy.ndarray: bool (N,).
    """
    return logits.argmax(1) != labels


def derivative_by_factor(logits, labels):
    """Return the derivative of each sample's cross-entropy with respect to a factor on its logits, at factor 1.

    The derivative is sum_k softmax_k z_k - z_y.

    Args:
        logits (numpy.ndarray): float (N, K).
        labels (numpy.ndarray): int (N,).

    Returns:
        numpy.ndarray: float64 (N,).
    """
    logits = logits.astype(np.float64)
    return (softmax(logits, axis=1) * logits).sum(1) - logits[np.arange(len(labels)), labels]


def infer_environments(logits, labels, seed, steps=10_000, rate=0.001):
    """Infer two environments between which the first model violates invariance most (EIIL, Creager 2021).

    Sample i is in the first environment with probability q_i = sigmoid(w_i), and in the second with 1 - q_i. Adam
    maximises the mean of IRM's penalty over both environments. The penalty is the square of the environment's mean
    derivative with respect to a factor on the logits. The start (standard normal w), the rate, the number of steps and
    the mean over all N samples are taken from the authors' code, github.com ecreager/eiil. So their code has the same
    consequence: a sample stays where it started if the model fits it so well that it has next to no derivative. The
    authors then train on hard environments, q_i > 1/2 and the rest.

    Args:
        logits (numpy.ndarray): float (N, K), the first model's logits.
        labels (numpy.ndarray): int (N,).
        seed (int): seed of the start.
        steps (int): steps of Adam.
        rate (float): learning rate of Adam.

    Returns:
        numpy.ndarray: float64 (N,), q.
    """
    derivative = derivative_by_factor(logits, labels)
    w = np.random.default_rng(seed).standard_normal(len(labels))
    mean, square = np.zeros_like(w), np.zeros_like(w)
    for step in range(1, steps + 1):
        q = expit(w)
        gap = (derivative * (2 * q - 1)).mean()  # difference of the two environments' mean derivatives
        gradient = gap * derivative * q * (1 - q) / len(w)
        mean += 0.1 * (gradient - mean)
        square += 0.001 * (gradient ** 2 - square)
        w += rate * (mean / (1 - 0.9 ** step)) / (np.sqrt(square / (1 - 0.999 ** step)) + 1e-8)
    return expit(w)
