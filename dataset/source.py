"""What every data set gives: clean images, labels, and the constants that go with them."""
import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dataset.image_files import FileImages
from utils.errors import UserError


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
        class_names (tuple of str): what the labels stand for, where that is known.
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
    class_names: tuple[str, ...] = ()

    @property
    def in_files(self):
        """Whether the images lie in files that are read when they are needed."""
        return isinstance(self.images["train"], FileImages)

    @property
    def image_size(self):
        """Height and width of the images."""
        return self.images["train"].shape[1:3]

    def check_run(self, config, path, parts=("train", "test")):
        """Make sure that the classes and the images are those of an earlier run.

        Args:
            config (dict): its settings; of one that has no `classes` or `images_sha256` there, they are not known.
            path (str): the run's, for the error.
            parts (tuple of str): which images are compared.

        Raises:
            UserError: they are others.
        """
        names, hashes = config.get("classes"), config.get("images_sha256") or {}
        if names and self.class_names and list(self.class_names) != list(names):
            changed = sorted(set(names) ^ set(self.class_names)) or ["their order"]
            raise UserError(f"{path}: was trained on other classes than {self.name} has now (see {changed[0]}); name "
                            "the images that it was trained on with --data_dir")
        for part in parts:
            if hashes.get(part) not in (None, getattr(self, f"{part}_sha256")):
                word = {"train": "training", "test": "test"}[part]
                lists = "" if self.lists is None else " and --filelist_dir"
                raise UserError(f"{path}: had other {word} images than {self.name} has now; name those that it had "
                                f"with --data_dir{lists}")

    @cached_property
    def train_sha256(self):
        """Hash of the training images and labels; of files it is that of their names and sizes."""
        return self._sha256("train")

    @cached_property
    def test_sha256(self):
        """Hash of the test images and labels, made likewise."""
        return self._sha256("test")

    def _sha256(self, part):
        images = self.images[part]
        content = hashlib.sha256(images.sha256.encode() if self.in_files else np.ascontiguousarray(images))
        content.update(self.labels[part].tobytes())
        return content.hexdigest()
