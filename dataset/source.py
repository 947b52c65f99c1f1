"""What every data set gives: clean images, labels, and the constants that go with them."""
import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Source:
    """A data set of clean images.

    Attributes:
        name (str): as on the command line.
        corrupted_folder (str): folder under the data folder that holds the corrupted versions.
        classes (int): number of classes.
        images, labels (dict): for 'train' and 'test', uint8 (N, H, W, 3) and int32 (N,) in 0..classes-1.
        mean, std (tuple of float): per channel, of values in 0..1; images are normalised with them.
    """

    name: str
    corrupted_folder: str
    classes: int
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @cached_property
    def test_sha256(self):
        """Hash of the test images and labels."""
        content = hashlib.sha256(np.ascontiguousarray(self.images["test"]))
        content.update(self.labels["test"].tobytes())
        return content.hexdigest()
