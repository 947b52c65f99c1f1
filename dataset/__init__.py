"""Where images come from: one file per data set, found by name."""
from functools import partial

from dataset.cifar import load_cifar
from dataset.photos import load_photos

SOURCES = {
    "cifar10": partial(load_cifar, "cifar10"),
    "cifar100": partial(load_cifar, "cifar100"),
    "photos": load_photos,
}
