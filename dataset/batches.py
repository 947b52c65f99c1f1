"""Training and evaluation batches, and how they are made.

This file needs no MindSpore, so worker processes that make batches start fast and stay small.

A batch depends only on its number. Its bytes are the same for any number of workers, and after a stop the stream
resumes at any step. `describe(k)` returns the parts of batch k. The parts are cheap to find, and small enough to send
to another process, which makes the images from them.

If several devices train together, each draws the whole batch, and makes only its own images of it (`rank_slice`).
"""
import functools

import numpy as np

from corruptions.utils.errors import UserError
from dataset.augmentation import BatchBuilder
from dataset.sampling import CROP_AREA, check_names
from utils.options import new_value
from utils.runtime.distributed import rank_slice


def normalise(images, mean, std):
    """Return uint8 images (N, H, W, 3) as float32 (N, 3, H, W).

    Values are scaled to 0..1. Then `mean` is subtracted from them, and the result is divided by `std`, per channel.
    """
    scale = np.asarray(1 / (255 * np.asarray(std)), np.float32)
    shift = np.asarray(np.asarray(mean) / np.asarray(std), np.float32)
    out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for channel in range(3):  # five times as fast as all channels at once, which needs a transpose
        np.multiply(images[..., channel], scale[channel], out=out[:, channel], dtype=np.float32)
        out[:, channel] -= shift[channel]
    return out


def are_files(images):
    """Whether the images lie in files that are read when they are needed (`dataset/image_files.py`)."""
    return hasattr(images, "subset")


def take(images, indices):
    """Return the images with the given numbers. Files give a smaller set of files that is not read yet."""
    return images.subset(indices) if are_files(images) else images[indices]


def neighbours(rows):
    """Return rows (N, ...), N even, with the first and the second exchanged, the third and the fourth, and so on."""
    return rows.reshape(-1, 2, *rows.shape[1:])[:, ::-1].reshape(rows.shape)


class Batches:
    """Batches by number, made from the parts that `describe` returns.

    The columns of a batch are the images, float32 (B, 3, H, W), and the other columns that `describe` returns.
    """

    def __getitem__(self, k):
        build, arguments, columns = self.describe(k)
        return self.collate(build(*arguments), columns)

    def collate(self, images, columns):
        """Return the columns of a batch: the given images, normalised, and the other `columns`."""
        return normalise(images, self.mean, self.std), *columns


class TrainBatches(Batches):
    """Training batches. Images are flipped left to right with probability 1/2.

    Args:
        images (list): the training set at severity 0, 1, ...: uint8 (N, H, W, 3), memory-mapped or not, or files.
        labels (numpy.ndarray): int32 (N,).
        split (dataset.poisson.Split): the training images of each severity.
        mean, std: normalisation of the data set.
        batch_size (int): number of images in a batch.
        steps (range): numbers of the batches, counted over the whole run.
        seed (int): seed of the draws.
        crop (str): random crop of the images: a key of `PADDINGS`, 'random_resized' for images in files, or 'none'.
        crop_area (tuple of float): as in `random_resized_crop`; None takes `CROP_AREA`.
        rand_augment (tuple of int): layers and magnitude, as in `rand_augment.draw`; None for none.
        mixup (float): weight of an image when it is mixed with its neighbour in the batch, the first with the second
            and so on; labels are then int32 (B, 2), its own and the other's. None for none.
        sampling (str): 'uniform' draws every image with equal probability, so that severities keep their shares.
            'balanced' draws every severity that has images with equal probability (`reweight_groups` of group_DRO).
        repeats (numpy.ndarray): int (n,), how many times as often as others each of `split.indices` is drawn, with
            balanced sampling within its severity. None for once each.
        groups (numpy.ndarray): int32 (n,), the distribution of each of `split.indices` for a step; None for severities.
        corruption (str): corruption of one half of every batch, chosen at random (DAMP paper, Algorithm 2). Each of
            these images has a severity of its own, from 1 to the highest of the split. None for no corruption.
        probabilities (numpy.ndarray): float (S - 1,), probabilities of these severities 1, 2, ...; None for equal ones.
        sampler (str): 'replacement' or 'permutation'. 'permutation' passes over every image once an epoch, in a new
            order each epoch, and leaves out the last incomplete batch. It requires uniform sampling without repeats.
        share (tuple): rank of this device, from 0, and the world size, which divides the batch size. The images are the
            `rank_slice` of the batch; the other columns have the whole batch. All devices together have the images of
            one device alone. With 'random_resized' they have not, because each device draws for itself.

    Raises:
        UserError: `crop`, `sampling` or `sampler` is unknown, or two arguments exclude each other.
    """

    def __init__(self, images, labels, split, mean, std, batch_size, steps, seed, crop="none", sampling="uniform",
                 repeats=None, groups=None, corruption=None, probabilities=None, sampler="replacement", share=(0, 1),
                 crop_area=None, rand_augment=None, mixup=None):
        crop = new_value("crop", crop)
        check_names(crop, sampling, sampler)
        if sampler == "permutation" and (sampling == "balanced" or repeats is not None):
            raise UserError("sampler permutation: passes over every image once, so that it needs uniform sampling "
                            "without repeats")
        if sampler == "permutation" and batch_size > len(split.indices):
            raise UserError(f"batch_size {batch_size}: the training set has only {len(split.indices)} images; give a "
                            "smaller batch")
        if mixup is not None and batch_size % 2:
            raise UserError(f"batch_size {batch_size}: mixup mixes pairs of images; give an even number")
        if crop == "random_resized" and not all(map(are_files, images)):
            raise UserError("crop random_resized: is for images that are read from files; take zero_pad or reflect_pad")
        self.images, self.labels = images, labels
        self.indices, self.severities = split.indices, split.severities
        self.groups = self.severities if groups is None else groups
        self.mean, self.std = mean, std
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        self.sampling = sampling
        self.reads_files = any(map(are_files, images))
        self.local = rank_slice(batch_size, share)
        self.build = BatchBuilder(images[0].shape[1:], crop, corruption, len(split.train) - 1, probabilities,
                                  batch_size, share, crop_area or CROP_AREA, rand_augment)
        self.mixup = mixup
        self.nonempty = np.flatnonzero(split.counts)
        # An image holds as many tickets as it has repeats. The tickets of one severity are consecutive.
        self.cumulative_weight = np.cumsum(np.ones(len(self.indices), int) if repeats is None else repeats)
        self.first_ticket = np.concatenate([[0], self.cumulative_weight])[np.cumsum([0, *split.counts])]
        self.per_epoch = len(self.indices) // batch_size if sampler == "permutation" else None
        self.order = functools.lru_cache(maxsize=2)(self._order)  # two, because prefetch reaches into the next epoch

    def __len__(self):
        return len(self.steps)

    def _order(self, epoch):
        """Return the order in which an epoch passes over the images, int (n,)."""
        # The third number is never 0, so no batch has this seed: NumPy treats (seed, number) like (seed, number, 0).
        return np.random.default_rng((self.seed, 0, epoch + 1)).permutation(len(self.indices))

    def _sample(self, number, rng):
        """Return the positions in `indices` of the images of a batch, int (B,)."""
        if self.per_epoch is not None:
            epoch, batch = divmod(number, self.per_epoch)
            return self.order(epoch)[batch * self.batch_size:(batch + 1) * self.batch_size]
        if self.sampling == "balanced":
            drawn = self.nonempty[rng.integers(len(self.nonempty), size=self.batch_size)]
            tickets = rng.integers(self.first_ticket[drawn], self.first_ticket[drawn + 1])
        else:
            tickets = rng.integers(self.cumulative_weight[-1], size=self.batch_size)
        return np.searchsorted(self.cumulative_weight, tickets, side="right")

    def collate(self, images, columns):
        """Return the columns of a batch, mixed if `mixup` is set."""
        images, labels, *rest = super().collate(images, columns)
        if self.mixup is not None:
            images = np.float32(self.mixup) * images + np.float32(1 - self.mixup) * neighbours(images)
            labels = np.stack([labels, neighbours(labels)], axis=1)
        return images, labels, *rest

    def describe(self, k):
        """Return the parts of batch number `steps[k]`: a function for other processes, its arguments, other columns."""
        number = self.steps[int(k)]
        rng = np.random.default_rng((self.seed, number))
        picks = self._sample(number, rng)
        indices, severities = self.indices[picks], self.severities[picks]
        local_indices, levels = indices[self.local], severities[self.local]
        parts = [(np.flatnonzero(levels == s), take(self.images[s], local_indices[levels == s]))
                 for s in np.unique(levels)]
        return self.build, (parts, rng), (self.labels[indices], self.groups[picks], severities)


class EvaluationBatches(Batches):
    """All images of one array, or of files, in order, in batches of one size.

    The last batch is filled up. The column `counts` says how many images of a batch are real.

    Args:
        images (numpy.ndarray, dataset.corrupted.LazyCorruptedArray or files): uint8 (N, H, W, 3).
        labels (numpy.ndarray): int32 (N,).
        indices (numpy.ndarray): numbers of the images to take, in this order.
        mean, std: normalisation of the data set.
        batch_size (int): number of images in a batch.
        share (tuple): rank and world size of the devices that evaluate together. Each device has its `rank_slice` of
            the images, and all have the same number of batches. Batches of the last device may have no real image.
    """

    def __init__(self, images, labels, indices, mean, std, batch_size, share=(0, 1)):
        self.images, self.labels, self.indices = images, labels, indices
        self.mean, self.std, self.batch_size = mean, std, batch_size
        self.reads_files = are_files(images)
        self.local = indices[rank_slice(len(indices), share)]
        self.longest = rank_slice(len(indices), (0, share[1])).stop

    def __len__(self):
        return -(-self.longest // self.batch_size)

    def describe(self, k):
        """Return the parts of batch k, as in `TrainBatches.describe`."""
        start = int(k) * self.batch_size
        real = self.local[start:start + self.batch_size]
        chosen = real if len(real) else self.indices[:1]
        filled = np.resize(np.arange(len(chosen)), self.batch_size)
        return repeat_to_batch, (take(self.images, chosen), filled), (self.labels[chosen][filled], np.int32(len(real)))


def repeat_to_batch(images, places):
    """Return the images, each read or made once, at all their places."""
    return images[:][places]


class ConcatBatches(Batches):
    """Sources of batches with the same columns, one after the other, so that the next source is prefetched, too."""

    def __init__(self, sources):
        self.sources = sources
        self.ends = np.cumsum([len(source) for source in sources])
        self.collate = sources[0].collate
        self.reads_files = any(source.reads_files for source in sources)

    def __len__(self):
        return int(self.ends[-1])

    def describe(self, k):
        """Return the parts of batch k of all sources, as in `TrainBatches.describe`."""
        number = int(np.searchsorted(self.ends, k, side="right"))
        return self.sources[number].describe(int(k) - (int(self.ends[number]) - len(self.sources[number])))
