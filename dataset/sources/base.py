"""The common form of all data sets: clean images, labels, and the constants that go with them."""
import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from corruptions.utils.errors import UserError
from dataset.fingerprints import fingerprint
from dataset.image_files import FileImages
from utils.fingerprint import WORDS, require_same


def per_channel(option, values):
    """Return one number for each of the three channels, from one number or three.

    Raises:
        UserError: there is another number of numbers; the error names `option`.
    """
    if len(values) not in (1, 3):
        raise UserError(f"--{option} {' '.join(map(str, values))}: {len(values)} numbers for red, green and blue; give "
                        "one or three")
    return tuple(values) * 3 if len(values) == 1 else tuple(values)


@dataclass(frozen=True)
class ImageDataset:
    """A data set of clean images.

    Attributes:
        name (str): name on the command line.
        corrupted_folder (str): folder under the data folder, or an absolute path, that holds the corrupted versions.
        classes (int): number of classes.
        images, labels (dict): for 'train' and 'test', uint8 (N, H, W, 3), or `FileImages`, and int32 (N,) in
            0..classes-1.
        mean, std (tuple of float): mean and standard deviation per channel, for values in 0..1; images are normalised
            with them.
        num_per_class (int or None): number of training images per class if none is given; None means 4/5 of each class.
        class_names (tuple of str): names of the labels, if they are known.
        filelist_dir (str or None): folder of file lists that give the severity of each training image
            (`dataset/sources/imagenet30.py`).
    """

    name: str
    corrupted_folder: str
    classes: int
    images: dict[str, np.ndarray | FileImages]
    labels: dict[str, np.ndarray]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_per_class: int | None = None
    filelist_dir: str | None = None
    class_names: tuple[str, ...] = ()

    @property
    def is_file_backed(self):
        """Whether the images lie in files that are read when they are needed."""
        return isinstance(self.images["train"], FileImages)

    @property
    def image_size(self):
        """The height and width of the images."""
        return self.images["train"].shape[1:3]

    def check_run(self, config, path, **fingerprints):
        """Check that the classes and the images are the same as in an earlier run.

        Args:
            config (dict): settings of the run. Settings without `classes` or `fingerprints` do not show these, so they
                are not compared.
            path (str): folder of the run, for the error.
            fingerprints (Fingerprint): fingerprints of other sets than the clean test images, with keys as in
                `require_same`.

        Raises:
            UserError: the classes or the images differ.
        """
        names = config.get("classes")
        if names and self.class_names and list(self.class_names) != list(names):
            changed = sorted(set(names) ^ set(self.class_names)) or ["their order"]
            raise UserError(f"{path}: was trained on other classes than {self.name} has now (see {changed[0]}); name "
                            "the images that it was trained on with --data_dir")
        lists = "" if self.filelist_dir is None else " and --filelist_dir"
        now, advice = {"test": self.test_fingerprint, **fingerprints}, f"name those that it had with --data_dir{lists}"
        require_same(config.get("fingerprints") or {}, now, path, advice)
        for part, digest in (config.get("images_sha256") or {}).items():  # runs of an earlier version have these
            if part in now and not self.is_file_backed and digest != self._sha256(part):
                raise UserError(f"{path}: had other {WORDS[part]} images than there are now; {advice}")

    def _sha256(self, part):
        content = hashlib.sha256(np.ascontiguousarray(self.images[part]))
        content.update(self.labels[part].tobytes())
        return content.hexdigest()

    @cached_property
    def train_fingerprint(self):
        """The `Fingerprint` of the clean training images."""
        return fingerprint(self.images["train"], self.labels["train"])

    @cached_property
    def test_fingerprint(self):
        """The `Fingerprint` of the clean test images."""
        return fingerprint(self.images["test"], self.labels["test"])

    def fingerprint(self, part):
        """Return the `Fingerprint` of the clean images of a part, 'train' or 'test'."""
        return getattr(self, f"{part}_fingerprint")
