"""Measurements of how the loss of a network changes around its weights.

Cells come from `losses/evaluation/cells.py`. Batches are tuples of tensors: images, labels, number of images that
count. Running statistics are used and not updated, and the weights are restored bit for bit.
"""
import contextlib
import zlib

import mindspore as ms
import mindspore.ops as ops
import numpy as np

from losses.evaluation.predict import mean_gradient_norm, predict


def mean_loss(step, batches):
    """Return the mean loss, a float, over all images of `batches`; `step` is an `EvaluationStep`."""
    return float(predict(step, batches)[0].mean(dtype=np.float64))


@contextlib.contextmanager
def temporary_weights(weights):
    """Yield a function that sets weights to other values, and restore the weights when the body ends.

    Args:
        weights (list of Parameter): the weights.

    Yields:
        tuple: the original values, list of numpy.ndarray, and the function, which takes a list of new values.
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
    """Move the network's weights to theta + rho g / |g| in the body (Foret 2021, Eq. 2).

    g is the gradient of the mean loss over `batches`. To first order, the loss is highest there within a distance rho.

    Args:
        step (EvaluationStep): evaluation step of the network.
        gradient_norm (GradientNorm): gradient norm of the same network.
        batches (list): at least one batch.
        rho (float): l2 length of the step, above 0.
    """
    mean_gradient_norm(gradient_norm, batches)  # leaves the gradient in `gradient_norm.total`
    gradient = [part.asnumpy().astype(np.float64) for part in gradient_norm.total]
    scale = rho / (np.sqrt(sum(np.square(part).sum() for part in gradient)) + 1e-12)
    with temporary_weights(step.network.trainable_params()) as (before, move):
        move([(weight + scale * part).astype(weight.dtype) for weight, part in zip(before, gradient, strict=True)])
        yield


def sharpness(step, gradient_norm, batches, rho):
    """Return the sharpness L(theta + rho g / |g|) - L(theta), a float (Foret 2021; SharpDRO paper, Eq. 7).

    To first order, this is how much the mean loss rises within a distance rho of the weights. Arguments are as in
    `at_sam_perturbation`.
    """
    before = mean_loss(step, batches)
    with at_sam_perturbation(step, gradient_norm, batches, rho):
        return mean_loss(step, batches) - before


def random_direction(weights, seed):
    """Return a random, filter-normalised direction in weight space (Li 2018, section 4).

    The numbers are normally distributed. The generator of a weight is seeded with `seed` and the name of the weight, so
    all networks of the same architecture have the same numbers. Each filter of a convolution, and each row of a matrix,
    is scaled to the length of the corresponding filter or row in `weights`. The direction is zero for biases and for
    the scales and shifts of normalisation layers, as in the authors' code.

    Args:
        weights (list of Parameter): the weights at the origin of the direction.
        seed (int): 0 or more.

    Returns:
        list of numpy.ndarray: float32, with the shapes of the weights.
    """
    direction = []
    for weight in weights:
        rng = np.random.default_rng((seed, zlib.crc32(weight.name.encode())))
        drawn = rng.standard_normal(weight.shape, np.float32)
        direction.append(filter_normalised(drawn, weight.asnumpy()) if weight.ndim > 1 else np.zeros_like(drawn))
    return direction


def filter_normalised(direction, weight):
    """Return `direction` (K, ...) with each of its K filters scaled to the l2 norm of the same filter of `weight`."""
    axes = tuple(range(1, weight.ndim))
    lengths = [np.sqrt(np.square(x, dtype=np.float64).sum(axes, keepdims=True)) for x in (weight, direction)]
    return (direction * (lengths[0] / (lengths[1] + 1e-10))).astype(np.float32)


def loss_surface(step, directions, severities, coefficients, on_point=lambda: None):
    """Return the mean loss at theta + a d1 + b d2 (Li 2018; SharpDRO, Fig. 2).

    Args:
        step (EvaluationStep): evaluation step of the network.
        directions (tuple): d1 and d2, as `random_direction` returns them.
        severities (list): for each severity a list of batches.
        coefficients (list of float): the values of a, and of b; a = b = 0 is the unchanged network.
        on_point (callable): a function that is called after every point.

    Returns:
        numpy.ndarray: float64 (S, P, P), indexed by severity, b and a.
    """
    surface = np.empty((len(severities), len(coefficients), len(coefficients)))
    with temporary_weights(step.network.trainable_params()) as (before, move):
        for row, b in enumerate(coefficients):
            for column, a in enumerate(coefficients):
                move([(weight + a * d1 + b * d2).astype(weight.dtype)
                      for weight, d1, d2 in zip(before, *directions, strict=True)])
                surface[:, row, column] = [mean_loss(step, batches) for batches in severities]
                on_point()
    return surface
