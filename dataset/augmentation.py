"""How the images of a training batch are made: flipped, cropped, augmented, corrupted.

Like `batches.py`, this file needs no MindSpore.
"""
from dataclasses import dataclass

import numpy as np

from corruptions import CORRUPTIONS, ImageRng
from dataset import rand_augment
from dataset.sampling import CROP_AREA
from utils.runtime.distributed import rank_slice


@dataclass(frozen=True)
class BatchBuilder:
    """The function that makes the images of a training batch.

    Random numbers are drawn for the whole batch, whichever device makes which part of it.

    Attributes:
        shape (tuple): shape of an image, (H, W, 3).
        crop, corruption, probabilities, batch_size, share, crop_area, rand_augment: as in `TrainBatches`.
        max_severity (int): highest severity at which images are corrupted.
    """

    shape: tuple
    crop: str
    corruption: str | None
    max_severity: int
    probabilities: np.ndarray | None
    batch_size: int
    share: tuple = (0, 1)
    crop_area: tuple = CROP_AREA
    rand_augment: tuple | None = None

    def __call__(self, parts, rng):
        """Read, flip, crop and corrupt the images.

        Args:
            parts (list): pairs of positions in this device's part of the batch, int (m,), and the images for these
                positions, uint8 (m, H, W, 3) or files.
            rng (numpy.random.Generator): generator of this batch.

        Returns:
            numpy.ndarray: uint8 (n, H, W, 3), this device's part of the batch.
        """
        local_rows = rank_slice(self.batch_size, self.share)
        batch = np.empty((local_rows.stop - local_rows.start, *self.shape), np.uint8)
        crop_rng = self._crop_rng(rng) if self.crop == "random_resized" else None
        for places, images in parts:
            batch[places] = images[:] if crop_rng is None else images.resized_crops(crop_rng, self.crop_area)
        flipped = rng.random(self.batch_size)[local_rows] < 0.5
        batch[flipped] = batch[flipped, :, ::-1]
        if self.crop in PADDINGS:
            batch = random_crop(batch, rng, *PADDINGS[self.crop](*self.shape[:2]), self.batch_size, local_rows)
        if self.rand_augment is not None:
            chosen = rand_augment.draw(rng, self.batch_size, *self.rand_augment)[local_rows]
            batch = np.stack([rand_augment.apply(image, operations) for image, operations in
                              zip(batch, chosen, strict=True)])
        if self.corruption:
            batch = corrupt_half(batch, self.corruption, self.max_severity, rng, self.probabilities, self.batch_size,
                                 local_rows)
        return batch

    def _crop_rng(self, rng):
        """Return the generator for the resized crops of this device.

        The number of draws for a crop depends on the size of the image. The draws for images that are not read
        therefore cannot be skipped, and each device needs its own generator.
        """
        rank, world_size = self.share
        return rng if world_size == 1 else rng.spawn(world_size)[rank]


# Padding of images before a random crop to their size. Each function maps height and width to the pixels above, the
# pixels to the left, and the mode of `numpy.pad`.
PADDINGS = {
    "reflect_pad": lambda height, width: (height // 8, width // 8, "reflect"),
    "zero_pad": lambda height, width: (4, 4, "constant"),  # as the DAMP authors pad, at 32 and at 64 pixels
}


def random_crop(images, rng, pad_y, pad_x, mode, size, local):
    """Pad the images, the slice `local` of a batch of `size`, and cut out the old size at random places."""
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode=mode)
    tops, lefts = rng.integers(2 * pad_y + 1, size=size)[local], rng.integers(2 * pad_x + 1, size=size)[local]
    rows = tops[:, None] + np.arange(height)
    cols = lefts[:, None] + np.arange(width)
    return padded[np.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]


def corrupt_half(images, name, max_severity, rng, probabilities, size, local):
    """Corrupt one half of a batch, chosen at random.

    Each image has a random severity from 1 to `max_severity`. `probabilities` are those of these severities; None for
    equal ones. The images are the slice `local` of a batch of `size` images.
    """
    chosen = rng.permutation(size)[:size // 2]
    if probabilities is None:
        severities = rng.integers(1, max_severity + 1, size=len(chosen))
    else:
        severities = rng.choice(np.arange(1, max_severity + 1), size=len(chosen), p=probabilities)
    images = images.copy()
    for severity in np.unique(severities):
        members = chosen[severities == severity]
        bits = rng.bit_generator.spawn(len(members))
        local_positions = np.flatnonzero((members >= local.start) & (members < local.stop))
        if len(local_positions):
            places = members[local_positions] - local.start
            streams = [ImageRng(bits[k]) for k in local_positions]
            images[places] = CORRUPTIONS[name].batch(images[places], int(severity), streams)
    return images
