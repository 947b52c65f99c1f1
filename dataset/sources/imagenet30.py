"""ImageNet-30 at 64x64, and the file lists that give the training images of each severity."""
import os
import re
import sys
from dataclasses import replace
from functools import partial

import numpy as np

from corruptions.utils.errors import UserError
from corruptions.utils.files import write_text
from corruptions.utils.locks import file_lock
from dataset.image_files import exact, require_sizes, squash
from dataset.poisson import Split, most_validation, poisson_counts, poisson_split
from dataset.sources.base import ImageDataset
from dataset.sources.class_folders import list_class_images, list_classes, require_all_classes
from dataset.sources.imagenet import MEAN, STD

SIDE = 64
NUM_PER_CLASS = 1000
LOCK_SECONDS = 60  # runs that start at the same time wait up to this long for each other to write the lists
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LISTS = os.path.join(ROOT, "imagenet30_filelist")
VALIDATION_LIST = "imagenet30_val.txt"
TESTS = ("imagenet30_test.txt", "Imagenet30_test.txt")  # the authors' code asks for the first and has the second


def load_imagenet30(data_dir, filelist_dir=LISTS):
    """List the files of ImageNet-30.

    Args:
        data_dir (str): folder that holds ImageNet-30-64/{train,test}/CLASS/*, images of 64x64. Without it,
            ImageNet-30/{train,test} is used: images of any size, which are scaled to 64x64 when they are read.
        filelist_dir (str): folder of the file lists. If it has a list of test images, these are the test set.

    Returns:
        ImageDataset: data set in files; the labels are the positions of the training classes in alphabetical order.

    Raises:
        UserError: something is missing, or the list of test images does not fit.
    """
    small, raw = (os.path.join(data_dir, name) for name in ("ImageNet-30-64", "ImageNet-30"))
    if not os.path.isdir(small) and not os.path.isdir(raw):
        raise UserError(f"{small}: no such folder, nor ImageNet-30 beside it; name the folder above them with "
                        "--data_dir")
    root, transform = (small, partial(exact, side=SIDE)) if os.path.isdir(small) else (raw, partial(squash, side=SIDE))
    classes = list_classes(os.path.join(root, "train"))
    images, labels = {}, {}
    for part in ("train", "test"):
        images[part], labels[part] = list_class_images(os.path.join(root, part), classes, SIDE, transform)
        require_all_classes(os.path.join(root, part), classes, labels[part])
        if root == small:
            require_sizes(images[part])
    listed = find_test_list(filelist_dir)
    if listed is not None:
        chosen = read_list(listed, images["test"].names, labels["test"])
        images["test"], labels["test"] = images["test"].subset(chosen), labels["test"][chosen]
    return ImageDataset("imagenet30", "ImageNet-30-64-C", len(classes), images, labels, MEAN, STD, NUM_PER_CLASS,
                        filelist_dir, tuple(classes))


def find_test_list(folder):
    """Return the path of the list of test images in a folder, or None."""
    return next((path for path in (os.path.join(folder, name) for name in TESTS) if os.path.exists(path)), None)


def distribution_path(folder, severity):
    """Return the path of the list of training images of one severity."""
    return os.path.join(folder, f"imagenet30_distribution_{severity}.txt")


def parse_lists(path):
    """Read a list or an index of images. A line has a path that ends in CLASS/FILE, a blank, and a label.

    Returns:
        tuple: list of 'class/file'; labels, int32 (N,).

    Raises:
        UserError: the file is missing, or a line does not have this form.
    """
    names, labels = [], []
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                match = re.fullmatch(r"(?:.*/)?([^/]+/[^/]+) (\d{1,9})", line.strip())
                if match is None:
                    raise UserError(f"{path}, line {number}: not of the form CLASS/FILE LABEL; fetch the list again, "
                                    "or remove all lists to have new ones drawn")
                names.append(match[1])
                labels.append(int(match[2]))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not text'}); put it there, or "
                        "remove all lists to have new ones drawn") from error
    return names, np.array(labels, np.int32)


def read_list(path, names, labels):
    """Return the positions of the images of a list among the images of a data set.

    Args:
        path (str): the list.
        names (list of str): 'class/file' of the data set's images.
        labels (numpy.ndarray): int32 (N,), labels of the data set's images.

    Returns:
        numpy.ndarray: int64 (n,), in the list's order.

    Raises:
        UserError: the list names an image that is not there, names an image twice, or gives it another label.
    """
    places = {name: place for place, name in enumerate(names)}
    listed, stored = parse_lists(path)
    for name, label in zip(listed, stored, strict=True):
        if name not in places:
            raise UserError(f"{path}: names {name}, which is not there; put the image there, or remove all lists to "
                            "have new ones drawn")
        if labels[places[name]] != label:
            raise UserError(f"{path}: gives {name} the label {label}, but by its folder's place it is "
                            f"{labels[places[name]]}; use the images that the list was made for")
    chosen = np.array([places[name] for name in listed], np.int64)
    if len(chosen) == 0 and os.path.basename(path) in TESTS:
        raise UserError(f"{path}: names no image; fetch the list again, or remove it to test with all images")
    if len(np.unique(chosen)) < len(chosen):
        raise UserError(f"{path}: names an image twice; fetch the list again")
    return chosen


def has_lists(folder):
    """Whether a folder has a list of training or validation images."""
    return os.path.isdir(folder) and any(re.fullmatch(r"imagenet30_(distribution_\d+|val)\.txt", name)
                                         for name in os.listdir(folder))


def listed_split(source, num_severity, seed, num_per_class=None, num_val=None):
    """Return the split that the lists define. Without lists, draw a split, from which `begin_lists` makes lists.

    Args:
        source (ImageDataset): data set that `load_imagenet30` returns.
        num_severity, seed, num_per_class, num_val: as in `dataset.poisson.poisson_split`, for the draw.

    Returns:
        Split

    Raises:
        UserError: a list does not fit, or the lists do not have the numbers of images that are asked for.
    """
    names, labels = source.images["train"].names, source.labels["train"]
    if not has_lists(source.filelist_dir):
        split = poisson_split(labels, num_per_class or source.num_per_class, num_severity, seed, num_val,
                              most_validation(num_per_class))
        return replace(split, filelist_dir=source.filelist_dir)
    split = read_lists(source.filelist_dir, names, labels, num_severity)
    expected_counts = [source.classes * count
                       for count in poisson_counts(num_per_class or source.num_per_class, num_severity)]
    if split.counts != expected_counts:
        numbers = ", ".join(map(str, split.counts))
        summary = f"the lists in {source.filelist_dir} have {numbers} images of the severities"
        if num_per_class:
            raise UserError(f"-n {num_per_class}: {summary}; leave -n out, or remove the lists to have new ones drawn")
        print(f"warning: {summary}, where {source.num_per_class} images a class make "
              f"{', '.join(map(str, expected_counts))}; remove the lists to have new ones drawn", file=sys.stderr)
    if num_val and len(split.validation) != num_val * source.classes:
        raise UserError(f"--num_val {num_val}: the lists in {source.filelist_dir} have {len(split.validation)} "
                        "validation images; leave --num_val out, or remove the lists to have new ones drawn")
    print(f"severities as the lists in {source.filelist_dir} say")
    return split


def begin_lists(source, split):
    """Write the lists of a split that was drawn because there were none.

    Raises:
        UserError: another run has written lists since then, and they are of another split.
    """
    folder = split.filelist_dir
    if folder is None:
        return
    images = source.images["train"].names, source.labels["train"]
    os.makedirs(folder, exist_ok=True)
    with file_lock(os.path.join(folder, ".lock"), folder, LOCK_SECONDS):
        if not has_lists(folder):
            write_lists(folder, split, *images, (source.images["test"].names, source.labels["test"]))
            print(f"severities drawn, and written to the lists in {folder}", flush=True)
            return
        written = read_lists(folder, *images, len(split.train))
    pairs = zip([*split.train, split.validation], [*written.train, written.validation], strict=True)
    if not all(np.array_equal(ours, theirs) for ours, theirs in pairs):
        raise UserError(f"{folder}: another run has written other lists in the meantime; give the command again, which "
                        "then takes these lists")


def read_lists(folder, names, labels, num_severity):
    """Read the split from the lists of training and validation images.

    Args:
        folder (str): folder of the lists.
        names, labels: names and labels of the training images, as in `read_list`.
        num_severity (int): number of severities, including the clean one.

    Returns:
        Split

    Raises:
        UserError: a list is missing or does not fit, or two lists have the same image.
    """
    paths = [distribution_path(folder, severity) for severity in range(num_severity)]
    train = [read_list(path, names, labels) for path in paths]
    validation = np.sort(read_list(os.path.join(folder, VALIDATION_LIST), names, labels))
    images, counts = np.unique(np.concatenate([*train, validation]), return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{folder}: two lists name {names[images[counts > 1][0]]}; fetch the lists again, or remove "
                        "all to have new ones drawn")
    return Split(train, validation)


def write_lists(folder, split, names, labels, test=None):
    """Write a list for each severity, one for validation and one for the test.

    Lists of higher severities that are there are removed.

    Args:
        folder (str): folder of the lists.
        split (Split): the training images of each severity, and the validation images.
        names, labels: names and labels of the training images, as in `read_list`.
        test (tuple or None): names and labels of the test images; None for no list of them.
    """
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        match = re.fullmatch(r"imagenet30_distribution_(\d+)\.txt", name)
        if match and int(match[1]) >= len(split.train):
            os.remove(os.path.join(folder, name))
    for severity, indices in enumerate(split.train):
        _write_list(distribution_path(folder, severity), names, labels, indices)
    if test is not None and not os.path.exists(os.path.join(folder, TESTS[1])):
        _write_list(os.path.join(folder, TESTS[0]), *test, range(len(test[0])))
    _write_list(os.path.join(folder, VALIDATION_LIST), names, labels, split.validation)


def _write_list(path, names, labels, indices):
    write_text(path, "".join(f"{names[i]} {labels[i]}\n" for i in indices))
