"""Image files: which there are below a folder, reading, writing."""
import collections
import contextlib
import os
import re
import sys

from PIL import Image, ImageOps

from corruptions.registry import SMALLEST_SIDE, is_grey, pixels_of
from utils.errors import ResourceGoneError, UserError
from utils.files import atomic_write

JPEG_OPTIONS = {"quality": 85, "optimize": True}  # as the published scripts store images
JPEG_MOST_SIDE = 65500  # of libjpeg
# Formats that PIL opens and cannot read by itself, or that are no still images.
NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
SUFFIXES_SAID = 8


class BadImages(UserError):
    """There are files that cannot be read as images, or folders that cannot be read."""


def image_suffixes():
    """The suffixes of the files that can be read, in lower case."""
    formats = {suffix: name for suffix, name in Image.registered_extensions().items() if name not in NO_IMAGES}
    return {suffix for suffix, name in formats.items() if name in Image.OPEN or name == "MPO"}  # MPO is read as JPEG


def is_folder(entry):
    """Whether an entry of a folder is a folder or leads to one; `is_dir` fails at a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def folders_below(folder, above=(), onerror=None):
    """A folder and those below it, also where they are symbolic links; yields pairs of a path and the real path.

    Hidden folders below it are left out, and one that is among those `above` it, as a link may make it. So is one that
    cannot be read; `onerror` is called with the OSError, as in `os.walk`.

    Raises:
        UserError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; name a folder of images")
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = os.scandir(folder)
    except OSError as error:
        if onerror is not None:
            onerror(error)
        return
    yield folder, real
    for entry in entries:
        if not entry.name.startswith(".") and is_folder(entry):
            yield from folders_below(entry.path, (*above, real), onerror)


def list_images(folder, skip_bad=False):
    """The image files below a folder, known by their suffix. Hidden files and folders are left out.

    Symbolic links are followed. One that leads nowhere counts as an image if it has an image's suffix or, because it
    may stand for a folder, none; reading it will say so. What is no regular file, such as a FIFO, is left out with a
    warning, and, with `skip_bad`, a folder that cannot be read.

    Returns:
        tuple: sorted paths of the images, relative to the folder, with '/'; how many other files there are of each
        suffix, a Counter.

    Raises:
        BadImages: a folder cannot be read, and `skip_bad` is false.
        UserError: the folder is missing or has no image.
    """
    def refuse(error):
        problem = f"{error.filename}: a folder that cannot be read ({error.strerror}); let it be read, or remove it"
        if not skip_bad:
            raise BadImages(problem) from error
        print(f"warning: skipped {problem}", file=sys.stderr)
    suffixes = image_suffixes()
    names, others = [], collections.Counter()
    for path, _ in folders_below(folder, onerror=refuse):
        for entry in os.scandir(path):
            if entry.name.startswith(".") or is_folder(entry):
                continue
            suffix = os.path.splitext(entry.name)[1].lower()
            is_there = os.path.exists(entry.path)
            if suffix not in suffixes and (suffix or is_there):
                others[suffix] += 1
            elif is_there and not os.path.isfile(entry.path):
                print(f"warning: {entry.path}: is not a regular file; it is not read", file=sys.stderr)
            else:
                names.append(os.path.relpath(entry.path, folder).replace(os.sep, "/"))
    if not names:
        raise UserError(f"{folder}: has no image in it or its sub-folders{said_of(others)}; name a folder of images")
    return sorted(names), others


def said_of(others):
    """A text about the files that `list_images` leaves out: how many have which suffix, the commonest first."""
    if not others:
        return ""
    common = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    counts = [f"{number} {suffix or 'without a suffix'}" for suffix, number in common[:SUFFIXES_SAID]]
    more = ", ..." if len(others) > SUFFIXES_SAID else ""
    return f"; other files left out: {', '.join(counts)}{more}"


def read_image(path):
    """Read an image file, turned upright as its EXIF data say; of an animated one its first image.

    Returns:
        numpy.ndarray: uint8 (H, W) for a grey or black and white image, also of a grey palette, (H, W, 3) in RGB else;
        what is transparent lies on white.

    Raises:
        UserError: the file is missing, no image, damaged, too small, or deeper than 8 bits.
    """
    with open_image(path) as image:
        return pixels_of(ImageOps.exif_transpose(image))


def is_shown_otherwise(path):
    """Whether versions that knew no transparency and no grey palettes read other pixels from an image file."""
    with open_image(path) as image:
        return image.has_transparency_data or image.mode in ("P", "PA") and is_grey(image)


def check_header(path):
    """Raise the error that `read_image` would, as far as the beginning of the file tells, which is quickly read."""
    with open_image(path):
        pass


@contextlib.contextmanager
def open_image(path):
    """Open an image file with PIL; raises a `UserError` as in `read_image`, also for what the body finds."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would keep its reader waiting for ever
        raise UserError(f"{path}: is no file; name an image file")
    try:
        with Image.open(path) as image:
            if has_deep_channels(image):
                raise UserError(f"{path}: has more than 8 bits a channel; convert it to 8 bits first")
            if min(image.size) < SMALLEST_SIDE:
                raise UserError(f"{path}: an image of {image.height}x{image.width} is too small: {SMALLEST_SIDE} "
                                "pixels a side is the least that every corruption can work on")
            yield image
    except UserError:
        raise
    except Exception as error:  # PIL's decoders raise errors of many kinds at damaged files
        missing = getattr(error, "strerror", None)  # what the system says, and not PIL
        reason = missing or "; ".join(str(error).splitlines()) or type(error).__name__
        kind = ResourceGoneError if missing else UserError
        raise kind(f"{path}: not a readable image ({reason}); repair or remove it") from error


def has_deep_channels(image):
    """Whether a file that PIL has opened has more than 8 bits a channel, also where PIL would cut them off in silence.

    PIL's way to unpack the file tells, such as 'RGB;16B' for a PNG, or the maximum of a PPM file. Of JPEG 2000 and AVIF
    it does not: they are decoded to 8 bits.
    """
    if image.mode[0] in "IF":
        return True
    for codec, _, _, arguments in image.tile:
        if re.search("SGI16|;16[BLN]", f"{codec} {arguments}"):
            return True
        if codec in ("ppm", "ppm_plain") and isinstance(arguments, tuple) and arguments[1] > 255:
            return True
    return False


def write_image(path, pixels, image_format):
    """Store an image as 'jpeg' (quality 85, as the published scripts) or 'png'."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with atomic_write(path) as temporary:
        options = JPEG_OPTIONS if image_format == "jpeg" else {}
        Image.fromarray(pixels).save(temporary, image_format.upper(), **options)
