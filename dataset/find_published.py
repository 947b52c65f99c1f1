"""Find corrupted test sets in the layouts in which others publish them.

A layout is a function. It maps a folder to its `CorruptedTestSet`, or to None if the folder has another layout.
`PUBLISHED_LAYOUTS` lists the layouts in the order in which they are tried.
"""
import os
import re
import sys
from dataclasses import replace

import numpy as np

from corruptions import ALIASES, CORRUPTIONS
from corruptions.jobs.settings import SETTINGS_FILE
from corruptions.severities import SEVERITIES
from corruptions.utils.errors import UserError
from dataset.published import ArrayLocation, CorruptedTestSet, map_published

LABELS = "labels"
CORRUPTION_FOLDERS = ("noise", "blur", "weather", "digital", "extra")  # the folders of corruptions in ImageNet-C
BETWEEN = re.compile(r"[1-5]\.\d+")  # folders of severities between whole numbers
READABLE = "name a folder of corrupted test images in one of the layouts that dataset/README.md lists"


def count_label_copies(path, source):
    """Check that a file holds the labels of the test images, (M,) or (M, 1), once or several times in a row.

    Returns:
        int: number of times that the file holds the labels.

    Raises:
        UserError: the file does not hold the labels.
    """
    stored, labels = map_published(path), source.labels["test"]
    if stored.ndim != 1 and stored.shape[1:] != (1,):
        raise UserError(f"{path}: labels of shape {stored.shape}, which must be (M,) or (M, 1); name a corrupted test "
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
    """Recognise CIFAR-10-C, CIFAR-100-C and CIFAR-10-C-bar as distributed.

    Each `CORRUPTION.npy` has the five severities one after the other, and `labels.npy` has as many rows. Fewer rows
    would not show to which severities they belong.
    """
    names = array_names(folder)
    if not names:
        return None
    number, times = len(source.labels["test"]), count_label_copies(_array(folder, LABELS), source)
    if times != len(SEVERITIES):
        if map_published(_array(folder, names[0])).shape[:1] == (len(SEVERITIES) * number,):
            raise UserError(f"{_array(folder, LABELS)}: {times * number} labels, but the arrays have five severities "
                            f"of {number} images; store {len(SEVERITIES) * number}, which np.tile(labels, 5) makes of "
                            "those of one severity")
        raise UserError(f"{_array(folder, LABELS)}: {times * number} labels are those of {times} of five severities, "
                        "and nothing says of which ones; put arrays of severity 5 and their labels.npy into "
                        f"{os.path.join(folder, 'test', '5')}, and others likewise")
    if severities_with_arrays(os.path.join(folder, "test")):
        print(f"warning: {folder}: has arrays of all severities, and others in test/, which are left out; name "
              f"{os.path.join(folder, 'test')} to take these", file=sys.stderr)
    places = {name: {severity: ArrayLocation(_array(folder, name), (severity - 1) * number, times * number)
                     for severity in SEVERITIES} for name in names}
    return CorruptedTestSet(folder, "arrays of 5 severities one after the other, as CIFAR-10-C is distributed", places,
                            source)


def find_by_severity(folder, source):
    """Recognise the layout of this project and of the SharpDRO authors' code.

    It is `test/SEVERITY/CORRUPTION.npy` with `labels.npy` beside it. The folder `test/` may be missing, as `python -m
    corruptions array` stores it.
    """
    inner = os.path.join(folder, "test")
    having = [above for above in (inner, folder) if severities_with_arrays(above)]
    if not having:
        return None
    if len(having) > 1:
        raise UserError(f"--test_corrupted {folder}: has arrays in test/, and others beside it; name {inner}, or a "
                        "folder without test/")
    warn_left_out(having[0], os.listdir(having[0]))
    places = {}
    for severity in SEVERITIES:
        below = os.path.join(having[0], str(severity))
        for name in array_names(below):
            places.setdefault(name, {})[severity] = ArrayLocation(_array(below, name), 0, len(source.labels["test"]))
    for severity in sorted({severity for locations in places.values() for severity in locations}):
        path = os.path.join(having[0], str(severity), f"{LABELS}.npy")
        if count_label_copies(path, source) != 1:
            raise UserError(f"{path}: more labels than {source.name} has test images; the arrays of a folder of one "
                            "severity have each image once")
    return CorruptedTestSet(folder, "arrays in folders of severities, as python -m corruptions stores them", places,
                            source)


def find_class_folders(folder, source):
    """Recognise class folders, `CORRUPTION/SEVERITY/CLASS/FILE`.

    Tiny-ImageNet-C, ImageNet-C and ImageNet-C-bar are distributed so. The corruptions of ImageNet-C may also lie in
    `noise/`, `blur/`, ..., and ImageNet-30-64-C lies in `test/`.
    """
    inner, beside = _corruptions(os.path.join(folder, "test")), _corruptions(folder)
    if inner and beside:
        raise UserError(f"--test_corrupted {folder}: has {min(inner)} in test/, and {min(beside)} beside it; name "
                        f"{os.path.join(folder, 'test')}, or a folder without test/")
    places, layout = inner, "test/CORRUPTION/SEVERITY/CLASS, as ImageNet-30-64-C"
    if not places:
        places, layout = beside, "CORRUPTION/SEVERITY/CLASS, as ImageNet-C"
        for group in CORRUPTION_FOLDERS:
            for name, locations in _corruptions(os.path.join(folder, group)).items():
                if name in places:
                    raise UserError(f"{os.path.join(folder, group, name)}: {name} is there twice; remove one of them")
                places[name], layout = locations, "GROUP/CORRUPTION/SEVERITY/CLASS, as ImageNet-C"
    if not places:
        return None
    if not source.is_file_backed:
        raise UserError(f"--test_corrupted {folder}: has class folders, {layout}, and {source.name} has none; name a "
                        "corrupted test set of this data set")
    return CorruptedTestSet(folder, f"class folders, {layout} is distributed", places, source)


def _corruptions(folder):
    """Return the corruptions that have severity folders in a folder, each with the `ArrayLocation` of each severity."""
    if not os.path.isdir(folder):
        return {}
    locations = {name: severity_folders(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    return {name: places for name, places in locations.items() if places}


def severity_folders(folder):
    """Return the `ArrayLocation` of each severity in the folder of a corruption. There may be none.

    The folders are named 1 to 5. The authors' code for ImageNet-C-bar names them by strengths instead, such as 2.35, in
    ascending order. This project's folders may also have severities between whole numbers, which are left out with a
    warning.

    Raises:
        UserError: the folders are named by strengths, and there are not five.
    """
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir()] if os.path.isdir(folder) else []
    numbers = {severity: str(severity) for severity in SEVERITIES if str(severity) in names}
    strengths = sorted((name for name in names if re.fullmatch(r"\d+\.\d\d", name)), key=float)
    if os.path.exists(os.path.join(os.path.dirname(folder), SETTINGS_FILE)):  # made by this project
        warn_left_out(folder, names)
    elif not numbers and strengths:
        if len(strengths) != len(SEVERITIES):
            raise UserError(f"{folder}: has {', '.join(strengths)}, and must have five strengths for severities 1 to 5"
                            "; complete it, or remove it")
        numbers = dict(zip(SEVERITIES, strengths, strict=True))
    return {severity: ArrayLocation(os.path.join(folder, name)) for severity, name in numbers.items()}


def warn_left_out(folder, names):
    """Warn that severities between whole numbers are left out, if some `names` in a folder are such."""
    between = sorted(filter(BETWEEN.fullmatch, names))
    if between:
        print(f"warning: {folder}: severity {', '.join(between)} is between whole numbers and left out",
              file=sys.stderr)


def severities_with_arrays(folder):
    """Return the severities whose folders in `folder` have arrays."""
    return [severity for severity in SEVERITIES if array_names(os.path.join(folder, str(severity)))]


def array_names(folder):
    """Return the corruptions that have arrays in a folder."""
    if not os.path.isdir(folder):
        return []
    names = [name.removesuffix(".npy") for name in os.listdir(folder)
             if name.endswith(".npy") and not name.startswith(".")]
    return [name for name in names if name != LABELS]


def _array(folder, name):
    return os.path.join(folder, f"{name}.npy")


PUBLISHED_LAYOUTS = (find_stacked, find_by_severity, find_class_folders)


def find_published(folder, source):
    """Recognise a corrupted test set.

    Args:
        folder (str): folder of the test set.
        source (ImageDataset): data set that the test set must belong to.

    Returns:
        CorruptedTestSet: the test set, with its corruptions in the order of the benchmarks and others after them.

    Raises:
        UserError: the folder is missing, has none of the layouts, or belongs to other data.
    """
    if not os.path.isdir(folder):
        raise UserError(f"--test_corrupted {folder}: no such folder; {READABLE}")
    for find in PUBLISHED_LAYOUTS:
        test_set = find(folder, source)
        if test_set is not None:
            names = {name: ALIASES.get(name, name) for name in sorted(test_set.places)}
            places = {name if usual in test_set.places else usual: test_set.places[name]
                      for name, usual in names.items()}
            order = dict.fromkeys([*CORRUPTIONS, *places])
            return replace(test_set, places={name: places[name] for name in order if name in places})
    raise UserError(f"--test_corrupted {folder}: has neither arrays, CORRUPTION.npy or SEVERITY/CORRUPTION.npy, the "
                    f"latter also in test/, nor class folders, CORRUPTION/SEVERITY/CLASS; {READABLE}")
