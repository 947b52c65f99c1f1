"""What a batch is made of, and how it is made. This file needs no MindSpore, so that processes that make batches start
fast and stay small.

A batch is a function of its number alone: the same bytes for any number of workers, and after a stop the stream goes on
from any step. `draw(k)` says what batch k is made of, which is cheap and small enough for another process; what it
returns makes the images there.

Where several devices train together, each draws the whole batch, and reads and makes its own images of it
(`rank_slice`).
"""
import functools
from dataclasses import dataclass

import numpy as np

from corruptions import CORRUPTIONS, ImageRng
from utils.runtime.distributed import rank_slice


def normalise(images, mean, std):
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W): values in 0..1, minus `mean`, over `std`, per channel."""
    scale = np.asarray(1 / (255 * np.asarray(std)), np.float32)
    shift = np.asarray(np.asarray(mean) / np.asarray(std), np.float32)
    out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for channel in range(3):  # five times as fast as on all at once, which has to be transposed
        np.multiply(images[..., channel], scale[channel], out=out[:, channel], dtype=np.float32)
        out[:, channel] -= shift[channel]
    return out


def are_files(images):
    """Whether images lie in files that are read when they are needed (`dataset/image_files.py`)."""
    return hasattr(images, "subset")


def take(images, indices):
    """Those of the images that have these numbers; of files a smaller set of them, not read yet."""
    return images.subset(indices) if are_files(images) else images[indices]


class Batches:
    """Batches by number, as what `draw` says; columns are the images, float32 (B, 3, H, W), and what else it gives."""

    def __getitem__(self, k):
        make, arguments, rest = self.draw(k)
        return self.finish(make(*arguments), rest)

    def finish(self, images, rest):
        """The columns of a batch from what was made for it."""
        return normalise(images, self.mean, self.std), *rest


class TrainBatches(Batches):
    """Training batches, flipped left to right with chance 1/2.

    Args:
        images (list): the training set at severity 0, 1, ...: uint8 (N, H, W, 3), memory-mapped or not, or files.
        labels (numpy.ndarray): int32 (N,).
        split (dataset.poisson.Split): which image is trained on at which severity.
        mean, std: the data set's normalisation.
        batch_size (int): images in a batch.
        steps (range): numbers of the batches, over the whole run.
        seed (int): seed of the draws.
        crop (str): besides, crop at random: a key of `CROPS`, or 'resized' for images in files; 'none' does not.
        sampling (str): 'uniform' draws every image with equal chance, so that severities keep their shares; 'balanced'
            draws every severity that has images with equal chance (group_DRO's `reweight_groups`).
        repeats (numpy.ndarray): int (n,), for each of `split.indices` how many times as often as others it is drawn,
            within its severity if the sampling is balanced; None for once each.
        groups (numpy.ndarray): int32 (n,), for each of `split.indices` what a step is told of its distribution; None
            for its severity.
        corruption (str): one half of every batch, chosen at random, is corrupted with this (DAMP paper, Algorithm 2),
            each image at a severity of its own from 1 to the highest of the split; None for no image.
        chances (numpy.ndarray): float (S - 1,), of these severities 1, 2, ...; None for equal ones.
        draw (str): 'replacement', or 'permutation', which passes over every image once an epoch, each epoch in an order
            of its own, and leaves out the last incomplete batch; it goes with uniform sampling and without repeats.
        share (tuple): this device's number, from 0, and how many train together, which divides the batch size: the
            images are those of `rank_slice` of the batch, the other columns have the whole of it. Together the devices
            have the images that one alone would have, but for 'resized' crops, which are drawn by each for itself.
    """

    columns = ("images", "labels", "groups", "severities")

    def __init__(self, images, labels, split, mean, std, batch_size, steps, seed, crop="none", sampling="uniform",
                 repeats=None, groups=None, corruption=None, chances=None, draw="replacement", share=(0, 1)):
        self.images, self.labels = images, labels
        self.indices, self.severities = split.indices, split.severities
        self.groups = self.severities if groups is None else groups
        self.mean, self.std = mean, std
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        self.sampling = sampling
        self.reads_files = any(map(are_files, images))
        self.own = rank_slice(batch_size, share)
        self.make = BatchBuilder(images[0].shape[1:], crop, corruption, len(split.train) - 1, chances, batch_size,
                                 share)
        self.present = np.flatnonzero(split.counts)
        # An image holds as many tickets as it has repeats, those of one severity in a row.
        self.last_ticket = np.cumsum(np.ones(len(self.indices), int) if repeats is None else repeats)
        self.first_ticket = np.concatenate([[0], self.last_ticket])[np.cumsum([0, *split.counts])]
        self.per_epoch = len(self.indices) // batch_size if draw == "permutation" else None
        self.order = functools.lru_cache(maxsize=2)(self._order)  # two, for what is read ahead into the next epoch

    def __len__(self):
        return len(self.steps)

    def _order(self, epoch):
        """In which order an epoch passes over the images, int (n,)."""
        # No batch has this generator: (seed, number) is the same to it as (seed, number, 0).
        return np.random.default_rng((self.seed, 0, epoch + 1)).permutation(len(self.indices))

    def _picks(self, number, rng):
        """Places in `indices` of the images of a batch, int (B,)."""
        if self.per_epoch is not None:
            epoch, batch = divmod(number, self.per_epoch)
            return self.order(epoch)[batch * self.batch_size:(batch + 1) * self.batch_size]
        if self.sampling == "balanced":
            drawn = self.present[rng.integers(len(self.present), size=self.batch_size)]
            tickets = rng.integers(self.first_ticket[drawn], self.first_ticket[drawn + 1])
        else:
            tickets = rng.integers(self.last_ticket[-1], size=self.batch_size)
        return np.searchsorted(self.last_ticket, tickets, side="right")

    def draw(self, k):
        """What batch number `steps[k]` is made of: a function for other processes, its arguments, other columns."""
        number = self.steps[int(k)]
        rng = np.random.default_rng((self.seed, number))
        picks = self._picks(number, rng)
        indices, severities = self.indices[picks], self.severities[picks]
        own, levels = indices[self.own], severities[self.own]
        parts = [(np.flatnonzero(levels == s), take(self.images[s], own[levels == s])) for s in np.unique(levels)]
        return self.make, (parts, rng), (self.labels[indices], self.groups[picks], severities)


@dataclass(frozen=True)
class BatchBuilder:
    """How the images of a training batch are made. What is random is drawn for all of a batch, whoever makes which part
    of it.

    Attributes:
        shape (tuple): of an image, (H, W, 3).
        crop, corruption, chances, batch_size, share: as in `TrainBatches`.
        highest (int): severity up to which images are corrupted.
    """

    shape: tuple
    crop: str
    corruption: str | None
    highest: int
    chances: np.ndarray | None
    batch_size: int
    share: tuple = (0, 1)

    def __call__(self, parts, rng):
        """Read, flip, crop and corrupt.

        Args:
            parts (list): pairs of places in the own part of the batch, int (m,), and the images for them, uint8
                (m, H, W, 3) or files.
            rng (numpy.random.Generator): of this batch.

        Returns:
            numpy.ndarray: uint8 (n, H, W, 3), the own part of the batch.
        """
        own = rank_slice(self.batch_size, self.share)
        batch = np.empty((own.stop - own.start, *self.shape), np.uint8)
        of_crops = self._own_generator(rng) if self.crop == "resized" else None
        for places, images in parts:
            batch[places] = images[:] if of_crops is None else images.resized_crops(of_crops)
        flipped = rng.random(self.batch_size)[own] < 0.5
        batch[flipped] = batch[flipped, :, ::-1]
        if self.crop in CROPS:
            batch = random_crop(batch, rng, *CROPS[self.crop](*self.shape[:2]), self.batch_size, own)
        if self.corruption:
            batch = corrupt_half(batch, self.corruption, self.highest, rng, self.chances, self.batch_size, own)
        return batch

    def _own_generator(self, rng):
        """What draws the resized crops: how many numbers one takes depends on the size of the image, so that the crops
        of images that are not read cannot be passed over."""
        which, all_of_them = self.share
        return rng if all_of_them == 1 else rng.spawn(all_of_them)[which]


# How images are padded before a random crop of their size: height, width to pixels above, pixels left, numpy's mode.
CROPS = {
    "mirror": lambda height, width: (height // 8, width // 8, "reflect"),
    "zeros": lambda height, width: (4, 4, "constant"),  # the DAMP authors', at 32 and at 64 pixels
}


def random_crop(images, rng, pad_y, pad_x, mode, size, own):
    """Pad each side, then cut out the old size at a random place, each image its own; the images are those in the slice
    `own` of a batch of `size`.
    """
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode=mode)
    tops, lefts = rng.integers(2 * pad_y + 1, size=size)[own], rng.integers(2 * pad_x + 1, size=size)[own]
    rows = tops[:, None] + np.arange(height)
    cols = lefts[:, None] + np.arange(width)
    return padded[np.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]


def corrupt_half(images, name, highest, rng, chances, size, own):
    """Corrupt one half of a batch, chosen at random, each image at a random severity from 1 to `highest`; `chances` of
    these, or None for equal ones. The images are those in the slice `own` of a batch of `size`.
    """
    chosen = rng.permutation(size)[:size // 2]
    if chances is None:
        severities = rng.integers(1, highest + 1, size=len(chosen))
    else:
        severities = rng.choice(np.arange(1, highest + 1), size=len(chosen), p=chances)
    images = images.copy()
    for severity in np.unique(severities):
        members = chosen[severities == severity]
        bits = rng.bit_generator.spawn(len(members))
        here = np.flatnonzero((members >= own.start) & (members < own.stop))
        if len(here):
            places = members[here] - own.start
            streams = [ImageRng(bits[k]) for k in here]
            images[places] = CORRUPTIONS[name].batch(images[places], int(severity), streams)
    return images


class EvaluationBatches(Batches):
    """All images of one array, or of files, in order, in batches of one size: the last is filled up, and `counts` says
    how many are real.

    Args:
        images (numpy.ndarray, dataset.corrupted.LazyCorruptedArray or files): uint8 (N, H, W, 3).
        labels (numpy.ndarray): int32 (N,).
        indices (numpy.ndarray): which of them, in which order.
        mean, std: the data set's normalisation.
        batch_size (int): images in a batch.
        share (tuple): rank and number of the devices that evaluate together, each `rank_slice` of the images in as many
            batches; those of the last may have none that is real.
    """

    columns = ("images", "labels", "counts")

    def __init__(self, images, labels, indices, mean, std, batch_size, share=(0, 1)):
        self.images, self.labels, self.indices = images, labels, indices
        self.mean, self.std, self.batch_size = mean, std, batch_size
        self.reads_files = are_files(images)
        self.own = indices[rank_slice(len(indices), share)]
        self.longest = rank_slice(len(indices), (0, share[1])).stop

    def __len__(self):
        return -(-self.longest // self.batch_size)

    def draw(self, k):
        """The parts of batch k, as in `TrainBatches.draw`."""
        start = int(k) * self.batch_size
        real = self.own[start:start + self.batch_size]
        chosen = real if len(real) else self.indices[:1]
        filled = np.resize(np.arange(len(chosen)), self.batch_size)
        return repeat_to_batch, (take(self.images, chosen), filled), (self.labels[chosen][filled], np.int32(len(real)))


def repeat_to_batch(images, places):
    """Images, each read or made once, at all their places."""
    return images[:][places]


class ConcatBatches(Batches):
    """Sources of batches that have the same columns, one after the other, so that the next is read ahead, too."""

    def __init__(self, sources):
        self.sources, self.columns = sources, sources[0].columns
        self.ends = np.cumsum([len(source) for source in sources])
        self.finish = sources[0].finish
        self.reads_files = any(source.reads_files for source in sources)

    def __len__(self):
        return int(self.ends[-1])

    def draw(self, k):
        """The parts of batch k of all, as in `TrainBatches.draw`."""
        number = int(np.searchsorted(self.ends, k, side="right"))
        return self.sources[number].draw(int(k) - (int(self.ends[number]) - len(self.sources[number])))
