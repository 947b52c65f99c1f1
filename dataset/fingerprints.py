"""The identity of the images of a data set, whatever holds them."""
import hashlib
import json

from corruptions.provenance import array_identity
from utils.fingerprint import Fingerprint


def fingerprint(images, labels=None):
    """The `Fingerprint` of images of one severity.

    Args:
        images (numpy.ndarray, FileImages, MadeFiles or MadeImages): N of them.
        labels (numpy.ndarray or None): int (N,), of clean images.
    """
    pixels, made = images.identity if hasattr(images, "identity") else array_identity(images)
    digest = None if labels is None else hashlib.blake2b(labels.tobytes(), digest_size=16).hexdigest()
    return Fingerprint(images.shape[0], digest, pixels if made is None else None, made)


def joint_fingerprint(several):
    """The `Fingerprint` of a corruption at several severities.

    Args:
        several (list): images as of `fingerprint`, for each severity; at least one.
    """
    parts = [fingerprint(images) for images in several]
    number, recipes = sum(part.images for part in parts), [part.made for part in parts]
    if None not in recipes and all({**made, "severity": 0} == {**recipes[0], "severity": 0} for made in recipes):
        return Fingerprint(number, made={**recipes[0], "severity": [made["severity"] for made in recipes]})
    content = json.dumps([part.pixels or part.made for part in parts], sort_keys=True)
    return Fingerprint(number, pixels=hashlib.blake2b(content.encode(), digest_size=16).hexdigest())
