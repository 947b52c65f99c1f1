"""How the loss of a network changes around its weights.

Cells come from `losses/evaluation/cells.py`, batches as tuples of tensors: images, labels, number of images that count.
Running statistics are in use and left as they are, and the weights are put back bit for bit.
"""
import contextlib
import zlib

import mindspore as ms
import mindspore.ops as ops
import numpy as np

from losses.evaluation.predict import mean_gradient_norm, predict

IMAGES = 512  # of each severity; a surface, which takes many more passes, has half of them
RHO = 0.05  # the papers'


def mean_loss(step, batches):
    """Mean loss over all images of `batches`; `step` is an `EvaluationStep`. Returns a float."""
    return float(predict(step, batches)[0].mean(dtype=np.float64))


@contextlib.contextmanager
def temporary_weights(weights):
    """Give the body a function that moves weights to values; they are where they were when the body ends.

    Args:
        weights (list of Parameter): what is moved.

    Yields:
        tuple: the values before, list of numpy.ndarray, and the function, which takes such a list.
    """
    before = [weight.asnumpy().copy() for weight in weights]

    def move(values):
        for weight, value in zip(weights, values, strict=True):
            ops.assign(weight, ms.Tensor(value, weight.dtype))
    try:
        yield before, move
    finally:
        move(before)


@contextlib.contextmanager
def at_sam_perturbation(step, gradient_norm, batches, rho):
    """Have the body see the network at theta + rho g / |g|, g the gradient of the mean loss over `batches`: where, to
    first order, the loss is highest within a distance rho (Foret 2020, Eq. 2).

    Args:
        step (EvaluationStep): of the network.
        gradient_norm (GradientNorm): of the same network.
        batches (list): at least one.
        rho (float): l2 length of the step, above 0.
    """
    mean_gradient_norm(gradient_norm, batches)  # which leaves the gradient
    gradient = [part.asnumpy().astype(np.float64) for part in gradient_norm.total]
    scale = rho / (np.sqrt(sum(np.square(part).sum() for part in gradient)) + 1e-12)
    with temporary_weights(step.network.trainable_params()) as (before, move):
        move([(weight + scale * part).astype(weight.dtype) for weight, part in zip(before, gradient, strict=True)])
        yield


def sharpness(step, gradient_norm, batches, rho):
    """How much the mean loss rises within a distance rho of the weights, to first order: L(theta + rho g / |g|) -
    L(theta), the sharpness of Foret 2020 and of the SharpDRO paper, Eq. 7. Arguments as in `at_sam_perturbation`; a
    float.
    """
    before = mean_loss(step, batches)
    with at_sam_perturbation(step, gradient_norm, batches, rho):
        return mean_loss(step, batches) - before


def random_direction(weights, seed):
    """A direction in which to look at the loss, filter-normalised (Li 2018, section 4).

    Normal numbers, drawn for each weight from the seed and its name, so that they are the same for all networks of one
    kind. Each filter of a convolution, and each row of a matrix, is scaled to the length of the one in `weights`;
    biases and the scales and shifts of norms stay, as in the authors' code.

    Args:
        weights (list of Parameter): at the place from where the direction starts.
        seed (int): 0 or more.

    Returns:
        list of numpy.ndarray: float32, of the weights' shapes.
    """
    direction = []
    for weight in weights:
        rng = np.random.default_rng((seed, zlib.crc32(weight.name.encode())))
        drawn = rng.standard_normal(weight.shape, np.float32)
        direction.append(filter_normalised(drawn, weight.asnumpy()) if weight.ndim > 1 else np.zeros_like(drawn))
    return direction


def filter_normalised(direction, weight):
    """`direction` (K, ...), each of its K filters scaled to the l2 norm of the same filter of `weight`."""
    axes = tuple(range(1, weight.ndim))
    lengths = [np.sqrt(np.square(x, dtype=np.float64).sum(axes, keepdims=True)) for x in (weight, direction)]
    return (direction * (lengths[0] / (lengths[1] + 1e-10))).astype(np.float32)


def loss_surface(step, directions, severities, coefficients, note=lambda: None):
    """Mean loss at theta + a d1 + b d2 (Li 2018; SharpDRO, Fig. 2).

    Args:
        step (EvaluationStep): of the network.
        directions (tuple): d1 and d2, as `random_direction` gives them.
        severities (list): for each severity a list of batches.
        coefficients (list of float): the values of a, and of b; at 0 the loss is that of the network as it is.
        note (callable): is called after every place.

    Returns:
        numpy.ndarray: float64 (S, P, P), indexed by severity, b and a.
    """
    surface = np.empty((len(severities), len(coefficients), len(coefficients)))
    with temporary_weights(step.network.trainable_params()) as (before, move):
        for row, b in enumerate(coefficients):
            for column, a in enumerate(coefficients):
                move([(weight + a * one + b * other).astype(weight.dtype)
                      for weight, one, other in zip(before, *directions, strict=True)])
                surface[:, row, column] = [mean_loss(step, batches) for batches in severities]
                note()
    return surface
