"""All that a run is trained and evaluated on."""
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dataset import SOURCE_OPTIONS, load_source
from dataset.batches import EvaluationBatches, TrainBatches
from dataset.corrupted import load_corrupted
from dataset.find_published import find_published
from dataset.fingerprints import joint_fingerprint
from dataset.pipeline import prefetch, release_pages
from dataset.poisson import Split
from dataset.sources.base import ImageDataset
from dataset.sources.imagenet30 import begin_lists
from dataset.splits import check_split_options, make_split_for, write_split
from utils.runtime.distributed import rank_and_world_size
from utils.runtime.signals import interruptible

IMAGE_OPTIONS = ("corrupted", "test_corrupted", *SOURCE_OPTIONS)  # of `load_images`, named as on the command line


@dataclass(frozen=True)
class ExperimentData:
    """Clean images, who is corrupted how much, and the corrupted images.

    Attributes:
        source (ImageDataset): the clean images.
        split (Split): which training image is used at which severity, and which are for validation.
        images (dict): for 'train' and 'test' a list over severities of images, as `load_corrupted` returns.
    """

    source: ImageDataset
    split: Split
    images: dict

    @property
    def num_severity(self):
        """Number of severities, the clean one included."""
        return len(self.split.train)

    @cached_property
    def fingerprints(self):
        """The `Fingerprint` of each set of images, keys as in `utils.fingerprint.WORDS`."""
        corrupted = {f"{part}_corrupted": joint_fingerprint(images[1:]) for part, images in self.images.items()}
        return {"train": self.source.train_fingerprint, "test": self.source.test_fingerprint, **corrupted}

    @property
    def train_labels(self):
        """Label of each of `split.indices`, int32 (n,)."""
        return self.source.labels["train"][self.split.indices]

    def with_validation(self, indices):
        """The same data with other validation images (int64, rising)."""
        return replace(self, split=replace(self.split, validation=indices))

    def write_split(self, path):
        """Write down the split, as `write_split` does, and the lists of a data set that has such and has none yet."""
        write_split(path, self.split, self.source.labels["train"])
        begin_lists(self.source, self.split)

    def train_batches(self, batch_size, steps, seed, workers, **how):
        """Iterate over the batches number `steps` (range) of a training, tuples of tensors (images, labels, groups,
        severities), of several workers this one's; `how` goes to `TrainBatches`, as the other arguments.
        """
        source = self.source
        return prefetch(TrainBatches(self.images["train"], source.labels["train"], self.split, source.mean, source.std,
                                     batch_size, steps, seed, share=rank_and_world_size(), **how), workers)

    def evaluation_batches(self, part, severity, batch_size, workers):
        """Iterate over the images of a part at one severity, in order, as `EvaluationBatches` gives them: 'val',
        'test', or 'train', the training images that have this severity; of several workers over this one's.
        """
        kind = "test" if part == "test" else "train"
        images, labels = self.images[kind][severity], self.source.labels[kind]
        indices = {"val": self.split.validation, "train": self.split.train[severity], "test": np.arange(len(labels))}
        inputs = EvaluationBatches(images, labels, indices[part], self.source.mean, self.source.std, batch_size,
                                   rank_and_world_size())
        yield from interruptible(prefetch(inputs, workers))
        release_pages(images)


def load_images(dataset, data_dir, corruption, num_severity, workers=1, show_progress=False, corrupted="auto",
                test_corrupted=None, **options):
    """Load a data set and its corrupted versions.

    Args:
        dataset (str): a key of `SOURCES`.
        data_dir (str): folder of the data sets.
        corruption (str): a key of `corruptions.CORRUPTIONS`.
        num_severity (int): number of severities, the clean one included.
        workers (int): processes for the generator.
        show_progress (bool): show its progress bar even if the output is no terminal.
        corrupted (str): where corrupted images come from, a key of `dataset.corrupted.STORAGE_MODES`.
        test_corrupted (str or None): folder of published corrupted test images, which are taken in place of such.
        options: of `dataset.SOURCE_OPTIONS`.

    Returns:
        tuple: `ImageDataset`, and the images as `load_corrupted` returns them.

    Raises:
        UserError: something is missing or damaged.
    """
    source = load_source(dataset, data_dir, **options)
    if test_corrupted is None:
        return source, load_corrupted(data_dir, source, corruption, num_severity, workers, show_progress, corrupted)
    published = find_published(test_corrupted, source)
    test = published.images(corruption, range(1, num_severity))
    print(published, flush=True)
    images = load_corrupted(data_dir, source, corruption, num_severity, workers, show_progress, corrupted, ("train",))
    return source, {**images, "test": [source.images["test"], *test]}


def load_data(dataset, data_dir, corruption, num_severity, seed, num_per_class=None, num_val=None, split=None,
              workers=1, show_progress=False, load=load_images, train_on="poisson", val_share=None, **options):
    """Load the images, and choose who is corrupted how much.

    Args:
        seed, num_per_class, num_val, train_on, val_share: of the split, as `make_split_for` takes them.
        split (str or None): table of a split to read instead.
        load (callable): loads the images, in place of `load_images`.
        options: further ones of `load_images`.
        Others as in `load_images`.

    Returns:
        ExperimentData

    Raises:
        UserError: something is missing or damaged, or does not fit.
    """
    check_split_options(num_per_class, split, num_val, train_on, val_share)  # before images are made
    source, images = load(dataset, data_dir, corruption, num_severity, workers, show_progress, **options)
    chosen = make_split_for(source, num_severity, seed, num_per_class, split, num_val, train_on, val_share)
    return ExperimentData(source, chosen, images)
