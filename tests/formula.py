"""Inputs and weights by formula, so that the golden files need not hold them. Needs numpy alone."""
import zlib

import numpy as np


def formula_weight(name, shape, settled=False):
    """A network's parameter or running statistic, drawn from its PyTorch name.

    Args:
        name (str): 'layer1.0.conv1.weight'.
        shape (tuple of int): as PyTorch has it.
        settled (bool): draw norms whose outputs stay away from 0, where a gradient jumps: of a million values that
            go into a ReLU some are so close to 0 that float32 takes the other side, and that moves a gradient by a
            hundredth, in PyTorch, too. Scales are then around 0.1, shifts around 1; around 1 or -1, for channels open
            or closed, in norms called bn1, after which nothing is added.

    Returns:
        numpy.ndarray: float32.
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
    return z.astype(np.float32)


def formula_batch(case):
    """Images float32 (N, 3, H, W) and labels int32 (N,) of a case (dict) with seed, batch, height, width and classes.
    """
    rng = np.random.RandomState(case["seed"])
    images = rng.standard_normal((case["batch"], 3, case["height"], case["width"])).astype(np.float32)
    return images, rng.randint(0, case["classes"], case["batch"]).astype(np.int32)
