"""Small corrupted test sets in the layouts in which the real ones are distributed."""
import os

import numpy as np
from PIL import Image

from tests.image_trees import CLASSES
from utils.fingerprint import Fingerprint

C_BAR = ("blue_noise_sample", "checkerboard_cutout", "inverse_sparkles", "pinch_and_twirl", "ripple", "brownish_noise",
         "circular_motion_blur", "lines", "sparkles", "transverse_chromatic_abberation")  # of CIFAR-10, spelled so
STRENGTHS = ("2.35", "3.20", "4.90", "6.60", "10.00")  # folders of ImageNet-C-bar as its authors' code writes them


def make_stacked(folder, labels, names, times=5, label_type=np.uint8, side=32):
    """Write `CORRUPTION.npy` of random images, `times` severities in a row, and `labels.npy`; return the arrays."""
    os.makedirs(folder)
    rng = np.random.default_rng(len(names))
    np.save(os.path.join(folder, "labels.npy"), np.tile(labels, times).astype(label_type))
    arrays = {name: rng.integers(0, 256, (times * len(labels), side, side, 3), dtype=np.uint8) for name in names}
    for name, array in arrays.items():
        np.save(os.path.join(folder, f"{name}.npy"), array)
    return arrays


def make_by_severity(folder, labels, names, severities=range(1, 6), side=32):
    """Write `test/SEVERITY/CORRUPTION.npy` and labels beside each; return (corruption, severity) to array."""
    rng, arrays = np.random.default_rng(0), {}
    for severity in severities:
        below = os.path.join(folder, "test", str(severity))
        os.makedirs(below)
        np.save(os.path.join(below, "labels.npy"), labels.astype(np.uint8))
        for name in names:
            arrays[name, severity] = rng.integers(0, 256, (len(labels), side, side, 3), dtype=np.uint8)
            np.save(os.path.join(below, f"{name}.npy"), arrays[name, severity])
    return arrays


def grey(severity, label, number):
    """The grey of an image, by which it is known again."""
    return 45 * (severity - 1) + 15 * label + 3 * number


def make_class_folders(folder, names, side, files, severities=("1", "2", "3", "4", "5")):
    """Write CORRUPTION/SEVERITY/CLASS/FILE, images of one grey each.

    Args:
        folder (str): where the corruptions go.
        names (list of str): corruptions, with '/' where they lie in a group's folder.
        side (int): of an image.
        files (dict): class to the names of its files, in alphabetical order.
        severities (tuple of str): names of their folders.
    """
    for name in names:
        for severity, part in enumerate(severities, 1):
            for label, (ours, members) in enumerate(files.items()):
                below = os.path.join(folder, name, part, ours)
                os.makedirs(below)
                for number, file in enumerate(members):
                    pixels = np.full((side, side, 3), grey(severity, label, number), np.uint8)
                    Image.fromarray(pixels).save(os.path.join(below, file), "PNG" if file.endswith("png") else "JPEG")


def same_files(source):
    """The files of the test images, class to names."""
    return {name: sorted(os.path.basename(item) for item in source.images["test"].names if item.startswith(name + "/"))
            for name in CLASSES}


def stored_fingerprints(names, pixels="1"):
    """Fingerprints of clean images and of corruptions as an evaluation has them, all with the hash `pixels`."""
    return {name: Fingerprint(50, pixels=pixels).to_dict() for name in ("none", *names)}
