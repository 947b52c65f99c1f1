"""The random streams of images: each depends on the seed, the corruption, the severity and the image alone."""
import hashlib

import numpy as np


class ImageRng(np.random.Generator):
    """A numpy generator with the method names of `numpy.random.RandomState` that the corruptions call."""

    randint = np.random.Generator.integers
    random_sample = np.random.Generator.random

    def reseed(self, seed, name, severity, image):
        """Start the random stream of an image; the stream depends on these four values and nothing else.

        `image` is the number of the image in an array, or its relative name in a folder, with '/'.
        """
        text = f"{seed} {name} {severity} {image}".encode("utf-8", "surrogateescape")
        key = hashlib.blake2b(text, digest_size=16).digest()
        self.bit_generator.state = {
            "bit_generator": "PCG64", "state": {"state": int.from_bytes(key, "little"), "inc": 1},
            "has_uint32": 0, "uinteger": 0}


def image_stream(seed, name, severity, image):
    """Return a new random number generator for one image, an `ImageRng` at the start of its stream."""
    stream = ImageRng(np.random.PCG64(0))
    stream.reseed(seed, name, severity, image)
    return stream


def with_old_names(rng):
    """Return a generator that has `randint` and `random_sample`; one of `numpy.random.default_rng` lacks them."""
    is_new = isinstance(rng, np.random.Generator) and not hasattr(rng, "randint")
    return ImageRng(rng.bit_generator) if is_new else rng
