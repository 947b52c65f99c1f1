"""What every data set gives: clean images, labels, and the constants that go with them."""
import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dataset.image_files import FileImages


@dataclass(frozen=True)
class Source:
    """A data set of clean images.

    Attributes:
        name (str): as on the command line.
        corrupted_folder (str): folder under the data folder, or an absolute path, that holds the corrupted versions.
        classes (int): number of classes.
        images, labels (dict): for 'train' and 'test', uint8 (N, H, W, 3), or `FileImages`, and int32 (N,) in
            0..classes-1.
        mean, std (tuple of float): per channel, of values in 0..1; images are normalised with them.
        num_per_class (int or None): training images of a class where none is asked for; None is 4/5 of the smallest
            class.
        lists (str or None): folder of file lists that say who is corrupted how much (`dataset/imagenet30.py`).
    """

    name: str
    corrupted_folder: str
    classes: int
    images: dict[str, np.ndarray | FileImages]
    labels: dict[str, np.ndarray]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_per_class: int | None = None
    lists: str | None = None

    @property
    def in_files(self):
        """Whether the images lie in files that are read when they are needed."""
        return isinstance(self.images["train"], FileImages)

    @cached_property
    def test_sha256(self):
        """Hash of the test images and labels."""
        images = self.images["test"]
        content = hashlib.sha256(images.sha256.encode() if self.in_files else np.ascontiguousarray(images))
        content.update(self.labels["test"].tobytes())
        return content.hexdigest()
