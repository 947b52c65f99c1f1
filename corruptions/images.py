"""Image files: listing the files below a folder, reading and writing."""
import collections
import contextlib
import errno
import io
import os
import re
import sys

import cv2
import numpy as np
from PIL import Image, ImageOps

from corruptions.registry import SMALLEST_SIDE, is_grey, pixels_of
from corruptions.utils.errors import ResourceGoneError, UserError
from corruptions.utils.files import write_bytes

JPEG_OPTIONS = {"quality": 85, "optimize": True}  # the published scripts store images in this way
SAVE_OPTIONS = {"JPEG": JPEG_OPTIONS, "MPO": JPEG_OPTIONS, "WEBP": {"lossless": True}}  # MPO holds JPEG
JPEG_MOST_SIDE = 65500  # the limit of libjpeg
# Formats that PIL opens but cannot read by itself, or that are not still images.
NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Formats that PIL writes, but not for every size of colour images.
UNFIT_FORMATS = {"BLP", "ICNS", "ICO", "MSP", "XBM"}
SUFFIXES_SAID = 8


class BadImages(UserError):
    """An error for files that cannot be read as images, or for folders that cannot be read."""


def image_suffixes():
    """Return the suffixes of the files that can be read, in lower case."""
    formats = {suffix: name for suffix, name in Image.registered_extensions().items() if name not in NO_IMAGES}
    return {suffix for suffix, name in formats.items() if name in Image.OPEN or name == "MPO"}  # MPO is read as JPEG


def is_folder(entry):
    """Whether an entry of a folder is a folder or a link to a folder; `is_dir` fails for a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def folders_below(folder, above=(), onerror=None):
    """Yield the path and the real path of a folder and of each folder below it; symbolic links are followed.

    Hidden folders below it are left out. A folder with a real path in `above` (the folders above it) is left out, too;
    a link can cause this. A folder that cannot be read is also left out; `onerror` is called with the OSError, as in
    `os.walk`.

    Raises:
        UserError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: {'is a file' if os.path.exists(folder) else 'no such folder'}; name a folder of "
                        "images")
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
    """List the image files below a folder, recognized by suffix. Hidden files and folders are left out.

    Symbolic links are followed. A broken link counts as an image if it has the suffix of an image. A broken link
    without a suffix counts, too, because it may stand for a folder. Reading a broken link raises an error. A file that
    is not regular, such as a FIFO, is left out with a warning. With `skip_bad`, a folder that cannot be read is left
    out with a warning, too.

    Returns:
        tuple: sorted paths of the images, relative to the folder, with '/'; number of other files by suffix, a Counter.

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
    names, suffix_counts = [], collections.Counter()
    for path, _ in folders_below(folder, onerror=refuse):
        for entry in os.scandir(path):
            if entry.name.startswith(".") or is_folder(entry):
                continue
            suffix = os.path.splitext(entry.name)[1].lower()
            is_there = os.path.exists(entry.path)
            if suffix not in suffixes and (suffix or is_there):
                suffix_counts[suffix] += 1
            elif is_there and not os.path.isfile(entry.path):
                print(f"warning: {entry.path}: is not a regular file; it is not read", file=sys.stderr)
            else:
                names.append(os.path.relpath(entry.path, folder).replace(os.sep, "/"))
    if not names:
        raise UserError(f"{folder}: has no image in it or its sub-folders{said_of(suffix_counts)}; name a folder of "
                        "images")
    return sorted(names), suffix_counts


def said_of(suffix_counts):
    """Return a text about the files that `list_images` leaves out: the number of each suffix, the commonest first."""
    if not suffix_counts:
        return ""
    common = sorted(suffix_counts.items(), key=lambda item: (-item[1], item[0]))
    counts = [f"{number} {suffix or 'without a suffix'}" for suffix, number in common[:SUFFIXES_SAID]]
    ellipsis = ", ..." if len(suffix_counts) > SUFFIXES_SAID else ""
    return f"; other files left out: {', '.join(counts)}{ellipsis}"


def read_image(path):
    """Read an image file and turn it upright by its EXIF data; an animated file gives its first image.

    Returns:
        numpy.ndarray: uint8 (H, W) for a grey or black and white image, also one with a grey palette; otherwise
        (H, W, 3) in RGB. Transparent parts are composited on white.

    Raises:
        UserError: the file is missing, is not an image, is damaged, is too small, or has more than 8 bits a channel.
    """
    with open_image(path) as image:
        return pixels_of(ImageOps.exif_transpose(image))


def as_rgb(pixels):
    """Return pixels (H, W) or (H, W, 3) as (H, W, 3); a grey image gets three equal channels."""
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def is_shown_otherwise(path):
    """Whether versions without support for transparency and grey palettes read other pixels from an image file."""
    with open_image(path) as image:
        return image.has_transparency_data or image.mode in ("P", "PA") and is_grey(image)


def check_header(path):
    """Raise the error of `read_image` as far as the beginning of the file shows it, which takes little time to read."""
    with open_image(path):
        pass


def is_system_error(error):
    """Whether an error of a file says that the machine lacks something, so that other files may fail, too."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO,
                                                          errno.ESTALE)


@contextlib.contextmanager
def open_image(path):
    """Open an image file with PIL; raise a `UserError` as in `read_image`, also for errors in the body."""
    if os.path.exists(path) and not os.path.isfile(path):  # reading from a pipe would wait for ever
        raise UserError(f"{path}: is not a file; name an image file")
    try:
        with Image.open(path) as image:
            if has_deep_channels(image):
                raise UserError(f"{path}: has more than 8 bits a channel; convert it to 8 bits first")
            if min(image.size) < SMALLEST_SIDE:
                raise UserError(f"{path}: an image of {image.height}x{image.width} is too small: {SMALLEST_SIDE} "
                                "pixels a side is the least")
            yield image
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: has more than {2 * Image.MAX_IMAGE_PIXELS} pixels, the most that PIL reads; make it "
                        "smaller first") from error
    except Exception as error:  # PIL's decoders raise many kinds of errors for damaged files
        if is_system_error(error):
            raise
        missing = getattr(error, "strerror", None)  # the message of the operating system, not of PIL
        reason = missing or "; ".join(str(error).splitlines()) or type(error).__name__
        way_out = "repair or remove it" if os.path.lexists(path) else "name an image file"
        kind = ResourceGoneError if missing else UserError
        raise kind(f"{path}: not a readable image ({reason}); {way_out}") from error


def has_deep_channels(image):
    """Whether a file opened by PIL has more than 8 bits a channel, even where PIL would silently truncate them.

    PIL's mode for unpacking the file shows it, such as 'RGB;16B' for a PNG file; so does the maximum of a PPM file.
    JPEG 2000 and AVIF files do not show it; they are decoded to 8 bits.
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
    """Write an image in a format of PIL, such as 'png', 'webp' without loss, or 'jpeg' as in the published scripts."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # PIL's encoders do not notice if a full disk cuts a file short, so that they only write to memory here.
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format.upper(), **SAVE_OPTIONS.get(image_format.upper(), {}))
    write_bytes(path, file.getbuffer())


def jpeg_roundtrip(pixels):
    """Return an image, uint8 (H, W), (H, W, 1) or (H, W, 3), after the JPEG compression of the published files."""
    # OpenCV has the same codec as PIL, libjpeg-turbo, and needs half the time for small images. Stored images are also
    # optimised, which makes the file smaller and does not change the pixels.
    quality = (cv2.IMWRITE_JPEG_QUALITY, JPEG_OPTIONS["quality"])
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_GRAYSCALE).reshape(pixels.shape)
    _, file = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    return cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def writable_suffixes():
    """Return the suffixes of the image files that can be written, in lower case."""
    formats = Image.registered_extensions().items()
    fit = {*Image.SAVE} & {*Image.OPEN} - NO_IMAGES - UNFIT_FORMATS
    return {suffix for suffix, name in formats if name in fit}


def write_image_file(path, pixels):
    """Write an image uint8 (H, W) or (H, W, 3) in the format of its suffix, JPEG in quality 85.

    A warning says if another format has changed the pixels, such as GIF, which has 256 colours.

    Raises:
        UserError: the format cannot hold the image.
    """
    image_format = Image.registered_extensions()[os.path.splitext(path)[1].lower()]
    if image_format == "JPEG" and max(pixels.shape[:2]) > JPEG_MOST_SIDE:
        raise UserError(f"{path}: JPEG has at most {JPEG_MOST_SIDE} pixels a side; give another suffix, such as .png")
    try:
        write_image(os.path.abspath(path), pixels, image_format)
    except (ValueError, KeyError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the operating system, such as a full disk
            raise
        raise UserError(f"{path}: cannot be written ({error}); give another suffix, such as .png") from error
    if SAVE_OPTIONS.get(image_format) is not JPEG_OPTIONS:
        stored = read_image(path)
        if not np.array_equal(as_rgb(stored), as_rgb(pixels)):
            print(f"warning: {path}: {image_format} has changed the pixels; .png keeps them", file=sys.stderr)
