"""Fashion-MNIST, read from its four idx files, which are downloaded if they are missing."""
import gzip
import math
import os
import sys
import zlib

import numpy as np

from corruptions.utils.errors import UserError
from dataset.sources.base import ImageDataset
from dataset.sources.download import download

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# MD5s of the published .gz files. Debian's files have the same content and other MD5s, because their gzip header has no
# name and time.
FILES = {
    "train": {"train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
              "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe"},
    "test": {"t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
             "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310"},
}
DOWNLOAD_FOLDER = "fashion-mnist"
TORCHVISION_FOLDER = os.path.join("FashionMNIST", "raw")
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"  # of the package dataset-fashion-mnist

CLASS_NAMES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
CLASSES, SIDE, PADDED = len(CLASS_NAMES), 28, 32
MEAN, STD = (0.2190,) * 3, (0.3318,) * 3
UNSIGNED_BYTES = 8  # the type of the values, in the third byte of an idx file; the fourth byte is the number of axes


def read_idx(path, axes):
    """Read an idx file of unsigned bytes, compressed with gzip if its name ends in .gz.

    Args:
        path (str): the file.
        axes (int): number of axes that the array must have.

    Returns:
        numpy.ndarray: uint8.

    Raises:
        UserError: the file is damaged, has another type, or has another size than its header says.
    """
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            content = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged or cut short ({error}); delete it and fetch it again") from error
    magic = bytes([0, 0, UNSIGNED_BYTES, axes])
    if content[:4] != magic:
        raise UserError(f"{path}: begins with {content[:4].hex() or 'nothing'}, not with {magic.hex()} as idx files of "
                        f"{'labels' if axes == 1 else 'images'} do; fetch it again")
    header = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:header].ljust(4 * axes, b"\0"), ">u4").tolist())
    if len(content) - header != math.prod(shape):
        raise UserError(f"{path}: has {len(content)} bytes, which its shape {shape} does not fit; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_part(images_path, labels_path):
    """Read the images and labels of one part.

    Returns:
        tuple: images, uint8 (N, 32, 32, 3), each channel with the grey image in the middle and zeros around it; labels,
            int32 (N,).

    Raises:
        UserError: a file is damaged, or the two files do not fit together.
    """
    grey, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if grey.shape[1:] != (SIDE, SIDE) or len(grey) == 0:
        raise UserError(f"{images_path}: images of shape {grey.shape}, not of {SIDE}x{SIDE} pixels; fetch it again")
    if len(labels) != len(grey):
        raise UserError(f"{labels_path}: {len(labels)} labels for the {len(grey)} images of {images_path}; fetch both "
                        "again")
    if labels.max() >= CLASSES:
        raise UserError(f"{labels_path}: has the label {labels.max()}, and labels are 0 to {CLASSES - 1}; fetch it "
                        "again")
    if len(set(np.bincount(labels, minlength=CLASSES))) > 1:
        print(f"warning: {labels_path}: has more images of one class than of another, as MNIST has, whose files have "
              "the same names, and Fashion-MNIST has not; make sure that these are the images that you mean",
              file=sys.stderr)
    margin = (PADDED - SIDE) // 2
    images = np.zeros((len(grey), PADDED, PADDED, 3), np.uint8)
    images[:, margin:-margin, margin:-margin] = grey[..., None]
    return images, labels.astype(np.int32)


def files_in(folder):
    """Return which of the four files are in a folder, compressed or not, as a dict from name to path."""
    names = (name for files in FILES.values() for name in files)
    paths = {name: [os.path.join(folder, name + suffix) for suffix in (".gz", "")] for name in names}
    return {name: next(filter(os.path.isfile, both)) for name, both in paths.items() if any(map(os.path.isfile, both))}


def find_files(data_dir):
    """Find the four files, name to path, in the first place that has them all. If there is none, download them.

    Raises:
        UserError: the download fails, or a place has only some of the files.
    """
    download_folder = os.path.join(data_dir, DOWNLOAD_FOLDER)
    places = {place: files_in(place)
              for place in (data_dir, download_folder, os.path.join(data_dir, TORCHVISION_FOLDER), DEBIAN_FOLDER)}
    checksums = {name: md5 for files in FILES.values() for name, md5 in files.items()}
    for files in places.values():
        if len(files) == len(checksums):
            return files
    for place, files in places.items():
        missing = [name for name in checksums if name not in files]
        if files and place != download_folder:  # there a download may have been interrupted
            raise UserError(f"{os.path.join(place, missing[0])}.gz: not there, though others of the four files are; "
                            "put it there, or take the others away")
    for name in checksums:
        if name not in places[download_folder]:
            places[download_folder][name] = download(
                f"{URL}{name}.gz", checksums[name], download_folder,
                f"fashion_mnist: {name}.gz is not in {data_dir} or {download_folder}",
                f"put {', '.join(f'{file}.gz' for file in checksums)} from {URL} into {download_folder}, install "
                "Debian's package dataset-fashion-mnist, or name another folder with --data_dir")
    return places[download_folder]


def load_fashion_mnist(data_dir):
    """Read Fashion-MNIST.

    Args:
        data_dir (str): folder with the four files, compressed or not, or with a folder fashion-mnist or
            FashionMNIST/raw that has them. If Debian's package is not installed either, they are downloaded into
            fashion-mnist.

    Returns:
        ImageDataset: grey images of 28x28, padded with zeros to 32x32, as three equal channels.

    Raises:
        UserError: a file is missing or damaged.
    """
    paths = find_files(data_dir)
    images, labels = {}, {}
    for part, files in FILES.items():
        images[part], labels[part] = read_part(*(paths[name] for name in files))
    return ImageDataset("fashion_mnist", "Fashion-MNIST-C", CLASSES, images, labels, MEAN, STD,
                        class_names=CLASS_NAMES)
