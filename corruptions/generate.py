"""Corrupted versions of a whole array of images, the same bytes for any number of workers."""
import zlib

import numpy as np
from joblib import Parallel, delayed

from corruptions import CORRUPTIONS

CHUNK = 256  # images a worker takes at a time


def image_rng(seed, name, severity, index):
    """The random stream of image `index` of a data set: it depends on these four values and nothing else.

    Returns:
        numpy.random.RandomState
    """
    entropy = np.random.SeedSequence((seed, zlib.crc32(name.encode()), severity, index))
    return np.random.RandomState(np.random.PCG64(entropy))


def corrupt_range(images, name, severity, seed, start):
    """Corrupt images that are numbers `start`, `start + 1`, ... of a data set.

    Args:
        images (numpy.ndarray): uint8 (N, H, W, 3).
        name (str): a key of `CORRUPTIONS`.
        severity (int): 1 to 5.
        seed (int): seed of the data set, at least 0.
        start (int): number of the first image.

    Returns:
        numpy.ndarray: uint8, the shape of `images`.
    """
    corruption = CORRUPTIONS[name]
    out = np.empty_like(images)
    for k, image in enumerate(images):
        out[k] = corruption(image, severity, image_rng(seed, name, severity, start + k))
    return out


def corrupt_chunks(images, name, severities, seed, workers):
    """Corrupt an array of images at several severities, chunk by chunk.

    Args:
        images (numpy.ndarray): uint8 (N, H, W, 3).
        name (str): a key of `CORRUPTIONS`.
        severities (iterable of int): each 1 to 5.
        seed (int): seed of the data set.
        workers (int): processes.

    Yields:
        tuple: severity, slice of the images, their corrupted versions uint8; in the order of severities and images.
    """
    tasks = [(severity, slice(start, min(start + CHUNK, len(images))))
             for severity in severities for start in range(0, len(images), CHUNK)]
    parallel = Parallel(n_jobs=workers, return_as="generator", pre_dispatch="2 * n_jobs")
    results = parallel(delayed(corrupt_range)(images[part], name, severity, seed, part.start)
                       for severity, part in tasks)
    for (severity, part), corrupted in zip(tasks, results, strict=True):
        yield severity, part, corrupted
