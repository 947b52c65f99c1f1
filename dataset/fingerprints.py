"""Fingerprints of the images of a data set, whether in arrays, in files or made when they are read."""
from corruptions.jobs.provenance import array_identity
from corruptions.utils.checksums import new_hash
from utils.fingerprint import Fingerprint


def fingerprint(images, labels=None):
    """Return the `Fingerprint` of images of one severity.

    Args:
        images (numpy.ndarray, FileImages, LazyCorruptedFiles or LazyCorruptedArray): N images.
        labels (numpy.ndarray or None): int (N,), labels of clean images.
    """
    pixels, made = images.identity if hasattr(images, "identity") else array_identity(images)
    digest = None if labels is None else new_hash(labels.tobytes()).hexdigest()
    return Fingerprint(images.shape[0], digest, pixels, made)


def joint_fingerprint(members):
    """Return the `Fingerprint` of a corruption at several severities.

    Args:
        members (list): images as in `fingerprint`, for each severity; at least one item.
    """
    parts = [fingerprint(images) for images in members]
    pixels, recipes, made = [part.pixels for part in parts], [part.made for part in parts], None
    if None not in recipes and all({**recipe, "severity": 0} == {**recipes[0], "severity": 0} for recipe in recipes):
        made = {**recipes[0], "severity": [recipe["severity"] for recipe in recipes]}
    content = None if None in pixels else " ".join(pixels).encode()
    digest = None if content is None else new_hash(content).hexdigest()
    return Fingerprint(sum(part.images for part in parts), None, digest, made)
