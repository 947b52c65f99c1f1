"""A small Fashion-MNIST in the real format, made of random images."""
import gzip
import os

import numpy as np

NAMES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}


def idx(array):
    """An array of uint8 as the bytes of an idx file."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, name, content, pack):
    """Write a file, packed or not; return its path."""
    path = os.path.join(folder, name + (".gz" if pack else ""))
    with (gzip.open if pack else open)(path, "wb") as file:
        file.write(content)
    return path


def make_fashion(folder, per_class=(20, 5), pack=True):
    """Write the four files.

    Args:
        folder (str): where they go; made if need be.
        per_class (tuple of int): training and test images of each class.
        pack (bool): as .gz.

    Returns:
        dict: for 'train' and 'test', uint8 (N, 28, 28) and labels (N,).
    """
    rng = np.random.RandomState(1)
    os.makedirs(folder, exist_ok=True)
    result = {}
    for (part, names), count in zip(NAMES.items(), per_class, strict=True):
        labels = rng.permutation(np.repeat(np.arange(10), count))
        images = rng.randint(0, 256, (len(labels), 28, 28)).astype(np.uint8)
        result[part] = images, labels
        for name, array in zip(names, (images, labels), strict=True):
            write_idx(folder, name, idx(array), pack)
    return result
