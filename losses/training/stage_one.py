"""What a first model, trained with ERM, tells about the training images: the error set of JTT and the environments of
EIIL.
"""
import numpy as np
from scipy.special import expit, softmax

ENVIRONMENTS = 2  # how many EIIL infers


def error_set(logits, labels):
    """The images that the first model gets wrong (JTT, Liu 2021).

    Args:
        logits (numpy.ndarray): float (N, K), the first model's.
        labels (numpy.ndarray): int (N,).

    Returns:
        numpy.ndarray: bool (N,).
    """
    return logits.argmax(1) != labels


def derivative_by_factor(logits, labels):
    """Derivative of each sample's cross-entropy by a factor on its logits, at factor 1: sum_k softmax_k z_k - z_y.

    Args:
        logits (numpy.ndarray): float (N, K).
        labels (numpy.ndarray): int (N,).

    Returns:
        numpy.ndarray: float64 (N,).
    """
    logits = logits.astype(np.float64)
    return (softmax(logits, axis=1) * logits).sum(1) - logits[np.arange(len(labels)), labels]


def infer_environments(logits, labels, seed, steps=10_000, rate=0.001):
    """Two environments, such that the first model violates invariance between them most (EIIL, Creager 2021).

    Sample i is in the one with probability q_i = sigmoid(w_i), in the other with 1 - q_i. Adam maximises the mean over
    both of IRM's penalty, the square of the environment's mean derivative by a factor on the logits. Start (standard
    normal w), rate, number of steps and the mean over all N samples are those of the authors' code, github.com
    ecreager/eiil; so is what follows from them: a sample that the model fits so well that it has next to no derivative
    stays where it started. The authors then train on hard environments, q_i > 1/2 and the rest.

    Args:
        logits (numpy.ndarray): float (N, K), the first model's.
        labels (numpy.ndarray): int (N,).
        seed (int): seed of the start.
        steps (int): steps of Adam.
        rate (float): its learning rate.

    Returns:
        numpy.ndarray: float64 (N,), q.
    """
    derivative = derivative_by_factor(logits, labels)
    w = np.random.default_rng(seed).standard_normal(len(labels))
    mean, square = np.zeros_like(w), np.zeros_like(w)
    for step in range(1, steps + 1):
        q = expit(w)
        gap = (derivative * (2 * q - 1)).mean()  # of the two environments' mean derivatives
        gradient = gap * derivative * q * (1 - q) / len(w)
        mean += 0.1 * (gradient - mean)
        square += 0.001 * (gradient ** 2 - square)
        w += rate * (mean / (1 - 0.9 ** step)) / (np.sqrt(square / (1 - 0.999 ** step)) + 1e-8)
    return expit(w)
