"""Corrupted test sets as others have published them: which layout a folder has, and the images in it.

A layout is a function from a folder to its `CorruptedTestSet`, or to None if the folder is laid out otherwise.
`LAYOUTS` has the layouts in the order in which they are tried. In all layouts an image keeps its place among the test
images, so that labels need not be read with it.
"""
import os
import re
import sys
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from corruptions import ALIASES, CORRUPTIONS
from dataset.class_folders import list_classes, list_files
from dataset.corrupted import SEVERITIES
from dataset.image_files import FileImages, exact, require_size
from dataset.source import ImageDataset
from utils.errors import UserError
from utils.files import load_array

LABELS = "labels"
GROUPS = ("noise", "blur", "weather", "digital", "extra")  # folders of corruptions, as ImageNet-C has them
READABLE = "name a folder of corrupted test images in one of the layouts that dataset/README.md lists"


@dataclass(frozen=True)
class ArrayLocation:
    """Where the images of one corruption and severity lie.

    Attributes:
        path (str): a .npy file, or a folder of class folders.
        start, rows (int): of an array its first image of this severity, and how many it has in all; 0 of a folder.
    """

    path: str
    start: int = 0
    rows: int = 0


@dataclass(frozen=True)
class CorruptedTestSet:
    """A corrupted test set of a data set. That its labels are those of the data set has been checked for arrays, and is
    checked for class folders when they are opened.

    Attributes:
        folder (str): as it was named.
        layout (str): what was recognised, in words.
        places (dict): corruption to a dict from severity, rising, to `ArrayLocation`.
        source (ImageDataset): the data set.
    """

    folder: str
    layout: str
    places: dict
    source: ImageDataset

    @property
    def name(self):
        """Name of the folder."""
        return os.path.basename(os.path.abspath(self.folder))

    @cached_property
    def classes(self):
        """Each class of files to the places of its test images, in the order of their names without suffix."""
        found = {}
        for place, name in enumerate(self.source.images["test"].names):
            found.setdefault(os.path.dirname(name), []).append((_stem(name), place))
        return {name: [place for _, place in sorted(members)] for name, members in found.items()}

    def __str__(self):
        return f"{self.folder}: {self.layout}; {', '.join(self.places)}"

    def severities(self, names):
        """The severities, rising, that each of some corruptions has.

        Raises:
            UserError: a corruption is not there, or there is no such severity.
        """
        missing = [name for name in names if name not in self.places]
        if missing:
            raise UserError(f"--test_corrupted {self.folder}: has no {', '.join(missing)}; there are "
                            f"{', '.join(self.places)}")
        shared = [s for s in SEVERITIES if all(s in self.places[name] for name in names)]
        if not shared:
            raise UserError(f"--test_corrupted {self.folder}: has no severity that all of {', '.join(names)} have; "
                            "name fewer of them with -c")
        return shared

    def images(self, name, severities):
        """Open a corruption at some severities.

        Returns:
            list: for each severity uint8 (N, H, W, 3), a memory-mapped part of an array, or files, in the order of the
            test images.

        Raises:
            UserError: one is not there, damaged, or does not fit the data set.
        """
        found = self.severities([name])
        missing = [str(s) for s in severities if s not in found]
        if missing:
            raise UserError(f"--test_corrupted {self.folder}: has no severity {', '.join(missing)} of {name}, only "
                            f"{', '.join(map(str, found))}; name another, or give a smaller --num_severity")
        places = [self.places[name][severity] for severity in severities]
        folders = [place.path for place in places if not place.rows]
        others = {own for folder in folders for own in list_classes(folder) if own not in self.classes}
        opened = [open_rows(place, self.source) if place.rows else align_files(place.path, self.source, self.classes)
                  for place in places]
        if others:  # as in frost of Tiny-ImageNet-C, which was distributed with all classes of ImageNet
            print(f"warning: {os.path.dirname(folders[0])}: {len(others)} classes, such as {min(others)}, are left "
                  f"out, because no test image of {self.source.name} is of them", file=sys.stderr)
        return opened


def align_files(folder, source, classes):
    """The files of one corruption and severity, in the order of the test images.

    Those of a class are matched with the data set's in the order of their names without suffix. They need not have the
    same names: Tiny-ImageNet-C was made from other files than tiny-imagenet-200 has, as many of each class.
    Classes that the data set lacks are left out.

    Args:
        folder (str): holds CLASS/FILE.
        source (ImageDataset): the data set.
        classes (dict): as in `CorruptedTestSet.classes`.

    Returns:
        FileImages: of the data set's size; a file of another size is refused when it is read.

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
        require_size(os.path.join(below, files[0]), clean.side)  # of one, for all would take long
    paths = clean.names if paths == clean.names else paths  # so that names are in memory once
    return FileImages(folder, paths, clean.names, clean.side, partial(exact, side=clean.side))


def _stem(name):
    return os.path.splitext(os.path.basename(name))[0]


def open_rows(place, source):
    """The rows of an array that an `ArrayLocation` says."""
    shape = (place.rows, *source.images["test"].shape[1:])
    array = _map(place.path)
    if array.shape != shape or array.dtype != np.uint8:
        raise UserError(f"{place.path}: {array.dtype} of shape {array.shape}, but the test images of {source.name} and "
                        f"the labels beside it need uint8 of {shape}; fetch it again, or name another --test_corrupted")
    return array[place.start:place.start + len(source.labels["test"])]


def _map(path):
    try:
        return load_array(path, "r")
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; fetch it with the arrays beside it") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or not a numpy array; fetch it again") from error


def check_labels(path, source):
    """Make sure that a file holds the labels of the test images, (M,) or (M, 1), once or several times in a row.

    Returns:
        int: how many times.

    Raises:
        UserError: it does not.
    """
    stored, labels = _map(path), source.labels["test"]
    if stored.ndim != 1 and stored.shape[1:] != (1,):
        raise UserError(f"{path}: labels of shape {stored.shape}, and it must be (M,) or (M, 1); name a corrupted test "
                        "set that has one label for each image")
    stored = stored.reshape(-1)
    times, rest = divmod(stored.size, len(labels))
    if rest or times not in SEVERITIES:
        raise UserError(f"{path}: {stored.size} labels, but {source.name} has {len(labels)} test images, one to five "
                        "times; name a corrupted test set of this data set")
    if not np.array_equal(stored, np.tile(labels, times)):
        raise UserError(f"{path}: not the labels of the test images of {source.name}, so the images beside it are "
                        "others; name a corrupted test set of this data set")
    return times


def find_stacked(folder, source):
    """CIFAR-10-C, CIFAR-100-C and CIFAR-10-C-bar as distributed: `CORRUPTION.npy`, the five severities one after the
    other, and `labels.npy` of as many rows. Fewer rows would not say which severities they are of.
    """
    names = array_names(folder)
    if not names:
        return None
    number, times = len(source.labels["test"]), check_labels(_array(folder, LABELS), source)
    if times != len(SEVERITIES):
        if _map(_array(folder, names[0])).shape[:1] == (len(SEVERITIES) * number,):
            raise UserError(f"{_array(folder, LABELS)}: {times * number} labels, but the arrays have five severities "
                            f"of {number} images; store {len(SEVERITIES) * number}, which np.tile(labels, 5) makes of "
                            "those of one severity")
        raise UserError(f"{_array(folder, LABELS)}: {times * number} labels are those of {times} of five severities, "
                        "and nothing says which; put arrays of severity 5 and their labels.npy into "
                        f"{os.path.join(folder, 'test', '5')}, and others likewise")
    places = {name: {severity: ArrayLocation(_array(folder, name), (severity - 1) * number, times * number)
                     for severity in SEVERITIES} for name in names}
    return CorruptedTestSet(folder, "arrays of 5 severities one after the other, as CIFAR-10-C is distributed", places,
                            source)


def find_by_severity(folder, source):
    """This project's and the SharpDRO release's: `test/SEVERITY/CORRUPTION.npy` with `labels.npy` beside it; or the
    same without `test/`, as `python -m corruptions array` stores it.
    """
    inner = os.path.join(folder, "test")
    having = [above for above in (inner, folder)
              if any(array_names(os.path.join(above, str(severity))) for severity in SEVERITIES)]
    if not having:
        return None
    if len(having) > 1:
        raise UserError(f"--test_corrupted {folder}: has arrays in test/, and others beside it; name {inner}, or a "
                        "folder without test/")
    places = {}
    for severity in SEVERITIES:
        below = os.path.join(having[0], str(severity))
        for name in array_names(below):
            places.setdefault(name, {})[severity] = ArrayLocation(_array(below, name), 0, len(source.labels["test"]))
    for severity in sorted({severity for found in places.values() for severity in found}):
        path = os.path.join(having[0], str(severity), f"{LABELS}.npy")
        if check_labels(path, source) != 1:
            raise UserError(f"{path}: more labels than {source.name} has test images; the arrays of a folder of one "
                            "severity have each image once")
    return CorruptedTestSet(folder, "arrays in folders of severities, as python -m corruptions stores them", places,
                            source)


def find_class_folders(folder, source):
    """Class folders, `CORRUPTION/SEVERITY/CLASS/FILE`: Tiny-ImageNet-C, ImageNet-C and ImageNet-C-bar as distributed,
    the second also in `noise/`, `blur/`, ..., ImageNet-30-64-C in `test/`.
    """
    inner, beside = _corruptions(os.path.join(folder, "test")), _corruptions(folder)
    if inner and beside:
        raise UserError(f"--test_corrupted {folder}: has {min(inner)} in test/, and {min(beside)} beside it; name "
                        f"{os.path.join(folder, 'test')}, or a folder without test/")
    places, layout = inner, "test/CORRUPTION/SEVERITY/CLASS, as ImageNet-30-64-C"
    if not places:
        places, layout = beside, "CORRUPTION/SEVERITY/CLASS, as ImageNet-C"
        for group in GROUPS:
            for name, found in _corruptions(os.path.join(folder, group)).items():
                if name in places:
                    raise UserError(f"{os.path.join(folder, group, name)}: {name} is there twice; remove one of them")
                places[name], layout = found, "GROUP/CORRUPTION/SEVERITY/CLASS, as ImageNet-C"
    if not places:
        return None
    if not source.in_files:
        raise UserError(f"--test_corrupted {folder}: has class folders, {layout}, and {source.name} has none; name a "
                        "corrupted test set of this data set")
    return CorruptedTestSet(folder, f"class folders, {layout} is distributed", places, source)


def _corruptions(folder):
    """The corruptions that have severity folders in a folder, to the `ArrayLocation` of each severity."""
    if not os.path.isdir(folder):
        return {}
    found = {name: severity_folders(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    return {name: places for name, places in found.items() if places}


def severity_folders(folder):
    """The `ArrayLocation` of each severity in the folder of a corruption, of which there may be none.

    The folders are named 1 to 5, or, as the authors' code writes ImageNet-C-bar, by strengths such as 2.35, rising.

    Raises:
        UserError: there are strengths, and not five.
    """
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir()] if os.path.isdir(folder) else []
    numbers = {severity: str(severity) for severity in SEVERITIES if str(severity) in names}
    strengths = sorted((name for name in names if re.fullmatch(r"\d+\.\d\d", name)), key=float)
    if not numbers and strengths:
        if len(strengths) != len(SEVERITIES):
            raise UserError(f"{folder}: has {', '.join(strengths)}, and must have five strengths for severities 1 to 5"
                            "; complete it, or remove it")
        numbers = dict(zip(SEVERITIES, strengths, strict=True))
    return {severity: ArrayLocation(os.path.join(folder, name)) for severity, name in numbers.items()}


def array_names(folder):
    """The corruptions that a folder has arrays of."""
    if not os.path.isdir(folder):
        return []
    names = [name.removesuffix(".npy") for name in os.listdir(folder)
             if name.endswith(".npy") and not name.startswith(".")]
    return [name for name in names if name != LABELS]


def _array(folder, name):
    return os.path.join(folder, f"{name}.npy")


LAYOUTS = (find_stacked, find_by_severity, find_class_folders)


def find_published(folder, source):
    """Recognise a corrupted test set.

    Args:
        folder (str): where it lies.
        source (ImageDataset): the data set that it must be of.

    Returns:
        CorruptedTestSet: its corruptions in the order of the benchmarks, others after them.

    Raises:
        UserError: the folder is missing, has none of the layouts, or is of other data.
    """
    if not os.path.isdir(folder):
        raise UserError(f"--test_corrupted {folder}: no such folder; {READABLE}")
    for find in LAYOUTS:
        found = find(folder, source)
        if found is not None:
            names = {name: ALIASES.get(name, name) for name in sorted(found.places)}
            places = {name if usual in found.places else usual: found.places[name] for name, usual in names.items()}
            order = dict.fromkeys([*CORRUPTIONS, *places])
            return replace(found, places={name: places[name] for name in order if name in places})
    raise UserError(f"--test_corrupted {folder}: has neither arrays, CORRUPTION.npy or SEVERITY/CORRUPTION.npy, the "
                    f"latter also in test/, nor class folders, CORRUPTION/SEVERITY/CLASS; {READABLE}")
