"""From arrays of images to the batches that a step takes.

A batch is a function of its number alone: the same bytes for any number of workers, and after a stop the stream goes on
from any step.
"""
import itertools
import mmap
import os

import mindspore as ms
import mindspore.dataset as ds
import numpy as np

from corruptions import CORRUPTIONS, ImageStream


def normalise(images, mean, std):
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W): values in 0..1, minus `mean`, over `std`, per channel."""
    scale = np.asarray(1 / (255 * np.asarray(std)), np.float32)
    shift = np.asarray(np.asarray(mean) / np.asarray(std), np.float32)
    out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for channel in range(3):  # five times as fast as on all at once, which has to be transposed
        np.multiply(images[..., channel], scale[channel], out=out[:, channel], dtype=np.float32)
        out[:, channel] -= shift[channel]
    return out


class TrainBatches:
    """Training batches, drawn with replacement, flipped left to right with chance 1/2.

    Args:
        images (list of numpy.ndarray): the training set at severity 0, 1, ..., uint8 (N, H, W, 3), memory-mapped or
            not.
        labels (numpy.ndarray): int32 (N,).
        split (dataset.poisson.Split): which image is trained on at which severity.
        mean, std: the data set's normalisation.
        batch_size (int): images in a batch.
        steps (range): numbers of the batches, over the whole run.
        seed (int): seed of the draws.
        crop (bool): besides, crop at random after padding each side by 1/8 with the mirrored image.
        sampling (str): 'uniform' draws every image with equal chance, so that severities keep their shares; 'balanced'
            draws every severity that has images with equal chance (group_DRO's `reweight_groups`).
        repeats (numpy.ndarray): int (n,), for each of `split.indices` how many times as often as others it is drawn,
            within its severity if the sampling is balanced; None for once each.
        groups (numpy.ndarray): int32 (n,), for each of `split.indices` what a step is told of its distribution; None
            for its severity.
        corruption (str): one half of every batch, chosen at random, is corrupted with this (DAMP paper, Algorithm 2),
            each image at a severity of its own from 1 to the highest of the split; None for no image.
        chances (numpy.ndarray): float (S - 1,), of these severities 1, 2, ...; None for equal ones.
    """

    columns = ("images", "labels", "groups", "severities")

    def __init__(self, images, labels, split, mean, std, batch_size, steps, seed, crop=False, sampling="uniform",
                 repeats=None, groups=None, corruption=None, chances=None):
        self.images, self.labels = images, labels
        self.indices, self.severities = split.indices, split.severities
        self.groups = self.severities if groups is None else groups
        self.mean, self.std = mean, std
        self.batch_size, self.steps, self.seed, self.crop = batch_size, steps, seed, crop
        self.sampling, self.corruption, self.highest = sampling, corruption, len(split.train) - 1
        self.chances = chances
        self.present = np.flatnonzero(split.counts)
        # An image holds as many tickets as it has repeats, those of one severity in a row.
        self.last_ticket = np.cumsum(np.ones(len(self.indices), int) if repeats is None else repeats)
        self.first_ticket = np.concatenate([[0], self.last_ticket])[np.cumsum([0, *split.counts])]

    def __len__(self):
        return len(self.steps)

    def __getitem__(self, k):
        rng = np.random.default_rng((self.seed, self.steps[int(k)]))
        if self.sampling == "balanced":
            drawn = self.present[rng.integers(len(self.present), size=self.batch_size)]
            tickets = rng.integers(self.first_ticket[drawn], self.first_ticket[drawn + 1])
        else:
            tickets = rng.integers(self.last_ticket[-1], size=self.batch_size)
        picks = np.searchsorted(self.last_ticket, tickets, side="right")
        indices, severities = self.indices[picks], self.severities[picks]
        batch = np.empty((self.batch_size, *self.images[0].shape[1:]), np.uint8)
        for s in np.unique(severities):
            batch[severities == s] = self.images[s][indices[severities == s]]
        flipped = rng.random(self.batch_size) < 0.5
        batch[flipped] = batch[flipped, :, ::-1]
        if self.crop:
            batch = random_crop(batch, rng)
        if self.corruption:
            batch = corrupt_half(batch, self.corruption, self.highest, rng, self.chances)
        return normalise(batch, self.mean, self.std), self.labels[indices], self.groups[picks], severities


def random_crop(images, rng):
    """Pad each side by 1/8 with the mirrored image, then cut out the old size at a random place, each image its own."""
    n, height, width, _ = images.shape
    pad_y, pad_x = height // 8, width // 8
    padded = np.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="reflect")
    tops, lefts = rng.integers(2 * pad_y + 1, size=n), rng.integers(2 * pad_x + 1, size=n)
    rows = tops[:, None] + np.arange(height)
    cols = lefts[:, None] + np.arange(width)
    return padded[np.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]


def corrupt_half(images, name, highest, rng, chances=None):
    """Corrupt one half of a batch, chosen at random, each image at a random severity from 1 to `highest`; `chances` of
    these, or None for equal ones.
    """
    chosen = rng.permutation(len(images))[:len(images) // 2]
    if chances is None:
        severities = rng.integers(1, highest + 1, size=len(chosen))
    else:
        severities = rng.choice(np.arange(1, highest + 1), size=len(chosen), p=chances)
    images = images.copy()
    for severity in np.unique(severities):
        some = chosen[severities == severity]
        streams = [ImageStream(bits) for bits in rng.bit_generator.spawn(len(some))]
        images[some] = CORRUPTIONS[name].batch(images[some], int(severity), streams)
    return images


class EvaluationBatches:
    """All images of one array in order, in batches of one size: the last is filled up, and `counts` says how many are
    real.

    Args:
        images (numpy.ndarray or dataset.corrupted.MadeImages): uint8 (N, H, W, 3).
        labels (numpy.ndarray): int32 (N,).
        indices (numpy.ndarray): which of them, in which order.
        mean, std: the data set's normalisation.
        batch_size (int): images in a batch.
    """

    columns = ("images", "labels", "counts")

    def __init__(self, images, labels, indices, mean, std, batch_size):
        self.images, self.labels, self.indices = images, labels, indices
        self.mean, self.std, self.batch_size = mean, std, batch_size

    def __len__(self):
        return -(-len(self.indices) // self.batch_size)

    def __getitem__(self, k):
        start = int(k) * self.batch_size
        chosen = self.indices[start:start + self.batch_size]
        filled = np.resize(np.arange(len(chosen)), self.batch_size)  # each image is read, or made, once
        images, labels = self.images[chosen][filled], self.labels[chosen][filled]
        return normalise(images, self.mean, self.std), labels, np.int32(len(chosen))


def held_batches(images, source, number, batch_size):
    """Batches of test images, held in memory to be used several times.

    Args:
        images (numpy.ndarray or dataset.corrupted.MadeImages): the test images at some severity, uint8 (N, H, W, 3).
        source (Source): of the images.
        number (int or None): how many, spread evenly over all N; all of them where that is None or more than N.
        batch_size (int): images in a batch, as of `EvaluationBatches`.

    Returns:
        list: tuples of tensors, as `EvaluationBatches` gives arrays.
    """
    labels = source.labels["test"]
    chosen = np.linspace(0, len(labels) - 1, min(number or len(labels), len(labels))).round().astype(int)
    return hold(EvaluationBatches(images, labels, chosen, source.mean, source.std, batch_size))


def hold(source):
    """All batches of a source as a list of tuples of tensors."""
    return [tuple(map(ms.Tensor, source[k])) for k in range(len(source))]


class Chain:
    """Sources of batches that have the same columns, one after the other, so that the next is read ahead, too."""

    def __init__(self, sources):
        self.sources, self.columns = sources, sources[0].columns
        self.ends = np.cumsum([len(source) for source in sources])

    def __len__(self):
        return int(self.ends[-1])

    def __getitem__(self, k):
        number = int(np.searchsorted(self.ends, k, side="right"))
        return self.sources[number][int(k) - (int(self.ends[number]) - len(self.sources[number]))]


def array_by_array(arrays, labels, mean, std, batch_size, workers):
    """Iterate over arrays of images that have the same labels: for each, an iterator over all its batches, as
    `EvaluationBatches` gives them, to be exhausted before the next is taken.
    """
    sources = [EvaluationBatches(images, labels, np.arange(len(labels)), mean, std, batch_size) for images in arrays]
    stream = batches(Chain(sources), workers)
    for images, source in zip(arrays, sources, strict=True):
        yield itertools.islice(stream, len(source))
        release_pages(images)


def release_pages(array):
    """Let go of the pages of a memory-mapped array that have been read; they stay in the system's file cache."""
    if isinstance(array, np.memmap):
        array._mmap.madvise(mmap.MADV_DONTNEED)


def batches(source, workers):
    """Iterate over a source's batches as tuples of MindSpore tensors, read ahead by `workers` threads."""
    if len(source) == 0:
        return iter(())
    workers = min(workers, os.cpu_count(), len(source))  # more than there are processors is refused
    data = ds.GeneratorDataset(source, list(source.columns), shuffle=False, num_parallel_workers=workers,
                               python_multiprocessing=False)
    return data.create_tuple_iterator(num_epochs=1)
