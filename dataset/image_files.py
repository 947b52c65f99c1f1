"""Images in files, read and corrupted when they are needed, so that a large data set needs no second copy on disk.

Like `batches.py`, this file needs no MindSpore.
"""
import contextlib
import os
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from PIL import Image

from corruptions import CORRUPTIONS
from corruptions.generate import SEED, corrupt_images
from corruptions.images import as_rgb, jpeg_roundtrip, open_image, read_image
from corruptions.jobs.provenance import read_made, recipe
from corruptions.utils.checksums import file_checksums, new_hash
from corruptions.utils.errors import UserError
from dataset.sampling import CROP_AREA

RESIZED_RATIO = (3 / 4, 4 / 3)  # aspect ratio of a random resized crop, width over height
RESIZED_TRIES = 10


def read_rgb(path):
    """Read an image file as `corruptions.images.read_image` does; return uint8 (H, W, 3).

    A grey image has three equal channels.
    """
    return as_rgb(read_image(path))


def read_transformed(path, transform):
    """Read an image file and bring it to size with `transform`, as in `FileImages`. Return uint8 (side, side, 3)."""
    pixels = read_rgb(path)
    with prefix_errors(path):
        return transform(pixels)


@contextlib.contextmanager
def prefix_errors(path):
    """Put the name of a file before the message of a `UserError` that the body raises."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _resized(pixels, width, height, interpolation="bilinear"):
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling[interpolation.upper()]))


def exact(pixels, side):
    """Return an image that must have this size already; uint8 (side, side, 3).

    Raises:
        UserError: the image has another size.
    """
    _check_side(pixels.shape[1], pixels.shape[0], side)
    return pixels


def _check_side(width, height, side):
    if (width, height) != (side, side):
        raise UserError(f"is {width}x{height} pixels and must be {side}x{side}; fetch it again, or scale it")


def require_size(path, side):
    """Raise a `UserError` unless a file is an image of this size, according to the beginning of the file."""
    with open_image(path) as image:
        size = image.size
    with prefix_errors(path):
        _check_side(*size, side)


def require_sizes(images):
    """Raise a `UserError` unless one image of each class has the size that all images (FileImages) must have.

    The other images are not opened, because that would take long.
    """
    first = {}
    for name, path in zip(images.names, images.paths, strict=True):
        first.setdefault(os.path.dirname(name), path)
    for path in first.values():
        require_size(os.path.join(images.folder, path), images.side)


def squash(pixels, side):
    """Scale both sides to `side`, whatever the shape was (torchvision's `Resize((side, side))`)."""
    return _resized(pixels, side, side)


def create_centre_crop(side, shorter, interpolation="bilinear"):
    """Return `centre_crop` with these arguments as a `FileImages.transform`; the default has no part in its name."""
    chosen = {} if interpolation == "bilinear" else {"interpolation": interpolation}
    return partial(centre_crop, side=side, shorter=shorter, **chosen)


def centre_crop(pixels, side, shorter, interpolation="bilinear"):
    """Scale the shorter side to `shorter`, and cut the square of `side` pixels out of the middle.

    This is what torchvision's `Resize` and `CenterCrop` do. `interpolation` is a key of `INTERPOLATIONS`.
    """
    height, width = pixels.shape[:2]
    if width <= height:
        width, height = shorter, int(shorter * height / width)
    else:
        width, height = int(shorter * width / height), shorter
    y, x = round((height - side) / 2), round((width - side) / 2)
    return _resized(pixels, width, height, interpolation)[y:y + side, x:x + side]


def padded_crop(pixels, side, shorter):
    """Scale the shorter side to `shorter`, cut the square in the middle out, and pad it with zeros to `side` pixels."""
    before = (side - shorter) // 2
    after = side - shorter - before
    return np.pad(centre_crop(pixels, shorter, shorter), ((before, after), (before, after), (0, 0)))


def random_resized_crop(pixels, side, rng, area=CROP_AREA, interpolation="bilinear"):
    """Cut out a piece of random size and shape at a random place, and scale it to a square.

    This is torchvision's `RandomResizedCrop`. If no such piece is found, the largest piece in the middle that has an
    allowed shape is cut out.

    Args:
        pixels (numpy.ndarray): uint8 (H, W, 3).
        side (int): side of the result.
        rng (numpy.random.Generator): generator of the random numbers.
        area (tuple of float): least and largest area of the piece, as fractions of the image, above 0 to 1.
        interpolation (str): a key of `INTERPOLATIONS`.

    Returns:
        numpy.ndarray: uint8 (side, side, 3).
    """
    height, width = pixels.shape[:2]
    for _ in range(RESIZED_TRIES):
        pixels_wanted = height * width * rng.uniform(*area)
        ratio = np.exp(rng.uniform(*np.log(RESIZED_RATIO)))
        w, h = round(np.sqrt(pixels_wanted * ratio)), round(np.sqrt(pixels_wanted / ratio))
        if 0 < w <= width and 0 < h <= height:
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            break
    else:
        w, h = min(width, round(height * RESIZED_RATIO[1])), min(height, round(width / RESIZED_RATIO[0]))
        y, x = (height - h) // 2, (width - w) // 2
    return _resized(pixels[y:y + h, x:x + w], side, side, interpolation)


@dataclass(frozen=True)
class FileImages:
    """Images in files. Indexing with int (n,) or a slice reads them: uint8 (n, side, side, 3).

    Attributes:
        folder (str): folder above the images.
        paths (list of str): paths relative to `folder`.
        names (list of str): 'class/file' of each image, which identifies its random stream.
        side (int): side of an image, in pixels.
        transform (functools.partial): a function above with its options. It maps pixels uint8 (H, W, 3) of any size to
            the pixels of the image.
    """

    folder: str
    paths: list
    names: list
    side: int
    transform: partial

    def __len__(self):
        return len(self.paths)

    @property
    def shape(self):
        """The shape (N, side, side, 3)."""
        return len(self), self.side, self.side, 3

    @property
    def path_of(self):
        """The dict from each of `names` to its path."""
        return dict(zip(self.names, self.paths, strict=True))

    def subset(self, indices):
        """Return the images with these numbers, int (n,), not read yet."""
        return replace(self, paths=[self.paths[i] for i in indices], names=[self.names[i] for i in indices])

    def __getitem__(self, indices):
        return self._read(self.transform, indices)

    def resized_crops(self, rng, area=CROP_AREA):
        """Return random resized crops of all images, uint8 (N, side, side, 3), instead of the result of `transform`.

        `area` is as in `random_resized_crop`. The interpolation is the same as in `transform`.
        """
        interpolation = self.transform.keywords.get("interpolation", "bilinear")
        return self._read(partial(random_resized_crop, side=self.side, rng=rng, area=area,
                                  interpolation=interpolation), slice(None))

    def _read(self, transform, indices):
        chosen = np.arange(len(self))[indices]
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for k, i in enumerate(chosen):
            out[k] = read_transformed(os.path.join(self.folder, self.paths[i]), transform)
        return out

    @property
    def transform_name(self):
        """The name and the options of `transform`, as text."""
        return " ".join([self.transform.func.__name__,
                         *(f"{name}={value}" for name, value in self.transform.keywords.items())])

    @cached_property
    def pixels(self):
        """The hash of the files' names and contents and of `transform_name`; 32 hexadecimal digits."""
        digest = new_hash(self.transform_name.encode())
        checksums = file_checksums([os.path.join(self.folder, path) for path in self.paths])
        for path, checksum in zip(self.paths, checksums, strict=True):
            digest.update(f"{path} {checksum}\n".encode())
        return digest.hexdigest()

    @property
    def identity(self):
        """The pair of `pixels` and how the images were made, if a record beside their folder says so: `Fingerprint`."""
        return self.pixels, read_made(self.folder, self.pixels)


@dataclass(frozen=True)
class LazyCorruptedFiles:
    """A corruption of images in files, made when they are read. It is used like `FileImages`.

    The pixels equal the pixels that `python -m corruptions dataset` stores, including the loss of JPEG.

    Attributes:
        clean (FileImages): the clean images.
        name (str): a key of `corruptions.CORRUPTIONS`.
        severity (int): 1 to 5.
    """

    clean: FileImages
    name: str
    severity: int

    def __len__(self):
        return len(self.clean)

    @property
    def shape(self):
        """The shape (N, side, side, 3)."""
        return self.clean.shape

    @property
    def identity(self):
        """The pair of None and the recipe: unread images have no pixels (`Fingerprint`)."""
        return None, files_recipe(self.clean, self.name, self.severity)

    def subset(self, indices):
        """Return the images with these numbers, int (n,), not read yet."""
        return replace(self, clean=self.clean.subset(indices))

    def __getitem__(self, indices):
        chosen = np.arange(len(self))[indices]
        made = corrupt_images(self.clean[chosen], CORRUPTIONS[self.name], self.severity, SEED,
                              [self.clean.names[i] for i in chosen])
        return np.stack([jpeg_roundtrip(pixels) for pixels in made]) if len(made) else made


def files_recipe(clean, name, severity):
    """Return the `corruptions.jobs.provenance.recipe` of corrupted images in files (`FileImages`), stored or not."""
    return recipe(clean.pixels, name, severity, SEED, format="jpeg")
