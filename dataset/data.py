"""The images, labels and split that a run is trained and evaluated on."""
import numbers
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from corruptions import CORRUPTIONS
from corruptions.utils.errors import UserError
from corruptions.utils.signals import interruptible
from dataset import SOURCES, load_source
from dataset.batches import EvaluationBatches, TrainBatches
from dataset.corrupted import STORAGE_MODES, load_corrupted
from dataset.find_published import find_published
from dataset.fingerprints import joint_fingerprint
from dataset.pipeline import prefetch, release_pages
from dataset.poisson import TRAIN_ON, Split
from dataset.sources.base import ImageDataset
from dataset.sources.imagenet30 import begin_lists
from dataset.splits import check_split_options, make_split_for, write_split
from utils.runtime.distributed import rank_and_world_size


@dataclass(frozen=True)
class ExperimentData:
    """The clean images, the severity of each training image, and the corrupted images.

    Attributes:
        source (ImageDataset): the clean images.
        split (Split): the training images of each severity, and the validation images.
        images (dict): for 'train' and 'test' a list of images over severities, as `load_corrupted` returns it.
    """

    source: ImageDataset
    split: Split
    images: dict

    @property
    def num_severity(self):
        """The number of severities, including the clean one."""
        return len(self.split.train)

    @cached_property
    def fingerprints(self):
        """The `Fingerprint` of each set of images, under the keys of `utils.fingerprint.WORDS`."""
        corrupted = {f"{part}_corrupted": joint_fingerprint(images[1:]) for part, images in self.images.items()}
        return {"train": self.source.train_fingerprint, "test": self.source.test_fingerprint, **corrupted}

    @property
    def train_labels(self):
        """The label of each of `split.indices`, int32 (n,)."""
        return self.source.labels["train"][self.split.indices]

    def with_validation(self, indices):
        """Return the same data with other validation images (int64, ascending)."""
        return replace(self, split=replace(self.split, validation=indices))

    def write_split(self, path):
        """Write the split, as `write_split` does.

        Also write the file lists of a data set that uses lists and has none yet.
        """
        begin_lists(self.source, self.split)
        write_split(path, self.split, self.source.labels["train"])

    def train_batches(self, batch_size, steps, seed, workers, **how):
        """Iterate over the batches with the numbers `steps` (range) of a training.

        A batch is a tuple of tensors (images, labels, groups, severities). With several ranks, a rank iterates over its
        own batches. `workers` is the argument of `prefetch`. The other arguments, including the arguments in `how`, go
        to `TrainBatches`.
        """
        source = self.source
        return prefetch(TrainBatches(self.images["train"], source.labels["train"], self.split, source.mean, source.std,
                                     batch_size, steps, seed, share=rank_and_world_size(), **how), workers)

    def evaluation_batches(self, part, severity, batch_size, workers):
        """Iterate over the images of a part at one severity, in order, in the batches that `EvaluationBatches` gives.

        The part is 'val', 'test' or 'train'. 'train' means the training images that have this severity. With several
        ranks, a rank iterates over its own images.
        """
        kind = "test" if part == "test" else "train"
        images, labels = self.images[kind][severity], self.source.labels[kind]
        indices = {"val": self.split.validation, "train": self.split.train[severity], "test": np.arange(len(labels))}
        inputs = EvaluationBatches(images, labels, indices[part], self.source.mean, self.source.std, batch_size,
                                   rank_and_world_size())
        yield from interruptible(prefetch(inputs, workers))
        release_pages(images)


def load_images(source, data_dir, corruption, num_severity, workers=1, show_progress=False, corrupted_from="auto",
                test_corrupted=None):
    """Load the images of a data set at every severity.

    Args:
        source (ImageDataset): the clean images.
        data_dir (str): folder of the data sets.
        corruption (str): a key of `corruptions.CORRUPTIONS`.
        num_severity (int): number of severities, including the clean one.
        workers (int): number of processes for the generator.
        show_progress (bool): whether to show the generator's progress bar even if the output is not a terminal.
        corrupted_from (str): source of corrupted images, a key of `dataset.corrupted.STORAGE_MODES`.
        test_corrupted (str or None): folder of published corrupted test images, which replace the program's own.

    Returns:
        dict: as `load_corrupted` returns it.

    Raises:
        UserError: something is missing or damaged.
    """
    if test_corrupted is None:
        return load_corrupted(data_dir, source, corruption, num_severity, workers, show_progress, corrupted_from)
    published = find_published(test_corrupted, source)
    test = published.images(corruption, range(1, num_severity))
    print(published, flush=True)
    images = load_corrupted(data_dir, source, corruption, num_severity, workers, show_progress, corrupted_from,
                            ("train",))
    return {**images, "test": [source.images["test"], *test]}


def load_data(dataset, data_dir, corruption, num_severity, seed, num_per_class=None, num_val=None, split=None,
              workers=1, show_progress=False, train_on="poisson", val_fraction=None, corrupted_from="auto",
              test_corrupted=None, **options):
    """Load a data set and its corrupted versions, and choose the severity of each training image.

    Args:
        dataset (str): a key of `SOURCES`.
        data_dir (str): folder of the data sets.
        seed, num_per_class, num_val, train_on, val_fraction: arguments of the split, as in `make_split_for`.
        split (str or None): table of a split to read instead of drawing one.
        options: options in `dataset.SOURCE_OPTIONS`.
        Others as in `load_images`.

    Returns:
        ExperimentData

    Raises:
        UserError: something is missing or damaged, or does not fit.
    """
    for name, value, known in (("dataset", dataset, SOURCES), ("corruption", corruption, CORRUPTIONS),
                               ("train_on", train_on, TRAIN_ON), ("corrupted_from", corrupted_from, STORAGE_MODES)):
        if value not in known:
            raise UserError(f"{name} {value!r}: unknown; choose from {', '.join(known)}")
    for name, value, low, high in (("num_severity", num_severity, 2, 6), ("seed", seed, 0, 2 ** 32 - 1)):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= value <= high:
            raise UserError(f"{name} {value!r}: must be a whole number from {low} to {high}")
    check_split_options(num_per_class, split, num_val, train_on, val_fraction)
    source = load_source(dataset, data_dir, **options)
    chosen = make_split_for(source, num_severity, seed, num_per_class, split, num_val, train_on, val_fraction)
    images = load_images(source, data_dir, corruption, num_severity, workers, show_progress, corrupted_from,
                         test_corrupted)
    return ExperimentData(source, chosen, images)
