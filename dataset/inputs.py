"""How images of any size enter a network that was trained on a data set. The data set itself is not needed."""
import os
from dataclasses import dataclass
from functools import partial

from dataset.image_files import FileImages, create_centre_crop, padded_crop, squash
from dataset.sources import fashion_mnist, imagenet, photos, tinyimagenet
from dataset.sources.base import per_channel
from dataset.sources.cifar import CIFAR
from dataset.sources.folder import IMAGE_SIZE

# Data sets to the mean and the standard deviation of their channels.
NORMALISATIONS = {
    **{name: (spec.mean, spec.std) for name, spec in CIFAR.items()},
    "fashion_mnist": (fashion_mnist.MEAN, fashion_mnist.STD),
    "photos": (photos.MEAN, photos.STD),
    "tinyimagenet": (tinyimagenet.MEAN, tinyimagenet.STD),
    **dict.fromkeys(("folder", "imagenet", "imagenet30"), (imagenet.MEAN, imagenet.STD)),
}
SIDES = {"imagenet": imagenet.SIDE, "imagenet30": 64, "tinyimagenet": tinyimagenet.SIDE, "folder": IMAGE_SIZE}
SMALL_SIDE = 32  # of the other data sets


@dataclass(frozen=True)
class InputFormat:
    """The form of a network's input.

    Attributes:
        side (int): side of an image, in pixels.
        transform (functools.partial): as in `FileImages`; that of the data set, for images of any size.
        mean, std (tuple of float): as in `ImageDataset`.
    """

    side: int
    transform: partial
    mean: tuple
    std: tuple

    def images(self, folder, paths):
        """Return the files `paths`, relative to `folder`, as `FileImages` that are read when they are needed."""
        return FileImages(os.path.abspath(folder), list(paths), list(paths), self.side, self.transform)


def input_format(dataset, image_size=None, mean=None, std=None, interpolation=None):
    """Return the `InputFormat` of networks for a data set.

    Args:
        dataset (str): a key of `dataset.SOURCES`.
        image_size, mean, std, interpolation: options of the data set; None stands for its default.

    Raises:
        UserError: `mean` or `std` has neither one number nor three.
    """
    side = image_size or SIDES.get(dataset, SMALL_SIDE)
    shorter = imagenet.SHORTER if dataset == "imagenet" else side
    known_mean, known_std = NORMALISATIONS[dataset]
    transform = create_centre_crop(side, shorter, interpolation or "bilinear")
    if dataset == "imagenet30":
        transform = partial(squash, side=side)
    elif dataset == "fashion_mnist":
        transform = partial(padded_crop, side=side, shorter=fashion_mnist.SIDE)
    return InputFormat(side, transform, per_channel("mean", mean or known_mean), per_channel("std", std or known_std))
