"""The contract of every corruption: its arguments, its result, and how it is found.

A corruption is written once, as a function of a small batch: `function(images, constants, rngs, options)`. `images` is
uint8 (N, H, W, C), and `constants` are the constants of the severity (`severities.py`). `rngs` has one random number
generator for each image, and `options` is an `Options`. The decorator `register` wraps the function in a `Corruption`
and adds the `Corruption` to `CORRUPTIONS`.
"""
import numbers
import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from corruptions.rng import with_old_names
from corruptions.severities import (
    SEVERITY_CONSTANTS,
    check_constants,
    check_severity,
    nearest_preset,
    severity_constants,
)
from corruptions.utils.errors import UserError

CORRUPTIONS = {}
SMALLEST_SIDE = 8
BACKENDS = ("numpy", "wand")
GREY_MODES = {"1", "L", "LA", "La"}  # PIL modes without colours


@dataclass(frozen=True)
class Options:
    """The options of a corruption besides its name and severity.

    Attributes:
        preset (int or None): image size whose severity constants are taken, 32, 64, 224 or 299; None takes the nearest
            of the first three.
        frost_dir (str or None): folder of frost textures; None takes the textures of the installed package
            imagecorruptions.
        backend (str): 'numpy', or 'wand' to have ImageMagick do the motion blurs.
    """

    preset: int | None = None
    frost_dir: str | None = None
    backend: str = "numpy"

    def __post_init__(self):
        if not (self.preset is None or isinstance(self.preset, numbers.Integral)) or self.preset not in (
                None, *SEVERITY_CONSTANTS):
            raise UserError(f"preset {self.preset}: must be {', '.join(map(str, SEVERITY_CONSTANTS))} or None")
        if self.backend not in BACKENDS:
            raise UserError(f"backend {self.backend}: must be {' or '.join(BACKENDS)}")
        if not isinstance(self.frost_dir, (str, os.PathLike, type(None))):
            raise UserError(f"frost_dir {self.frost_dir!r}: must be the path of a folder or None")

    def with_absolute_paths(self):
        """Return the same options for processes that work in other folders: `frost_dir` becomes an absolute path."""
        return replace(self, frost_dir=self.frost_dir and os.path.abspath(self.frost_dir))


DEFAULTS = Options()


def check_options(options, constants=None):
    """Check the options of a corruption, beside constants in place of the published ones, if they are given.

    Raises:
        UserError: `options` is not an `Options`, or its preset has no effect.
    """
    if not isinstance(options, Options):
        raise UserError(f"options of type {type(options).__name__}: must be corruptions.Options, such as "
                        "Options(preset=32)")
    if constants is not None and options.preset is not None:
        raise UserError(f"preset {options.preset}: has no effect beside constants; leave one of them out")


def is_grey(image):
    """Whether a PIL image has no colours, either because of its mode or because its palette has none."""
    if image.mode not in ("P", "PA"):
        return image.mode in GREY_MODES
    red, green, blue = np.reshape(image.getpalette(), (-1, 3)).T
    return np.array_equal(red, green) and np.array_equal(green, blue)


def pixels_of(image):
    """Return the pixels of a PIL image of at most 8 bits a channel; transparent parts are composited on white.

    Returns:
        numpy.ndarray: uint8 (H, W) for a grey or black and white image, otherwise (H, W, 3) in RGB.

    Raises:
        Exception: PIL cannot read the image, or cannot convert an image of this mode.
    """
    mode = "L" if is_grey(image) else "RGB"
    if image.mode == "La":  # PIL converts this mode to LA alone
        image = image.convert("LA")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return np.asarray(image.convert(mode))


def check_depth(image):
    """Raise a `UserError` if a PIL image has more than 8 bits a channel."""
    if image.mode[0] in "IF":
        raise UserError(f"a PIL image of mode {image.mode} has more than 8 bits a channel; convert it to 8 bits first")


def as_array(images):
    """Return one image or several (an array, a PIL image, or a list of these) as an array.

    An array stays as it is, memory-mapped or not.

    Raises:
        UserError: the images have different shapes, or a PIL image has more than 8 bits a channel.
    """
    if isinstance(images, Image.Image):
        check_depth(images)
        try:
            return pixels_of(images)
        except MemoryError:
            raise
        except Exception as error:  # PIL's decoders raise many kinds of errors, such as for a truncated file
            raise UserError(f"a PIL image of mode {images.mode} cannot be read ({error}); give one of mode RGB "
                            "or L") from error
    if isinstance(images, (list, tuple)):
        images = [as_array(image) if isinstance(image, Image.Image) else image for image in images]
        shapes = dict.fromkeys(image.shape for image in images if isinstance(image, np.ndarray))
        if len(shapes) > 1:
            raise UserError(f"images of different shapes, {' and '.join(map(str, [*shapes][:2]))}; make them one "
                            "shape, or corrupt each in a call of its own")
    try:
        return images if isinstance(images, np.memmap) else np.asarray(images)
    except (ValueError, TypeError, RuntimeError) as error:  # of tensors on a device, TypeError
        raise UserError(f"images cannot become an array ({error}); give uint8 of shape (H, W), (H, W, C) or "
                        "(N, H, W, C)") from error


def check_images(images):
    """Raise a `UserError` unless `images` is uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3), with sides >= 8."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise UserError(f"images must be arrays of uint8, 0 to 255, not {kind}; convert them first")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        first = "; channels come last: numpy.moveaxis(images, -3, -1)" if images.shape[-3:-2] in ((1,), (3,)) else ""
        grey = "; a batch of grey images needs images[..., None]" if images.shape[-1] > 4 else ""
        alpha = "; drop the alpha channel, images[..., :3], or give PIL images" if images.shape[3:] == (4,) else ""
        raise UserError("an image must have shape (H, W), (H, W, 1) or (H, W, 3), not "
                        f"{images.shape[1:]}{first}{grey}{alpha}")
    if min(images.shape[1:3]) < SMALLEST_SIDE:
        raise UserError(f"an image of {images.shape[1]}x{images.shape[2]} is too small: {SMALLEST_SIDE} pixels a side "
                        "is the least that every corruption can work on")


def summary_of(function):
    """Return the first paragraph of the docstring of a function, as one line."""
    return " ".join(function.__doc__.partition("\n\n")[0].split())


def to_grey(images):
    """Return colour images uint8 (N, H, W, 3) as grey ones, uint8 (N, H, W)."""
    return np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])


@dataclass(frozen=True)
class Corruption:
    """A corruption that can be called for one image.

    Attributes:
        name (str): name on the command line.
        function (callable): the batch function that was decorated.
        colour (bool): whether the function needs three channels; it gets a grey image as three equal channels, and its
            result is converted back to grey.
        is_random (bool): whether the function draws random numbers.
    """

    name: str
    function: callable
    colour: bool
    is_random: bool

    @property
    def summary(self):
        """The first paragraph of the docstring of the function, as one line."""
        return summary_of(self.function)

    def __call__(self, image, severity, rng, options=DEFAULTS, constants=None):
        """Corrupt one image.

        Args:
            image (numpy.ndarray or PIL.Image.Image): uint8 (H, W), (H, W, 1) or (H, W, 3) in RGB.
            severity (int or float): 1 to 5, as in `severities.severity_constants`; without effect beside constants.
            rng (numpy.random.RandomState or numpy.random.Generator): random number generator. A RandomState that is
                freshly seeded with k draws what the published code draws after `numpy.random.seed(k)`.
            options (Options): the other options.
            constants (float or tuple of float): constants in place of the published ones, one for each of
                `severities.MEANINGS`.

        Returns:
            numpy.ndarray: uint8, the shape of `image`, a colour image in RGB.

        Raises:
            UserError: the image, the severity or the constants are not as above, or something that the options need is
                missing.
        """
        return self.batch(as_array(image)[None], severity, [rng], options, constants)[0]

    def batch(self, images, severity, rngs, options=DEFAULTS, constants=None):
        """Corrupt a small batch (N, ...) of images of one size, image k with `rngs[k]`; otherwise as for one image."""
        check_images(images)
        check_options(options, constants)
        rngs = [with_old_names(rng) for rng in rngs]
        if constants is not None:
            try:
                return self._apply(images, check_constants(self.name, constants), rngs, options)
            except UserError:
                raise
            except (ArithmeticError, TypeError, ValueError, IndexError, MemoryError, cv2.error) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"constants {constants!r}: {self.name} does not work with them ({reason}); give others"
                                ) from error
        preset = options.preset or nearest_preset(self.name, *images.shape[1:3])
        return self._apply(images, severity_constants(self.name, check_severity(severity), preset), rngs, options)

    def _apply(self, images, constants, rngs, options):
        channels = images if images.ndim == 4 else images[..., None]
        if self.colour and channels.shape[3] == 1:
            out = to_grey(self.function(np.repeat(channels, 3, axis=3), constants, rngs, options))
        else:
            out = self.function(channels, constants, rngs, options)
        return out.reshape(images.shape)


def register(colour=False, is_random=True):
    """Return a decorator that adds a batch function to `CORRUPTIONS` under its name.

    The arguments are attributes of `Corruption`.
    """
    def decorate(function):
        CORRUPTIONS[function.__name__] = made = Corruption(function.__name__, function, colour, is_random)
        return made
    return decorate


def to_uint8(values):
    """Clip values to 0..1, scale them to 0..255 and truncate the fractions, as the published code does.

    `values` is a float array that the caller no longer needs; it is overwritten.
    """
    np.maximum(values, 0, out=values)  # these two calls take less time than np.clip
    np.minimum(values, 1, out=values)
    values *= 255
    return values.astype(np.uint8)
