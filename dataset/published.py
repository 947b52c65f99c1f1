"""Published corrupted test sets: the layout of a folder, and the images in it.

`dataset/find_published.py` finds the layout of a folder. In all layouts an image keeps its position among the test
images, so labels need not be read with it.
"""
import os
import sys
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from corruptions.severities import SEVERITIES
from corruptions.utils.errors import UserError
from corruptions.utils.files import load_array
from dataset.image_files import FileImages, exact, require_size
from dataset.sources.base import ImageDataset
from dataset.sources.class_folders import list_classes, list_files


@dataclass(frozen=True)
class ArrayLocation:
    """The place of the images of one corruption and severity.

    Attributes:
        path (str): a .npy file, or a folder of class folders.
        start, rows (int): for an array, the position of its first image of this severity, and its number of images in
            all; 0 for a folder.
    """

    path: str
    start: int = 0
    rows: int = 0


@dataclass(frozen=True)
class CorruptedTestSet:
    """A corrupted test set of a data set.

    Its labels must be the labels of the data set. For arrays this has been checked already. For class folders it is
    checked when they are opened.

    Attributes:
        folder (str): folder of the test set, as it was named.
        layout (str): description of the layout that was recognised.
        places (dict): corruption to a dict from severity, ascending, to `ArrayLocation`.
        source (ImageDataset): the data set.
    """

    folder: str
    layout: str
    places: dict
    source: ImageDataset

    @property
    def name(self):
        """The name of the folder."""
        return os.path.basename(os.path.abspath(self.folder))

    @cached_property
    def classes(self):
        """The dict from each class of files to the positions of its test images.

        The positions are in the order of the image names without suffix.
        """
        images_by_class = {}
        for place, name in enumerate(self.source.images["test"].names):
            images_by_class.setdefault(os.path.dirname(name), []).append((_stem(name), place))
        return {name: [place for _, place in sorted(members)] for name, members in images_by_class.items()}

    def __str__(self):
        return f"{self.folder}: {self.layout}; {', '.join(self.places)}"

    def severities(self, names):
        """Return the severities, ascending, that all of the given corruptions have.

        Raises:
            UserError: a corruption is not there, or there is no such severity.
        """
        missing = [name for name in names if name not in self.places]
        if missing:
            raise UserError(f"--test_corrupted {self.folder}: has no {', '.join(missing)}; choose from "
                            f"{', '.join(self.places)}")
        shared = [s for s in SEVERITIES if all(s in self.places[name] for name in names)]
        if not shared:
            raise UserError(f"--test_corrupted {self.folder}: has no severity that all of {', '.join(names)} have; "
                            "name fewer of them with -c")
        return shared

    def images(self, name, severities):
        """Open a corruption at the given severities.

        Returns:
            list: for each severity uint8 (N, H, W, 3), a memory-mapped part of an array, or files, in the order of the
                test images.

        Raises:
            UserError: a severity is not there, is damaged, or does not fit the data set.
        """
        stored_severities = self.severities([name])
        missing = [str(s) for s in severities if s not in stored_severities]
        if missing:
            raise UserError(f"--test_corrupted {self.folder}: has no severity {', '.join(missing)} of {name}, only "
                            f"{', '.join(map(str, stored_severities))}; name another, or give a smaller --num_severity")
        places = [self.places[name][severity] for severity in severities]
        folders = [place.path for place in places if not place.rows]
        extra_classes = {class_name for folder in folders for class_name in list_classes(folder)
                         if class_name not in self.classes}
        opened = [open_rows(place, self.source) if place.rows else align_files(place.path, self.source, self.classes)
                  for place in places]
        if extra_classes:  # as in frost of Tiny-ImageNet-C, which was distributed with all classes of ImageNet
            print(f"warning: {os.path.dirname(folders[0])}: {len(extra_classes)} classes, such as "
                  f"{min(extra_classes)}, are left out, because no test image of {self.source.name} is of them",
                  file=sys.stderr)
        return opened


def align_files(folder, source, classes):
    """Return the files of one corruption and severity, in the order of the test images.

    The files of a class and the data set's files of this class are matched in the order of their names without suffix.
    They need not have the same names: Tiny-ImageNet-C was made from other files than tiny-imagenet-200 has, as many of
    each class. Classes that the data set lacks are left out.

    Args:
        folder (str): folder that holds CLASS/FILE.
        source (ImageDataset): the data set.
        classes (dict): as in `CorruptedTestSet.classes`.

    Returns:
        FileImages: images with the data set's size; a file of another size is an error when it is read.

    Raises:
        UserError: a class of the data set is missing, or has another number of images.
    """
    clean = source.images["test"]
    paths = [""] * len(clean)
    for name, places in classes.items():
        below = os.path.join(folder, name)
        if not os.path.isdir(below):
            raise UserError(f"{below}: not there, though {source.name} has test images of this class; fetch it again, "
                            "or name a corrupted test set of this data set")
        files = sorted(list_files(below), key=_stem)
        if len(files) != len(places):
            raise UserError(f"{below}: {len(files)} images, but {len(places)} test images of {source.name} are of this "
                            "class; fetch it again, or name a corrupted test set of this data set")
        for place, file in zip(places, files, strict=True):
            paths[place] = f"{name}/{file}"
        require_size(os.path.join(below, files[0]), clean.side)  # of one file, because all would take long
    paths = clean.names if paths == clean.names else paths  # keep the names in memory only once
    return FileImages(folder, paths, clean.names, clean.side, partial(exact, side=clean.side))


def _stem(name):
    return os.path.splitext(os.path.basename(name))[0]


def open_rows(place, source):
    """Return the rows of an array that an `ArrayLocation` describes."""
    shape = (place.rows, *source.images["test"].shape[1:])
    array = map_published(place.path)
    if array.shape != shape or array.dtype != np.uint8:
        raise UserError(f"{place.path}: {array.dtype} of shape {array.shape}, but the test images of {source.name} and "
                        f"the labels beside it need uint8 of {shape}; fetch it again, or name another --test_corrupted")
    return array[place.start:place.start + len(source.labels["test"])]


def map_published(path):
    """Return a published array, memory-mapped.

    Raises:
        UserError: the file is missing or damaged; the error says to fetch it again.
    """
    try:
        return load_array(path, "r")
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; fetch it with the arrays beside it") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or not a numpy array; fetch it again") from error


