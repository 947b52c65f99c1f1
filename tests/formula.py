"""Inputs and weights by formula, so that the golden files need not hold them. Needs numpy alone."""
import zlib

import numpy as np


def formula_weight(name, shape, settled=False, dtype=np.float32):
    """A network's parameter or running statistic, drawn from its PyTorch name.

    Args:
        name (str): 'layer1.0.conv1.weight'.
        shape (tuple of int): as PyTorch has it.
        settled (bool): draw norms whose outputs stay away from 0, where the derivative of a ReLU jumps. Otherwise
            some of a million values are so close to 0 that float32 takes the other side. This moves a gradient by a
            hundredth, in PyTorch, too. Scales are around 0.1 and shifts around 1. In norms called bn1, after which
            nothing is added, shifts are around 1 or -1, so that channels are open or closed.
        dtype (type): float64 is as it is drawn.

    Returns:
        numpy.ndarray: of `dtype`.
    """
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if z.ndim > 1:
        z *= np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("weight"):
        z = (0.1 if settled else 1) * (1 + 0.1 * z)
    elif name.endswith("running_var"):
        z = 1 + 0.1 * np.abs(z)
    elif settled and name.endswith("bias"):
        z = (np.sign(z) if name.endswith("bn1.bias") else 1) * (1 + 0.1 * np.abs(z))
    else:
        z *= 0.1
    return z.astype(dtype)


def formula_batch(case):
    """Images float32 (N, 3, H, W) and labels int32 (N,) of a case (dict) with seed, batch, height, width and classes.
    """
    rng = np.random.RandomState(case["seed"])
    images = rng.standard_normal((case["batch"], 3, case["height"], case["width"])).astype(np.float32)
    return images, rng.randint(0, case["classes"], case["batch"]).astype(np.int32)


def random_batch(side, number, num_groups=6):
    """A batch of random images: images float32 (N, 3, side, side), labels and groups int32 (N,)."""
    rng = np.random.RandomState(num_groups)
    images = rng.standard_normal((number, 3, side, side)).astype(np.float32)
    return images, *(rng.randint(0, n, number).astype(np.int32) for n in (10, num_groups))


def method_batches():
    """The batches of the two steps in `golden/methods.json`, as in `random_batch`; the second lacks two groups."""
    return [random_batch(16, 24), random_batch(16, 24, num_groups=4)]


def step_batch(case, k):
    """The batch of step k of a case of training steps, in the format of `golden/release_step.json`.

    Args:
        case (dict): batch, seed and groups; the groups of step k are drawn out of `groups[k]`.
        k (int): number of the step, from 0.

    Returns:
        tuple of numpy.ndarray: images float64 (N, 3, 32, 32), labels int64 (N,), groups int64 (N,).
    """
    rng = np.random.RandomState(case["seed"] + k)
    images = rng.standard_normal((case["batch"], 3, 32, 32))
    return images, rng.randint(0, 10, case["batch"]), rng.choice(case["groups"][k], case["batch"])


def evaluation_images():
    """The images that the network sees after the last of these steps: float64 (4, 3, 32, 32)."""
    return np.random.RandomState(999).standard_normal((4, 3, 32, 32))
